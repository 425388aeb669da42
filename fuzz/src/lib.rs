//! What every fuzzing program has in common: a target of `softstake::fuzzing` by its name, and an allocator that ends
//! the program where one input makes it hold far more than the input's own size.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use softstake::fuzzing::Target;

/// What one input may make the program hold, besides so many times its own size.
const ALLOWED_BYTES: usize = 64 << 20;

/// How many times its own size an input may make the program hold.
const ALLOWED_TIMES: usize = 16;

/// Counts what is held, by all threads, and the most that was held since [`Counting::begin`].
pub struct Counting {
    held: AtomicUsize,
    most: AtomicUsize,
    limit: AtomicUsize,
}

#[global_allocator]
static ALLOCATOR: Counting =
    Counting { held: AtomicUsize::new(0), most: AtomicUsize::new(0), limit: AtomicUsize::new(usize::MAX) };

/// The most that one input made the program hold.
static LARGEST: AtomicUsize = AtomicUsize::new(0);

impl Counting {
    fn grow(&self, bytes: usize) {
        let held = self.held.fetch_add(bytes, Ordering::Relaxed) + bytes;
        self.most.fetch_max(held, Ordering::Relaxed);
        // A panic names its places, which takes more than an input may.
        if held > self.limit.load(Ordering::Relaxed) && !std::thread::panicking() {
            self.limit.store(usize::MAX, Ordering::Relaxed);
            eprintln!("{held} bytes are held, more than the input allows");
            std::process::abort();
        }
    }

    fn shrink(&self, bytes: usize) {
        self.held.fetch_sub(bytes, Ordering::Relaxed);
    }

    fn begin(&self, input: &[u8]) -> usize {
        let held = self.held.load(Ordering::Relaxed);
        self.most.store(held, Ordering::Relaxed);
        self.limit.store(held + ALLOWED_BYTES + ALLOWED_TIMES * input.len(), Ordering::Relaxed);
        held
    }

    fn end(&self, held: usize) -> usize {
        self.limit.store(usize::MAX, Ordering::Relaxed);
        self.most.load(Ordering::Relaxed).saturating_sub(held)
    }
}

// SAFETY: every call is passed on to the system's allocator as it came; counting touches no memory of the caller's.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        self.grow(layout.size());
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        self.grow(layout.size());
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        self.shrink(layout.size());
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        self.grow(size);
        self.shrink(layout.size());
        unsafe { System.realloc(pointer, layout, size) }
    }
}

unsafe extern "C" {
    safe fn atexit(at_exit: extern "C" fn()) -> i32;
}

/// The line that `fuzz/run` reads.
extern "C" fn tell() {
    eprintln!("largest_allocation_bytes: {}", largest());
}

/// The most that one input made the program hold so far, in bytes.
pub fn largest() -> usize {
    LARGEST.load(Ordering::Relaxed)
}

/// Runs the target of that name on one input.
pub fn run(name: &str, input: &[u8]) {
    static TARGET: OnceLock<Target> = OnceLock::new();
    let target = TARGET.get_or_init(|| {
        atexit(tell);
        softstake::fuzzing::target(name).unwrap_or_else(|| panic!("there is no target {name}"))
    });
    check(*target, input);
}

/// Runs a target on one input, and ends the program where that holds too much.
pub fn check(target: Target, input: &[u8]) {
    let held = ALLOCATOR.begin(input);
    target(input);
    LARGEST.fetch_max(ALLOCATOR.end(held), Ordering::Relaxed);
}

/// The program of one target.
#[macro_export]
macro_rules! target {
    ($name:literal) => {
        ::libfuzzer_sys::fuzz_target!(|input: &[u8]| { $crate::run($name, input) });
    };
}
