//! Everything that knows HTTP, JSON and Socket.IO: reads what comes in, calls one function of `app`, answers.
//!
//! Outside in: [`net`] accepts connections and turns away who may not enter, then either [`socket`]
//! (LoLLMs' events) or [`rest`] serves. [`events`] is the one table of all events.

pub mod docs;
pub mod error;
pub mod events;
pub mod net;
pub mod rest;
pub mod socket;
