//! How much of what was emitted to a session is still on its way.
//!
//! `emit` of the Socket.IO layer drops what its queue cannot hold, and a full queue at ping time ends the
//! session. So a session emits only while [`Flow`] says there is room, far below that queue's size: at most
//! [`MOST_PACKETS`] packets and [`MOST_BYTES`] bytes on their way. A reader that stops costs that much and
//! no more; text waits in the generation's log, merged.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::wire::net::conn::Conn;

/// Most packets on their way to one WebSocket session.
pub const MOST_PACKETS: usize = 128;
/// Most packets that wait for a poll. python-engineio refuses an answer of more than 16; one may hold what
/// waited, what is added while it is put together, and a ping.
pub const MOST_POLLED: usize = 6;
/// Most bytes on their way to one session; one packet may go over it.
pub const MOST_BYTES: u64 = 256 * 1024;
/// A peer that takes nothing for this long while something is on its way is dropped.
pub const STALL: Duration = Duration::from_secs(30);
/// How often a session without room looks again, for what no notice tells of.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Counts what is on its way to one session.
#[derive(Debug)]
pub struct Flow {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    transport: Transport,
    /// Bytes emitted so far, frame headers included.
    emitted: u64,
    /// For each packet on its way: `emitted` after it.
    marks: VecDeque<u64>,
    /// When something was last seen to leave.
    moved_at: Instant,
}

#[derive(Debug)]
enum Transport {
    /// HTTP long polling: each new poll takes all there is.
    Polling,
    /// A WebSocket: what its connection has written has left.
    Socket {
        conn: Arc<Conn>,
        /// `conn.written()` less what is written of `emitted`.
        base: u64,
    },
}

impl Flow {
    /// The flow of a session that began on `conn` as a WebSocket, or else by polling.
    pub fn new(conn: Option<Arc<Conn>>) -> Self {
        let transport = match conn {
            Some(conn) => Transport::Socket { base: conn.written(), conn },
            None => Transport::Polling,
        };
        let state =
            State { transport, emitted: 0, marks: VecDeque::new(), moved_at: Instant::now() };
        Self { state: Mutex::new(state) }
    }

    /// The session has changed to a WebSocket.
    pub fn upgrade(&self, conn: Arc<Conn>) {
        let mut state = self.lock();
        state.marks.clear();
        state.emitted = 0;
        state.moved_at = Instant::now();
        state.transport = Transport::Socket { base: conn.written(), conn };
    }

    /// A poll has come: it takes what is there, and shows that the one before arrived.
    pub fn polled(&self) {
        let mut state = self.lock();
        state.marks.clear();
        state.emitted = 0;
        state.moved_at = Instant::now();
        // A session that is just changing to a WebSocket still polls once or twice.
        if let Transport::Socket { conn, base } = &mut state.transport {
            *base = conn.written();
        }
    }

    /// Notes a packet of this many payload bytes that was just emitted.
    pub fn emitted(&self, payload: usize) {
        let mut state = self.lock();
        if state.marks.is_empty() {
            state.moved_at = Instant::now();
        }
        let header = match payload {
            0..126 => 2,
            126..=0xFFFF => 4,
            _ => 10,
        };
        state.emitted += u64::try_from(payload + header).unwrap_or(u64::MAX);
        let mark = state.emitted;
        state.marks.push_back(mark);
    }

    /// Whether one more packet may be emitted.
    pub fn has_room(&self) -> bool {
        let mut state = self.lock();
        state.settle();
        let waiting = state.marks.front().map_or(0, |first| state.emitted - first);
        let most = match state.transport {
            Transport::Polling => MOST_POLLED,
            Transport::Socket { .. } => MOST_PACKETS,
        };
        state.marks.len() < most && waiting < MOST_BYTES
    }

    /// Waits until there is room; false when the peer has taken nothing for [`STALL`].
    pub async fn room(&self) -> bool {
        loop {
            if self.has_room() {
                return true;
            }
            let conn = {
                let state = self.lock();
                if state.moved_at.elapsed() >= STALL {
                    return false;
                }
                match &state.transport {
                    Transport::Socket { conn, .. } => Some(Arc::clone(conn)),
                    Transport::Polling => None,
                }
            };
            match conn {
                Some(conn) => {
                    tokio::select! {
                        () = conn.moved.notified() => {}
                        () = sleep(LOOK_AGAIN) => {}
                    }
                }
                None => sleep(LOOK_AGAIN).await,
            }
        }
    }

    /// Closes the connection of a WebSocket session.
    pub fn close(&self) {
        if let Transport::Socket { conn, .. } = &self.lock().transport {
            conn.close();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Counts are whole after each change, so a panic elsewhere does not spoil them.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Forgets the packets that have left.
    fn settle(&mut self) {
        let Transport::Socket { conn, base } = &mut self.transport else { return };
        let left = conn.written().saturating_sub(*base);
        let before = self.marks.len();
        while self.marks.front().is_some_and(|mark| *mark <= left) {
            self.marks.pop_front();
        }
        if self.marks.len() < before {
            self.moved_at = Instant::now();
        }
        if self.marks.is_empty() {
            // Pings and acks are written uncounted; from nothing on its way the count is exact again.
            *base = conn.written();
            self.emitted = 0;
        }
    }
}

/// Finds the flow and the connection of an Engine.IO session, by its id.
#[derive(Debug, Default)]
pub struct Flows {
    sessions: Mutex<HashMap<String, Known>>,
}

#[derive(Debug, Default)]
struct Known {
    flow: Weak<Flow>,
    /// The WebSocket that carries the session, if one does. It outlives the flow: a client may leave the
    /// namespace and come back.
    conn: Weak<Conn>,
}

impl Known {
    fn is_gone(&self) -> bool {
        self.flow.strong_count() == 0 && self.conn.strong_count() == 0
    }
}

impl Flows {
    /// Makes the flow of a session.
    pub fn open(&self, sid: &str, direct: Option<Arc<Conn>>) -> Arc<Flow> {
        let mut sessions = self.lock();
        sessions.retain(|_, known| !known.is_gone());
        let known = sessions.entry(sid.to_owned()).or_default();
        let conn = direct.or_else(|| known.conn.upgrade());
        known.conn = conn.as_ref().map_or_else(Weak::new, Arc::downgrade);
        let flow = Arc::new(Flow::new(conn));
        known.flow = Arc::downgrade(&flow);
        flow
    }

    /// A WebSocket asks to take a session over.
    pub fn upgrade(&self, sid: &str, conn: &Arc<Conn>) {
        let mut sessions = self.lock();
        sessions.retain(|_, known| !known.is_gone());
        let known = sessions.entry(sid.to_owned()).or_default();
        known.conn = Arc::downgrade(conn);
        if let Some(flow) = known.flow.upgrade() {
            flow.upgrade(Arc::clone(conn));
        }
    }

    /// A poll of a session has come.
    pub fn polled(&self, sid: &str) {
        let flow = self.lock().get(sid).and_then(|known| known.flow.upgrade());
        if let Some(flow) = flow {
            flow.polled();
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Known>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_polling_session_holds_so_many_packets_until_the_next_poll() {
        let flows = Flows::default();
        let flow = flows.open("a", None);
        for _ in 0..MOST_POLLED {
            assert!(flow.has_room());
            flow.emitted(10);
        }
        assert!(!flow.has_room());
        flows.polled("a");
        assert!(flow.room().await);
        flow.emitted(usize::try_from(MOST_BYTES).unwrap());
        flow.emitted(usize::try_from(MOST_BYTES).unwrap());
        assert!(!flow.has_room());
        assert!(!flow.room().await, "a stalled peer is told apart from a slow one");
    }
}
