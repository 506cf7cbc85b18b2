//! The proxy between a client and a broker that are made up, with the in-process broker, and with a real cluster.

mod made_up;
