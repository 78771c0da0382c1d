//! External calls that take their time: they run on while their batch is committed without them.
//!
//! A batch waits for its calls only for so long. A record whose call is not answered by then is parked, its key with it, and its
//! call goes on in this table; when it is answered the record runs again and takes the answer. All of it is lost with the
//! actor: the record is tried again when it is due, and calls are idempotent.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tokio::task::JoinHandle;
use tracing::Instrument;

use crate::{
    failure::Failure,
    lane::{Item, Lane},
    retry::ChainKey,
};

/// Names a call: the record's offset in its lane, and its generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct CallId(i64, u32);

impl CallId {
    pub(crate) fn of(item: &Item) -> Self {
        Self(item.record.offset.0, item.generation())
    }
}

/// A call under way.
pub(crate) type Task<P> = JoinHandle<Result<P, Failure>>;

/// The calls of a lane that run without a batch.
#[derive(Debug)]
pub(crate) struct Calls<P> {
    running: HashMap<CallId, Running<P>>,
    /// Those that have ended and were not told yet.
    ended: Arc<Mutex<Vec<CallId>>>,
    lane: Arc<Lane>,
}

#[derive(Debug)]
struct Running<P> {
    task: Task<P>,
    /// Where its record waits, once that is committed.
    row: Option<(ChainKey, i64)>,
}

impl<P: Send + 'static> Calls<P> {
    /// None running.
    pub(crate) fn new(lane: Arc<Lane>) -> Self {
        Self { running: HashMap::new(), ended: Arc::default(), lane }
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.running.len()
    }

    /// Starts a call. When it has ended its time is noted in `pace`, and the lane is woken.
    pub(crate) fn spawn(
        &self,
        id: CallId,
        pace: Pace,
        call: impl Future<Output = Result<P, Failure>> + Send + 'static,
    ) -> Task<P> {
        let (lane, ended, started) = (self.lane.clone(), self.ended.clone(), Instant::now());
        let span = lane.span.clone();
        let call = async move {
            let answer = call.await;
            pace.saw(started.elapsed());
            ended.lock().push(id);
            lane.wake();
            answer
        };
        tokio::spawn(call.instrument(span))
    }

    /// The call of a record, if it runs or has ended without its batch.
    pub(crate) fn take(&mut self, id: CallId) -> Option<Task<P>> {
        self.running.remove(&id).map(|running| running.task)
    }

    /// The batch does not wait for it any more.
    pub(crate) fn keep(&mut self, id: CallId, task: Task<P>) {
        self.running.insert(id, Running { task, row: None });
    }

    /// Its record waits there.
    pub(crate) fn parked(&mut self, id: CallId, key: ChainKey, row: i64) {
        if let Some(running) = self.running.get_mut(&id) {
            running.row = Some((key, row));
            if running.task.is_finished() {
                self.ended.lock().push(id);
            }
        }
    }

    /// No record waits there any more: an operator may have ended it before its call was answered.
    pub(crate) fn forget(&mut self, row: i64) {
        self.running.retain(|_, running| {
            let waits = running.row.as_ref().is_none_or(|(_, id)| *id != row);
            if !waits {
                running.task.abort();
            }
            waits
        });
    }

    /// Records whose call has ended since this was last asked: they may run.
    pub(crate) fn ended(&mut self) -> Vec<(ChainKey, i64)> {
        let ended = std::mem::take(&mut *self.ended.lock());
        ended.into_iter().filter_map(|id| self.running.get(&id)?.row.clone()).collect()
    }
}

impl<P> Calls<P> {
    /// Nobody will ask for them any more.
    pub(crate) fn clear(&mut self) {
        self.running.drain().for_each(|(_, running)| running.task.abort());
        self.ended.lock().clear();
    }
}

impl<P> Drop for Calls<P> {
    fn drop(&mut self) {
        self.clear();
    }
}

/// How long calls take, in the middle: an estimate of the median over all lanes. All clones are one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pace(Arc<Mutex<Duration>>);

impl Pace {
    /// Less is not told apart.
    const LEAST: Duration = Duration::from_micros(100);
    /// What most calls take longer than is no pace any more.
    const MOST: Duration = Duration::from_millis(500);

    /// The median.
    pub(crate) fn median(&self) -> Duration {
        (*self.0.lock()).max(Self::LEAST)
    }

    /// A call took so long. Each moves the estimate a step towards it: where as many are longer as are shorter, it stays.
    pub(crate) fn saw(&self, took: Duration) {
        let mut median = self.0.lock();
        let moved = if took > *median { median.max(Self::LEAST).mul_f64(1.2) } else { median.div_f64(1.2) };
        *median = moved.clamp(Self::LEAST, Self::MOST);
    }
}

#[cfg(test)]
mod tests {
    use dead_letters::TopicPartition;

    use super::*;
    use crate::lane::{CrashLimits, LaneKind};

    #[tokio::test]
    async fn a_call_goes_with_the_row_it_was_made_for() {
        let limits = CrashLimits { actors: 1, processes: 1 };
        let lane = Lane::new(TopicPartition::new("t", 0), LaneKind::Source, limits, Arc::default());
        let mut calls = Calls::<()>::new(Arc::new(lane));
        let mut given_up = Vec::new();
        for row in 0..3 {
            let (told, asked) = tokio::sync::oneshot::channel::<()>();
            let call = async move {
                let _told = told;
                std::future::pending().await
            };
            let id = CallId(row, 1);
            let task = calls.spawn(id, Pace::default(), call);
            calls.keep(id, task);
            // That of the last is not committed yet.
            if row < 2 {
                calls.parked(id, ChainKey::of(None, 100 + row), 100 + row);
            }
            given_up.push(asked);
        }
        calls.forget(101);
        calls.forget(102);
        assert_eq!(calls.len(), 2);
        given_up.remove(1).await.expect_err("it is not made any more");
        assert!(given_up.iter_mut().all(|asked| {
            asked.try_recv().is_err_and(|e| e == tokio::sync::oneshot::error::TryRecvError::Empty)
        }));
    }

    #[test]
    fn the_pace_is_what_most_calls_take_and_a_few_that_hang_do_not_move_it() {
        let pace = Pace::default();
        for n in 0..1_000u32 {
            pace.saw(if n % 50 == 0 {
                Duration::from_secs(2)
            } else {
                Duration::from_millis(90 + u64::from(n % 20))
            });
        }
        let median = pace.median();
        assert!((60..150).contains(&median.as_millis()), "{median:?}");
        (0..100).for_each(|_| pace.saw(Duration::from_millis(1)));
        assert!(pace.median() < Duration::from_millis(2));
    }
}
