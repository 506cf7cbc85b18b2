//! Health, readiness and metrics, beside every role.
