//! What a binding is.
