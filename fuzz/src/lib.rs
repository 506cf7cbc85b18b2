//! The in-process broker, compiled without the rest of the crate: that would bring librdkafka and ten minutes of building.
//! Around it, an allocator that gives nobody more than a few bytes of input can be worth.
//!
//! libFuzzer's own `-malloc_limit_mb` needs a sanitizer's hooks. This sees every reservation too, those included that nobody
//! touches: an input that makes the broker ask for gigabytes is a finding also on a machine that would give them.

#![allow(dead_code, unused_imports, reason = "most of these modules is for others")]

#[path = "../../src/dev_broker/mod.rs"]
pub mod dev_broker;
#[path = "../../src/lifecycle/mod.rs"]
mod lifecycle;
#[path = "../../src/model/mod.rs"]
mod model;

use std::alloc::{GlobalAlloc, Layout, System};

/// The most that is given at once: unpacking a batch may take 128 MiB, in a buffer that grows by doubling.
const BYTES_MAX: usize = 300 << 20;

struct Limited;

#[global_allocator]
static LIMITED: Limited = Limited;

// SAFETY: everything is the system's allocator's; a refusal ends the process.
unsafe impl GlobalAlloc for Limited {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        check(layout.size());
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(memory, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        check(layout.size());
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        check(size);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.realloc(memory, layout, size) }
    }
}

fn check(size: usize) {
    assert!(size <= BYTES_MAX, "{size} bytes at once");
}
