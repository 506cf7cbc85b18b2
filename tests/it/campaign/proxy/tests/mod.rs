//! The proxy between a client and a server that are made up, before the in-process broker, and before a real cluster.

mod in_process;
mod made_up;
mod real;
