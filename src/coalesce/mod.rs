//! Changes and time in; refreshes, next deadline and checkpoint out. Pure.
