//! HTTP in: route, limits, raw body, signature, acknowledgement.
