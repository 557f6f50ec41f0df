//! The worker process: the binding protocol on one side, the engine on the other.
