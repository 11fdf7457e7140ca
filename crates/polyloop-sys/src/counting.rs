//! An allocator that counts, for tests and benchmarks that claim a number of allocations or bytes.
//!
//! It hands everything to the system's allocator and counts on the way: allocations by thread, so that a test may
//! claim "none" about its own while others run, and bytes for the whole process. It is not meant for production: the
//! byte count is one shared counter.
//!
//! ```
//! use polyloop_sys::counting::{CountingAllocator, allocations_of_thread};
//!
//! #[global_allocator]
//! static ALLOCATOR: CountingAllocator = CountingAllocator;
//!
//! let before = allocations_of_thread();
//! let boxed = Box::new([0_u8; 64]);
//! assert_eq!(allocations_of_thread() - before, 1);
//! drop(boxed);
//! ```
#![allow(
    unsafe_code,
    reason = "an allocator is an unsafe trait; it only counts and passes on"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};

/// See the module's documentation.
#[derive(Debug, Clone, Copy, Default)]
pub struct CountingAllocator;

thread_local! {
    // Without a destructor and with a constant start, so that counting never allocates.
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

static LIVE_BYTES: AtomicI64 = AtomicI64::new(0);

/// Allocations made by this thread so far, growth of existing ones included.
#[must_use]
pub fn allocations_of_thread() -> u64 {
    ALLOCATIONS.get()
}

/// Bytes that the process has allocated and not freed, as asked for: without what the allocator itself adds.
#[must_use]
pub fn live_bytes() -> i64 {
    LIVE_BYTES.load(Relaxed)
}

fn count(bytes: i64) {
    // A thread that is ending may allocate when its locals are gone already; that one is not counted.
    let _ = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
    LIVE_BYTES.fetch_add(bytes, Relaxed);
}

const fn size(bytes: usize) -> i64 {
    // A layout's size is at most isize::MAX.
    bytes as i64
}

// SAFETY: every method passes its arguments on to the system's allocator unchanged and returns what that returned;
// counting neither allocates nor unwinds.
unsafe impl GlobalAlloc for CountingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(size(layout.size()));
        // SAFETY: the caller's contract for `alloc` is the one of the system's `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(size(layout.size()));
        // SAFETY: the caller's contract for `alloc_zeroed` is the one of the system's.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE_BYTES.fetch_sub(size(layout.size()), Relaxed);
        // SAFETY: `pointer` came from one of our methods with this layout, hence from the system's allocator.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        count(size(new_size) - size(layout.size()));
        // SAFETY: `pointer` came from one of our methods with this layout, hence from the system's allocator.
        unsafe { System.realloc(pointer, layout, new_size) }
    }
}
