//! Clients of running binding processes.
