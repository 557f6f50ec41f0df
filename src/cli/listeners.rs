//! Binds the listeners and tells where they are.

use std::io::Write;
use std::net::SocketAddr;

use anyhow::{Context, bail};
use tokio::net::TcpListener;

use crate::config::settings::Settings;
use crate::wire::net::listen;

/// Binds every listener, or none.
///
/// A machine without IPv6 has no `::1`; the default listeners are then those of IPv4 alone.
///
/// # Errors
/// Which address cannot be listened on, why, and which option changes it.
pub fn bind_all(settings: &Settings) -> anyhow::Result<Vec<TcpListener>> {
    let mut bound = Vec::new();
    for address in settings.listeners() {
        match listen::bind(address) {
            Ok(listener) => bound.push(listener),
            Err(error) if is_missing(address, settings, &error) => {
                tracing::info!(%address, %error, "This machine has no such address");
            }
            Err(error) => {
                let hint = "take another address with `--listen ADDR:PORT`, or end what uses it";
                return Err(error).with_context(|| format!("cannot listen on {address}; {hint}"));
            }
        }
    }
    if bound.is_empty() {
        bail!("there is no address to listen on; say one with `--listen ADDR:PORT`");
    }
    Ok(bound)
}

fn is_missing(address: SocketAddr, settings: &Settings, error: &std::io::Error) -> bool {
    let missing = [std::io::ErrorKind::AddrNotAvailable, std::io::ErrorKind::Unsupported];
    let no_family = error.raw_os_error() == Some(rustix::io::Errno::AFNOSUPPORT.raw_os_error());
    settings.listen.is_empty()
        && address.is_ipv6()
        && (missing.contains(&error.kind()) || no_family)
}

/// Prints one line for each listener: scripts wait for it.
///
/// # Errors
/// When stdout cannot be written.
pub fn announce(listeners: &[TcpListener]) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    for listener in listeners {
        writeln!(out, "listening on http://{}", listener.local_addr()?)?;
    }
    out.flush()?;
    Ok(())
}
