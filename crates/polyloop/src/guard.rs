//! Running code that is not ours where its panic is an answer, not the end.
//!
//! Deliberately absent: what a panic costs; the caller knows (a session, a job).

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// The code panicked. What it said has been printed by the panic hook.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Panicked;

/// Runs `act`, and catches its panic.
///
/// Whatever it may have left half-done is the caller's to throw away.
#[inline]
pub(crate) fn guarded<T>(act: impl FnOnce() -> T) -> Result<T, Panicked> {
    catch_unwind(AssertUnwindSafe(act)).map_err(|payload| {
        forget_payload(payload);
        Panicked
    })
}

/// Drops what a panic carried, which may itself panic; what that carries is leaked rather than tried.
#[cold]
fn forget_payload(payload: Box<dyn Any + Send>) {
    if let Err(again) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        std::mem::forget(again);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Bomb;

    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("the drop of what a panic carried");
        }
    }

    #[test]
    fn a_payload_that_panics_is_caught_too() {
        // Goal: nothing that user code throws gets past the guard. Method: throw something that panics when dropped.
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(|_| {}));
        let thrown = guarded(|| std::panic::panic_any(Bomb));
        std::panic::set_hook(hook);
        assert_eq!(thrown, Err::<(), _>(Panicked));
        assert_eq!(guarded(|| 7), Ok(7));
    }
}
