//! Bytes to model and back: one file per format and version; the only place that knows an encoding.

pub mod checkpoint_v1;
