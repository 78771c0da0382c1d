//! A circuit breaker at the client of a server: what many lanes call is judged where it is called.
//!
//! A call that fails may be its event's fault or the server's. Most of the latest events failing is the server's: then the
//! breaker opens, every call is refused at once as [`Failure::Unreachable`], which counts against no event, and one call at a
//! time finds out when it is over. Only first tries are evidence: events that fail on their own come back again and again,
//! and soon most calls are theirs. The idea is Nygard's (*Release It!*).

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use metrics::gauge;
use parking_lot::Mutex;

use crate::{
    event::Attempt,
    failure::{Cause, Failure},
    metrics::BREAKER_OPEN,
};

/// First tries that are looked at.
const LATEST: usize = 20;
/// Fewer say nothing.
const FEWEST: usize = 5;
/// First tries longer ago say nothing either.
const WINDOW: Duration = Duration::from_secs(120);
/// Time until the first probe; doubles with each that fails.
const FIRST_PROBE: Duration = Duration::from_millis(500);
/// The longest time between two probes.
const LAST_PROBE: Duration = Duration::from_secs(5);
/// Others wait for a probe's answer for so long.
const PROBE_LIMIT: Duration = Duration::from_secs(30);

/// The breaker of one server. All clones are one: make one for each server in the process.
///
/// ```
/// use std::time::Duration;
///
/// use actors::{Attempt, Breaker, Cause, Failure};
/// # async fn charge() -> Result<u64, std::io::Error> { Ok(7) }
///
/// /// What a handler does in its `prepare`.
/// async fn ask(provider: &Breaker, attempt: &Attempt) -> Result<u64, Failure> {
///     let call = provider.enter(attempt)?;
///     match tokio::time::timeout(Duration::from_secs(2), charge()).await {
///         Ok(Ok(answer)) => {
///             call.answered();
///             Ok(answer)
///         }
///         Ok(Err(error)) => Err(call.failed(Cause::from_error("provider-failed", &error))),
///         Err(_) => Err(call.failed(Cause::new("provider-timeout", "no answer within 2 s"))),
///     }
/// }
/// assert!(!Breaker::new("provider").is_open());
/// ```
#[derive(Clone, Debug)]
pub struct Breaker {
    server: Arc<str>,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    /// The latest first tries, and whether each failed.
    latest: VecDeque<(Instant, bool)>,
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    cause: Cause,
    since: Instant,
    /// When the next probe may be made.
    probe_at: Instant,
    wait: Duration,
}

/// A call that may be made. Dropped, it says nothing of the server.
#[derive(Debug)]
#[must_use = "says what came of the call"]
pub struct Call<'a> {
    breaker: &'a Breaker,
    first: bool,
    probe: bool,
    told: bool,
}

impl Breaker {
    /// A closed one; `server` names it in causes, metrics and the log.
    pub fn new(server: &str) -> Self {
        gauge!(BREAKER_OPEN, "server" => server.to_owned()).set(0.0);
        Self { server: server.into(), state: Arc::default() }
    }

    /// Asks whether the call of this try may be made.
    ///
    /// # Errors
    /// [`Failure::Unreachable`] while the breaker is open and it is not time for a probe.
    pub fn enter(&self, attempt: &Attempt) -> Result<Call<'_>, Failure> {
        self.enter_at(attempt.failed_attempts == 0, Instant::now())
    }

    fn enter_at(&self, first: bool, now: Instant) -> Result<Call<'_>, Failure> {
        let mut state = self.state.lock();
        let Some(open) = &mut state.open else { return Ok(self.call(first, false)) };
        if now < open.probe_at {
            return Err(self.refused(&open.cause));
        }
        open.probe_at = now + PROBE_LIMIT;
        Ok(self.call(first, true))
    }

    fn call(&self, first: bool, probe: bool) -> Call<'_> {
        Call { breaker: self, first, probe, told: false }
    }

    /// Whether calls are refused.
    pub fn is_open(&self) -> bool {
        self.state.lock().open.is_some()
    }

    fn refused(&self, cause: &Cause) -> Failure {
        Failure::unreachable(
            cause.code.clone(),
            format!("{} is not asked for now: {}", self.server, cause.message),
        )
    }

    fn answered(&self, first: bool, now: Instant) {
        let mut state = self.state.lock();
        if let Some(open) = state.open.take() {
            state.latest.clear();
            gauge!(BREAKER_OPEN, "server" => self.server.to_string()).set(0.0);
            let seconds = now.duration_since(open.since).as_secs();
            tracing::info!(server = &*self.server, seconds, "the server answers again");
        }
        if first {
            state.saw(false, now);
        }
    }

    /// True when the breaker is open now.
    fn failed(&self, call: (bool, bool), cause: &Cause, now: Instant) -> bool {
        let (first, probe) = call;
        let mut state = self.state.lock();
        if let Some(open) = &mut state.open {
            if probe {
                open.wait = (open.wait * 2).min(LAST_PROBE);
                open.probe_at = now + open.wait;
                open.cause = cause.clone();
            }
            return true;
        }
        if first {
            state.saw(true, now);
        }
        if !state.mostly_fails() {
            return false;
        }
        state.open =
            Some(Open { cause: cause.clone(), since: now, probe_at: now + FIRST_PROBE, wait: FIRST_PROBE });
        gauge!(BREAKER_OPEN, "server" => self.server.to_string()).set(1.0);
        tracing::warn!(server = &*self.server, %cause, "most calls fail; the server is not asked until a probe passes");
        true
    }
}

impl State {
    fn saw(&mut self, failed: bool, now: Instant) {
        self.latest.push_back((now, failed));
        while self.latest.len() > LATEST
            || self.latest.front().is_some_and(|(at, _)| now.duration_since(*at) > WINDOW)
        {
            self.latest.pop_front();
        }
    }

    /// Three quarters of the latest first tries.
    fn mostly_fails(&self) -> bool {
        let failed = self.latest.iter().filter(|(_, failed)| *failed).count();
        self.latest.len() >= FEWEST && failed * 4 >= self.latest.len() * 3
    }
}

impl Call<'_> {
    /// The server answered, whatever it said: also that this request is refused, or cannot be served now.
    pub fn answered(mut self) {
        self.told = true;
        self.breaker.answered(self.first, Instant::now());
    }

    /// The server failed, or was silent for too long: its fault, or this request's. The failure to return: transient, or
    /// unreachable where most calls fail.
    pub fn failed(mut self, cause: Cause) -> Failure {
        self.told = true;
        match self.breaker.failed((self.first, self.probe), &cause, Instant::now()) {
            true => Failure::Unreachable(cause),
            false => Failure::Transient(cause),
        }
    }

    /// The server could not be reached at all: no event's fault. The failure to return.
    pub fn unreachable(mut self, cause: Cause) -> Failure {
        self.told = true;
        self.breaker.failed((self.first, self.probe), &cause, Instant::now());
        Failure::Unreachable(cause)
    }
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        let abandoned = self.probe && !self.told;
        if let Some(open) = self.breaker.state.lock().open.as_mut().filter(|_| abandoned) {
            open.probe_at = Instant::now();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cause() -> Cause {
        Cause::new("down", "it is down")
    }

    /// Makes a call that fails or not; whether it could be made.
    fn call(breaker: &Breaker, first: bool, fails: bool, now: Instant) -> bool {
        let Ok(mut call) = breaker.enter_at(first, now) else { return false };
        call.told = true;
        match fails {
            true => _ = breaker.failed((call.first, call.probe), &cause(), now),
            false => breaker.answered(call.first, now),
        }
        true
    }

    #[test]
    fn it_opens_when_most_first_tries_fail_and_closes_with_a_probe() {
        let (breaker, start) = (Breaker::new("provider"), Instant::now());
        (0..4).for_each(|_| assert!(call(&breaker, true, true, start)));
        assert!(!breaker.is_open(), "too few to tell");
        assert!(call(&breaker, true, true, start));
        assert!(breaker.is_open());
        assert!(!call(&breaker, true, false, start + Duration::from_millis(499)));
        // One at a time; the next waits twice as long after a failure.
        let probe = start + Duration::from_millis(500);
        let mut first = breaker.enter_at(false, probe).expect("a probe");
        first.told = true;
        assert!(breaker.enter_at(true, probe).is_err(), "the probe is not answered yet");
        assert!(breaker.failed((first.first, first.probe), &cause(), probe));
        assert!(!call(&breaker, true, false, probe + Duration::from_millis(999)));
        assert!(call(&breaker, false, false, probe + Duration::from_secs(1)));
        assert!(!breaker.is_open());
        // What was before says nothing any more.
        assert!(call(&breaker, true, true, probe + Duration::from_secs(1)) && !breaker.is_open());
    }

    #[test]
    fn a_probe_that_nobody_hears_of_again_does_not_keep_it_open() {
        let (breaker, start) = (Breaker::new("provider"), Instant::now());
        (0..5).for_each(|_| assert!(call(&breaker, true, true, start)));
        let probe = start + FIRST_PROBE;
        drop(breaker.enter_at(true, probe).expect("a probe"));
        assert!(call(&breaker, true, false, Instant::now().max(probe)) && !breaker.is_open());
    }

    #[test]
    fn a_third_of_the_keys_that_fail_for_minutes_never_opens_it() {
        let (breaker, start) = (Breaker::new("provider"), Instant::now());
        for n in 0..3_000u32 {
            let now = start + Duration::from_millis(100) * n;
            assert!(call(&breaker, true, n % 10 < 3, now));
            // By now most calls are retries of those.
            (0..3).for_each(|_| assert!(call(&breaker, false, true, now)));
            assert!(!breaker.is_open(), "{n}");
        }
    }
}
