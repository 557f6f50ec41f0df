//! Folders of personalities, bindings and models.
