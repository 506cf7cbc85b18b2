//! Proves, offset by offset, that every stored event is counted in exactly one committed refresh.
//!
//! [`index`] and [`proof`] are pure: records in, findings out.

mod ending;
mod index;
mod proof;
mod report;

#[cfg(test)]
mod tests;
