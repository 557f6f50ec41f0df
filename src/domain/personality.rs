//! What a personality is.
