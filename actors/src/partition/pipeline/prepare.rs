//! External effects, before the transaction: no lock and no connection is held while somebody else takes their time.
//!
//! A slow call holds its key, not its batch: after a while what has not answered is parked with its call under way, and what was
//! not even begun is left for the next batch.

use std::{
    collections::{HashMap, VecDeque},
    future::poll_fn,
    pin::Pin,
    task::{self, Poll},
    time::Duration,
};

use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::{task::JoinError, time::Instant};

use super::{
    context::Context,
    decide::unreadable_state,
    errors::{BatchError, theirs},
};
use crate::{
    Cause,
    connection::{Connection, Trouble},
    failure::Failure,
    handler::{Handler, Loaded, Lock},
    partition::{
        batch::{Outcome, Slot, Tally},
        calls::{CallId, Task},
    },
};

/// A record whose call takes its time is tried again after this, should the call be lost. If not, when it is answered.
const LOST: chrono::Duration = chrono::Duration::seconds(10);
/// Calls that usually take less are done before anybody notices.
const QUICK: Duration = Duration::from_millis(5);
/// What waited before is waited for at least this long.
const SHORT: Duration = Duration::from_millis(10);

/// The slots whose events ask for an external call.
pub(super) fn wanted<H: Handler>(handler: &H, slots: &[Slot<H>]) -> Vec<usize> {
    (0..slots.len()).filter(|at| slots[*at].wants_prepare(handler)).collect()
}

/// Calls `prepare` for the `wanted` events, keys side by side. After [`cut`](crate::partition::batch::cut) every key has at
/// most one, so each sees its key's last committed state.
pub(super) async fn prepare<H: Handler>(
    context: &Context<'_, H>,
    slots: &mut Vec<Slot<H>>,
    wanted: &[usize],
) -> Result<(), BatchError> {
    let Loaded { mut states, unreadable, .. } = states(context, slots, wanted).await?;
    let (known, unknown): (Vec<_>, Vec<_>) = wanted
        .iter()
        .copied()
        .partition(|at| slots[*at].open().is_none_or(|event| !unreadable.contains_key(&event.key)));
    for at in unknown {
        // Nothing is done outside for a key of which nobody knows what was done.
        let cause = slots[at].open().and_then(|event| unreadable.get(&event.key)).map(unreadable_state);
        slots[at].prepared = cause.map(|cause| Err(Failure::Permanent(cause)));
        drop(context.calls.lock().take(CallId::of(&slots[at].item)));
    }
    let settings = &context.shared.settings;
    let most = settings.prepare_concurrency.max(1);
    let (mut waited, mut queue, mut left) = under_way(context, slots, &known, most.div_ceil(2));
    let beside = context.calls.lock().len();
    // Where it has to be known whose fault a death is, all are waited for; without room for another that takes its time those
    // are that were begun, and what there is no time for is left.
    let limits = (!context.alone).then(|| Limits::new(settings.slow_call, context.shared.pace.median()));
    let waits = limits.filter(|_| beside < most);
    let most = if context.alone { most } else { most.saturating_sub(beside).max(1) };
    let mut begun = 0;
    let started = Instant::now();
    let mut last = started;
    loop {
        while waited.len() < most {
            let late = begun >= most && limits.is_some_and(|limits| limits.is_late(started));
            let Some(at) = queue.front().copied().filter(|_| !late) else { break };
            queue.pop_front();
            begun += 1;
            if let Some(call) = begin(context, &mut slots[at], at, &mut states).await {
                last = Instant::now();
                waited.push(call);
            }
        }
        let limit = waits.map(|limits| match waited.iter().any(|call| call.fresh) {
            true => started + limits.fresh,
            false => last + limits.old,
        });
        let over = async {
            match limit {
                Some(limit) => tokio::time::sleep_until(limit).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            answered = waited.next() => match answered {
                Some((at, answer)) => slots[at].prepared = Some(heard(answer)),
                None => break,
            },
            () = over => break,
        }
    }
    left.extend(queue);
    leave(context, slots, waited, &left);
    Ok(())
}

/// The last committed states of the keys.
async fn states<H: Handler>(
    context: &Context<'_, H>,
    slots: &[Slot<H>],
    wanted: &[usize],
) -> Result<Loaded<H::Key, H::State, H::Shared>, BatchError> {
    let mut keys: Vec<H::Key> = wanted.iter().filter_map(|at| Some(slots[*at].open()?.key.clone())).collect();
    keys.sort_unstable();
    let connection = Connection::get(&context.shared.pool).await?;
    let load = context.shared.handler.load(&*connection, &keys, Lock::None);
    let loaded = connection.read(&context.shared.settings.limits, load).await;
    loaded.map_err(|trouble| match trouble {
        Trouble::Refused(error) => theirs(&error),
        other => other.into(),
    })
}

/// Calls that were made before and not waited for; those that are still to be made, old and new in turn; and those that are
/// left for the next batch: where there is something new, at most `share` old ones have a place beside it.
fn under_way<H: Handler>(
    context: &Context<'_, H>,
    slots: &[Slot<H>],
    wanted: &[usize],
    share: usize,
) -> (FuturesUnordered<Waited<H::Prepared>>, VecDeque<usize>, VecDeque<usize>) {
    let (waited, mut old, mut new) = (FuturesUnordered::new(), VecDeque::new(), VecDeque::new());
    let mut calls = context.calls.lock();
    for at in wanted.iter().copied() {
        let (id, fresh) = (CallId::of(&slots[at].item), slots[at].item.parked.is_none());
        match calls.take(id) {
            Some(task) => waited.push(Waited { at, id, fresh, task }),
            None if fresh => new.push_back(at),
            None => old.push_back(at),
        }
    }
    let most = if new.is_empty() || context.shared.pace.median() < QUICK { old.len() } else { share };
    let left = old.split_off(most.min(old.len()));
    let mut queue = VecDeque::with_capacity(old.len() + new.len());
    while !old.is_empty() || !new.is_empty() {
        queue.extend(new.pop_front());
        queue.extend(old.pop_front());
    }
    (waited, queue, left)
}

/// Makes a call. `None` when it is answered at once.
async fn begin<H: Handler>(
    context: &Context<'_, H>,
    slot: &mut Slot<H>,
    at: usize,
    states: &mut HashMap<H::Key, H::State>,
) -> Option<Waited<H::Prepared>> {
    let event = slot.open()?;
    let (shared, attempt, body) = (context.shared.clone(), event.attempt.clone(), event.body.clone());
    let state = states.remove(&event.key);
    let mut call = Box::pin(async move { shared.handler.prepare(&attempt, &body, state.as_ref()).await });
    // Many have nothing to ask: those need no task of their own.
    if let Poll::Ready(answer) = poll_fn(|cx| Poll::Ready(call.as_mut().poll(cx))).await {
        slot.prepared = Some(answer);
        return None;
    }
    let (id, fresh) = (CallId::of(&slot.item), slot.item.parked.is_none());
    let task = context.calls.lock().spawn(id, context.shared.pace.clone(), call);
    Some(Waited { at, id, fresh, task })
}

/// What a call has brought. One that panicked takes the actor with it, as it would have done without a task of its own.
fn heard<P>(answer: Result<Result<P, Failure>, JoinError>) -> Result<P, Failure> {
    match answer.map_err(JoinError::try_into_panic) {
        Ok(answer) => answer,
        Err(Ok(panic)) => std::panic::resume_unwind(panic),
        Err(Err(_)) => Err(Failure::unreachable("call-cancelled", "the external call was given up")),
    }
}

/// What is not waited for: calls under way go on, and their records are parked; those that were not begun are left.
fn leave<H: Handler>(
    context: &Context<'_, H>,
    slots: &mut Vec<Slot<H>>,
    waited: FuturesUnordered<Waited<H::Prepared>>,
    left: &VecDeque<usize>,
) {
    let again = context.shared.clock.now() + LOST;
    for Waited { at, id, task, .. } in waited {
        context.calls.lock().keep(id, task);
        slots[at].outcome =
            Outcome::Again(Cause::new("slow", "its external call takes its time"), again, Tally::Slow);
    }
    let (old, new): (Vec<usize>, Vec<usize>) = left.iter().partition(|at| slots[**at].item.parked.is_some());
    // Those stay where they are, with what follows them.
    old.into_iter().for_each(|at| slots[at].outcome = Outcome::Behind);
    if let Some(first) = new.into_iter().min() {
        slots.truncate(first);
    }
}

/// How long a batch waits for its calls.
#[derive(Clone, Copy, Debug)]
struct Limits {
    /// For those of new records.
    fresh: Duration,
    /// For those of records that waited before.
    old: Duration,
    /// No call is begun after this, except the first.
    begin: Duration,
}

impl Limits {
    /// From what is allowed and what calls usually take: where all take long, all are slow and none is.
    fn new(allowed: Duration, median: Duration) -> Self {
        let usual = median * 2;
        let fresh = allowed.max(usual);
        Self { fresh, old: usual.max(SHORT).min(fresh), begin: allowed / 2 }
    }

    fn is_late(self, started: Instant) -> bool {
        started.elapsed() >= self.begin
    }
}

/// A call that the batch waits for.
struct Waited<P> {
    at: usize,
    id: CallId,
    fresh: bool,
    task: Task<P>,
}

impl<P> Future for Waited<P> {
    type Output = (usize, Result<Result<P, Failure>, JoinError>);

    fn poll(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Self::Output> {
        let at = self.at;
        Pin::new(&mut self.task).poll(cx).map(|answer| (at, answer))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_slow_depends_on_what_is_usual() {
        let ms = Duration::from_millis;
        for (median, fresh, old) in [(0, 100, 10), (20, 100, 40), (100, 200, 200), (400, 800, 800)] {
            let limits = Limits::new(ms(100), ms(median));
            assert_eq!((limits.fresh, limits.old, limits.begin), (ms(fresh), ms(old), ms(50)), "{median}");
        }
    }
}
