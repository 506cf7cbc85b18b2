//! What a producer sends for one partition.

#![no_main]

use frontstream_fuzz::dev_broker::feed;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    feed::batch(bytes);
});
