//! Places for what is in hand: so many in all, and of those that stay for long so many for each caller.

use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::rate::Caller;

/// Places. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Places {
    all: Arc<Semaphore>,
    taken: Arc<Mutex<HashMap<Caller, usize>>>,
    each: usize,
}

/// One of them, until it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    _permit: OwnedSemaphorePermit,
    _counted: Option<Counted>,
}

/// There is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Full {
    /// For anybody.
    All,
    /// For this caller.
    Caller,
}

#[derive(Debug)]
struct Counted {
    caller: Caller,
    taken: Arc<Mutex<HashMap<Caller, usize>>>,
}

impl Places {
    /// `all` of them, and at most `each` for one caller; 0 is no limit of that.
    pub(crate) fn new(all: usize, each: usize) -> Self {
        let all = Arc::new(Semaphore::new(all.min(Semaphore::MAX_PERMITS)));
        Self { all, taken: Arc::default(), each }
    }

    /// Takes one, whoever asks.
    pub(crate) fn take(&self) -> Result<Place, Full> {
        let permit = self.all.clone().try_acquire_owned().map_err(|_| Full::All)?;
        Ok(Place { _permit: permit, _counted: None })
    }

    /// Takes one for `caller`.
    pub(crate) fn take_for(&self, caller: Caller) -> Result<Place, Full> {
        let place = self.take()?;
        if self.each == 0 {
            return Ok(place);
        }
        let mut taken = self.taken.lock();
        let count = taken.entry(caller.clone()).or_default();
        if *count >= self.each {
            return Err(Full::Caller);
        }
        *count += 1;
        drop(taken);
        let counted = Counted { caller, taken: self.taken.clone() };
        Ok(Place { _counted: Some(counted), ..place })
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut taken = self.taken.lock();
        if let Some(count) = taken.get_mut(&self.caller) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&self.caller);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_caller_never_has_all_of_them_and_nothing_is_kept_of_those_who_have_gone() {
        let places = Places::new(5, 2);
        let of = |name: &str| places.take_for(Caller::Subject(name.into()));
        let kims = [of("kim").expect("one"), of("kim").expect("two")];
        assert_eq!(of("kim").err(), Some(Full::Caller));
        let _lous = [of("lou").expect("one"), of("lou").expect("two")];
        let _anybodys = places.take().expect("the last");
        assert_eq!((of("max").err(), of("kim").err()), (Some(Full::All), Some(Full::All)));
        drop(kims);
        drop(of("kim").expect("free again"));
        assert_eq!(places.taken.lock().len(), 1, "lou alone");
        let unlimited = Places::new(3, 0);
        let kim = || unlimited.take_for(Caller::Subject("kim".into()));
        let _all = [kim().expect("one"), kim().expect("two"), kim().expect("three")];
        assert_eq!(kim().err(), Some(Full::All));
    }
}
