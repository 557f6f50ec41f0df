//! One accepted connection, with a count of the bytes that its peer took.
//!
//! The Socket.IO layer cannot say how much of what was emitted has left; the byte stream beneath it can.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use futures_util::task::AtomicWaker;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::Notify;

use crate::wire::net::python_numbers::Frames;

/// Facts about a connection, shared by its stream and by whoever answers on it.
#[derive(Debug)]
pub struct Conn {
    /// The other end.
    pub peer: SocketAddr,
    /// The address that was connected to.
    pub local: SocketAddr,
    written: AtomicU64,
    closing: AtomicBool,
    websocket: AtomicBool,
    /// Told of each write that the peer took, and of the close.
    pub moved: Notify,
    reader: AtomicWaker,
    writer: AtomicWaker,
}

impl Conn {
    /// Facts of a new connection.
    pub fn new(peer: SocketAddr, local: SocketAddr) -> Arc<Self> {
        Arc::new(Self {
            peer,
            local,
            written: AtomicU64::new(0),
            closing: AtomicBool::new(false),
            websocket: AtomicBool::new(false),
            moved: Notify::new(),
            reader: AtomicWaker::new(),
            writer: AtomicWaker::new(),
        })
    }

    /// Bytes that the system has taken for the peer so far.
    pub fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    /// Closes the connection: its next read or write fails.
    pub fn close(&self) {
        self.closing.store(true, Ordering::Relaxed);
        self.reader.wake();
        self.writer.wake();
        self.moved.notify_waiters();
    }

    /// From now on the peer sends WebSocket frames.
    pub fn becomes_websocket(&self) {
        self.websocket.store(true, Ordering::Relaxed);
    }

    fn check(&self) -> io::Result<()> {
        if self.closing.load(Ordering::Relaxed) {
            return Err(io::Error::new(io::ErrorKind::ConnectionAborted, "closed by the server"));
        }
        Ok(())
    }
}

/// A stream that counts what it writes and can be closed from outside.
#[derive(Debug)]
pub struct Metered<G> {
    stream: TcpStream,
    conn: Arc<Conn>,
    frames: Frames,
    _admission: G,
}

impl<G> Metered<G> {
    /// Wraps an accepted stream; the admission is given back with it, also when it became a WebSocket.
    pub fn new(stream: TcpStream, conn: Arc<Conn>, admission: G) -> Self {
        Self { stream, conn, frames: Frames::default(), _admission: admission }
    }

    fn wrote(&self, result: &io::Result<usize>) {
        if let Ok(count) = result {
            let count = u64::try_from(*count).unwrap_or(u64::MAX);
            self.conn.written.fetch_add(count, Ordering::Relaxed);
            self.conn.moved.notify_waiters();
        }
    }
}

impl<G: Unpin> AsyncRead for Metered<G> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.conn.reader.register(cx.waker());
        self.conn.check()?;
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buffer))?;
        if self.conn.websocket.load(Ordering::Relaxed) {
            self.frames.apply(&mut buffer.filled_mut()[before..]);
        }
        Poll::Ready(Ok(()))
    }
}

impl<G: Unpin> AsyncWrite for Metered<G> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.conn.writer.register(cx.waker());
        self.conn.check()?;
        let result = ready!(Pin::new(&mut self.stream).poll_write(cx, bytes));
        self.wrote(&result);
        Poll::Ready(result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.conn.writer.register(cx.waker());
        self.conn.check()?;
        let result = ready!(Pin::new(&mut self.stream).poll_write_vectored(cx, parts));
        self.wrote(&result);
        Poll::Ready(result)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
