//! Everything that knows HTTP, JSON and Socket.IO.
