//! Settings: read in layers, checked, saved.
