//! Wakes a lane's actor, once until it looks.

use std::{
    fmt,
    sync::atomic::{AtomicBool, Ordering},
};

use parking_lot::Mutex;

use crate::detach::detached;

type Waker = Box<dyn Fn() + Send + Sync>;

/// Who is woken when there is work, and whether it was.
#[derive(Default)]
pub(super) struct Wake {
    scheduled: AtomicBool,
    waker: Mutex<Option<Waker>>,
}

impl Wake {
    /// Whom to wake from now on: at once, since it does not know what there is.
    pub(super) fn set(&self, waker: impl Fn() + Send + Sync + 'static) {
        *self.waker.lock() = Some(Box::new(waker));
        self.scheduled.store(false, Ordering::Release);
        self.wake();
    }

    /// Whether there is somebody to wake.
    pub(super) fn is_set(&self) -> bool {
        self.waker.lock().is_some()
    }

    /// Wakes the actor unless it is about to look anyway.
    pub(super) fn wake(&self) {
        if !self.scheduled.swap(true, Ordering::AcqRel)
            && let Some(waker) = &*self.waker.lock()
        {
            detached(waker);
        }
    }

    /// The actor is about to look: what comes from now on wakes it again.
    pub(super) fn looking(&self) {
        self.scheduled.store(false, Ordering::Release);
    }
}

impl fmt::Debug for Wake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wake").field("scheduled", &self.scheduled).finish_non_exhaustive()
    }
}
