//! Flags, environment and file to checked settings; the only reader of the environment.
