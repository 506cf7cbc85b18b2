//! What a process can be: each wires stages, runs them and drains them. No business rules.

pub mod processor;
