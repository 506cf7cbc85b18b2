//! Authenticated bytes to events, or a named rejection. Pure.
