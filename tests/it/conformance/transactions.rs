//! Checks to come.

use super::Check;

pub(super) const CHECKS: &[Check] = &[];
