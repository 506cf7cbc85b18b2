//! Bytes to model and back: one file per format and version; the only place that knows an encoding.
