//! The topic to one closed enum: batch, assigned, revoked, lost, error.
