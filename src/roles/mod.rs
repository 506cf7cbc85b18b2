//! What a process can be: each wires stages, runs them and drains them.

pub mod receiver;
