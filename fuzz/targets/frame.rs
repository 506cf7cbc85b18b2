//! What a client sends on one connection.

#![no_main]

use frontstream_fuzz::dev_broker::feed;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let fed = feed::connection(bytes);
    assert!(fed.is_ok(), "{fed:?}");
});
