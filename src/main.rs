//! Parses arguments, starts logging, picks a role, turns errors into an exit code.

fn main() {}
