//! Kafka's own command-line tools.

use super::Check;

/// They need Java and Kafka's jars: run only where the real Kafka runs too.
pub(super) const AREA: &str = "Kafka's own tools";

pub(super) const CHECKS: &[Check] = &[];
