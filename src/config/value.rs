//! Typed readings of one configuration value; `None` means it does not fit.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;

use serde_json::Value;

use crate::config::settings::Host;

/// Longest text, in bytes.
const MAX_TEXT: usize = 4_096;
/// Longest list.
const MAX_LIST: usize = 1_000;

/// A whole number; `4.0` and `"4"` are 4.
pub(super) fn whole(value: &Value, range: RangeInclusive<i64>) -> Option<i64> {
    let number = match value.as_str() {
        Some(text) => text.trim().parse().ok(),
        None => value.as_i64().or_else(|| whole_float(value.as_f64()?)),
    };
    number.filter(|number| range.contains(number))
}

#[expect(clippy::cast_possible_truncation, reason = "only whole numbers below 2^53")]
fn whole_float(float: f64) -> Option<i64> {
    (float.fract() == 0.0 && float.abs() < 1e15).then_some(float as i64)
}

/// A whole number that fits `u32`.
pub(super) fn count(value: &Value, range: RangeInclusive<u32>) -> Option<u32> {
    let wide = i64::from(*range.start())..=i64::from(*range.end());
    u32::try_from(whole(value, wide)?).ok()
}

/// A finite number.
#[expect(clippy::cast_possible_truncation, reason = "sampling settings are single precision")]
pub(super) fn number(value: &Value) -> Option<f32> {
    let number: Option<f64> = match value.as_str() {
        Some(text) => text.trim().parse().ok(),
        None => value.as_f64(),
    };
    number.filter(|number| number.is_finite()).map(|number| number as f32)
}

/// A yes/no value in any of YAML's spellings.
pub(super) fn flag(value: &Value) -> Option<bool> {
    if let Value::Bool(flag) = value {
        return Some(*flag);
    }
    let word = value.as_str().map(str::to_owned).or_else(|| Some(value.as_i64()?.to_string()))?;
    match word.to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" | "1" => Some(true),
        "false" | "no" | "off" | "0" => Some(false),
        _ => None,
    }
}

/// A text; a number is taken as written.
pub(super) fn text(value: &Value) -> Option<String> {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => return None,
    };
    let plain = |c: char| !c.is_control() || c == '\n' || c == '\t';
    (text.len() <= MAX_TEXT && text.chars().all(plain)).then_some(text)
}

/// A list of texts; a single text is a list of one.
pub(super) fn texts(value: &Value) -> Option<Vec<String>> {
    let items = value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice);
    if items.len() > MAX_LIST {
        return None;
    }
    items.iter().map(text).collect()
}

/// An address without a port, or `localhost`.
pub(super) fn host(value: &Value) -> Option<Host> {
    let text = text(value)?;
    let text = text.trim();
    if text.eq_ignore_ascii_case("localhost") {
        return Some(Host::Localhost);
    }
    let address: IpAddr = text.trim_start_matches('[').trim_end_matches(']').parse().ok()?;
    Some(Host::Address(address))
}

/// A list of `address:port`; `localhost:port` is both loopback addresses.
pub(super) fn addresses(value: &Value) -> Option<Vec<SocketAddr>> {
    let mut addresses = Vec::new();
    for text in texts(value)? {
        let text = text.trim();
        if let Some(port) = text.strip_prefix("localhost:") {
            let port = port.parse().ok()?;
            addresses.push(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port));
            addresses.push(SocketAddr::new(Ipv6Addr::LOCALHOST.into(), port));
        } else {
            addresses.push(text.parse().ok()?);
        }
    }
    Some(addresses)
}

/// A list of host names or addresses, without scheme, port or path.
pub(super) fn host_names(value: &Value) -> Option<Vec<String>> {
    let names = texts(value)?;
    let good = |name: &String| {
        let plain =
            |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '[' | ']');
        !name.is_empty() && name.len() <= 255 && name.chars().all(plain)
    };
    names.iter().all(good).then(|| names.iter().map(|name| name.to_ascii_lowercase()).collect())
}

/// A list of exact origins: scheme and host, a port if it is no default one, nothing behind.
pub(super) fn origins(value: &Value) -> Option<Vec<String>> {
    let origins = texts(value)?;
    let good = |origin: &String| {
        let rest = origin.strip_prefix("https://").or_else(|| origin.strip_prefix("http://"));
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | ':' | '[' | ']');
        rest.is_some_and(|rest| !rest.is_empty() && rest.chars().all(plain))
    };
    origins.iter().all(good).then_some(origins)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn values_fit_or_do_not() {
        assert_eq!(whole(&json!(4.0), 0..=9), Some(4));
        assert_eq!(whole(&json!("7"), 0..=9), Some(7));
        for bad in [json!(4.5), json!(10), json!(-1), json!("x"), json!([1]), json!(1e300)] {
            assert_eq!(whole(&bad, 0..=9), None, "{bad}");
        }
        assert_eq!(flag(&json!("Off")), Some(false));
        assert_eq!(flag(&json!(2)), None);
        assert_eq!(texts(&json!("a")), Some(vec!["a".into()]));
        assert_eq!(texts(&json!(["a", {}])), None);
        assert_eq!(number(&json!("nan")), None);
    }

    #[test]
    fn origins_are_exact_and_never_a_star() {
        assert!(origins(&json!(["https://chat.example.org", "http://10.0.0.2:8080"])).is_some());
        for bad in ["*", "null", "chat.example.org", "https://a/", "https://", "https://*.a"] {
            assert!(origins(&json!([bad])).is_none(), "{bad}");
        }
    }

    #[test]
    fn addresses_have_ports() {
        assert_eq!(addresses(&json!("localhost:80")).unwrap().len(), 2);
        assert_eq!(addresses(&json!(["[::1]:9600"])).unwrap()[0].to_string(), "[::1]:9600");
        assert!(addresses(&json!(["127.0.0.1"])).is_none());
        assert!(host(&json!("example.org")).is_none());
    }
}
