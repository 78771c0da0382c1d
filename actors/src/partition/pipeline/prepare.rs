//! External effects, before the transaction: no lock and no connection is held while somebody else takes their time.

use futures_util::{StreamExt, stream};

use super::{BatchError, Context, no_connection, theirs};
use crate::{
    failure::Failure,
    handler::{Handler, Lock},
    partition::batch::Slot,
};

/// The slots whose events ask for an external call.
pub(super) fn wanted<H: Handler>(handler: &H, slots: &[Slot<H>]) -> Vec<usize> {
    (0..slots.len()).filter(|at| slots[*at].wants_prepare(handler)).collect()
}

/// Calls `prepare` for the `wanted` events, keys side by side. After [`cut`](crate::partition::batch::cut) every key has at
/// most one, so each sees its key's last committed state.
pub(super) async fn prepare<H: Handler>(
    context: &Context<'_, H>,
    slots: &mut [Slot<H>],
    wanted: &[usize],
) -> Result<(), BatchError> {
    let handler = &context.shared.handler;
    let mut keys: Vec<H::Key> = wanted.iter().filter_map(|at| Some(slots[*at].open()?.key.clone())).collect();
    keys.sort_unstable();
    let states = {
        let client = context.shared.pool.get().await.map_err(|error| no_connection(&error))?;
        handler.load(&client, &keys, Lock::None).await.map_err(|error| theirs(&error))?.states
    };
    let calls: Vec<_> = wanted
        .iter()
        .filter_map(|at| {
            let event = slots[*at].open()?;
            let state = states.get(&event.key);
            Some(async move { (*at, handler.prepare(&event.attempt, &event.body, state).await) })
        })
        .collect();
    let prepared: Vec<(usize, Result<H::Prepared, Failure>)> = stream::iter(calls)
        .buffer_unordered(context.shared.settings.prepare_concurrency.max(1))
        .collect()
        .await;
    for (at, result) in prepared {
        if let Err(Failure::Unreachable(cause)) = result {
            return Err(BatchError::Unreachable(cause));
        }
        slots[at].prepared = Some(result);
    }
    Ok(())
}
