//! What the handler does in the transaction: states are loaded, events decided, changes saved; or each event is handled by itself.

use chrono::{DateTime, Utc};
use deadpool_postgres::Transaction;
use tokio_postgres::{Error, error::SqlState};

use super::{
    context::Context,
    decide::{Decided, InOrder, after_failure, decide, no_emits, sized},
    errors::{ours, theirs},
    redo::{Aborted, Care, Redo},
};
use crate::{
    event::Emit,
    failure::Failure,
    handler::{Handler, Lock, SaveError},
    one_by_one::{HandleError, OneByOne},
    partition::batch::{Outcome, Slot},
    sql,
};

/// Gives every open slot its outcome. Returns what each slot emits.
pub(super) async fn effects<H: Handler>(
    tx: &Transaction<'_>,
    context: &Context<'_, H>,
    slots: &mut [Slot<H>],
    now: DateTime<Utc>,
    care: Care,
) -> Result<Vec<Vec<Emit>>, Aborted> {
    let handler = &context.shared.handler;
    if let Some(each) = handler.one_by_one() {
        return one_by_one(tx, context, slots, each, now, care).await;
    }
    let mut keys: Vec<H::Key> = slots.iter().filter_map(|slot| Some(slot.open()?.key.clone())).collect();
    if keys.is_empty() {
        return Ok(no_emits(slots));
    }
    keys.sort_unstable();
    keys.dedup();
    let loaded = handler.load(tx, &keys, Lock::ForUpdate).await.map_err(|error| theirs(&error))?;
    let Decided { changed, shared, emits, moot, notes } =
        decide(handler, &context.shared.settings.retry, slots, loaded, now)?;
    for (at, why) in moot {
        slots[at].moot = Some(why);
    }
    for (at, note) in notes {
        slots[at].note = Some(note);
    }
    let (mut saved, mut deleted) = (Vec::with_capacity(changed.len()), Vec::new());
    for (key, state) in changed {
        match state {
            Some(state) => saved.push((key, state)),
            None => deleted.push(key),
        }
    }
    let written = async {
        if !deleted.is_empty() {
            handler.delete(tx, &deleted).await?;
        }
        handler.save(tx, saved, shared).await
    };
    match written.await {
        Ok(()) => Ok(emits),
        Err(SaveError::Sql(error)) => Err(theirs(&error).into()),
        Err(SaveError::Keys(failed)) => Err(Redo::without(slots, &failed)),
    }
}

/// Hands each event to the handler in order. The first time no event fails, as nearly always; where one does, the batch is done again
/// with a savepoint for each, so that what a failed one has written goes and nothing else.
async fn one_by_one<H: Handler>(
    tx: &Transaction<'_>,
    context: &Context<'_, H>,
    slots: &mut [Slot<H>],
    each: &dyn OneByOne<H::Body>,
    now: DateTime<Utc>,
    care: Care,
) -> Result<Vec<Vec<Emit>>, Aborted> {
    let retry = &context.shared.settings.retry;
    let mut emits = no_emits(slots);
    let mut order = InOrder::default();
    for at in 0..slots.len() {
        if order.reach(slots, at)
            && let Some(event) = &slots[at].decoded
        {
            let handling = async {
                let emit = each.handle(tx, &event.attempt, &event.body).await?;
                sized(&emit).map_err(Failure::Permanent)?;
                Ok(emit)
            };
            let handled = match care {
                Care::None => handling.await,
                Care::Savepoints => apart(tx, handling).await.map_err(|error| ours(&error))?,
            };
            let failure = match handled {
                Ok(emit) => {
                    emits[at] = emit;
                    None
                }
                Err(HandleError::Failure(failure)) => Some(failure),
                Err(HandleError::Sql(error)) => match sql::failure_of_one(&error) {
                    Some(failure) => Some(failure),
                    // A server's fault, or that of the schema: no event's.
                    None => return Err(theirs(&error).into()),
                },
            };
            slots[at].outcome = match failure {
                None => Outcome::Applied,
                Some(_) if care == Care::None => return Err(Redo::WithSavepoints.into()),
                Some(failure) => after_failure(retry, &slots[at].item, true, failure, now),
            };
        }
        order.pass(&slots[at]);
    }
    Ok(emits)
}

/// Between a savepoint and its end. The outer error is that of these statements of ours.
async fn apart(
    tx: &Transaction<'_>,
    handling: impl Future<Output = Result<Vec<Emit>, HandleError>>,
) -> Result<Result<Vec<Emit>, HandleError>, Error> {
    // Sent along with the handler's first statement: no round trip.
    let (begun, handled) = tokio::join!(biased; tx.batch_execute("SAVEPOINT event"), handling);
    begun?;
    let undo = "ROLLBACK TO event; RELEASE event";
    if handled.is_err() {
        tx.batch_execute(undo).await?;
        return Ok(handled);
    }
    match tx.batch_execute("RELEASE event").await {
        Ok(()) => Ok(handled),
        Err(error) if error.code() == Some(&SqlState::IN_FAILED_SQL_TRANSACTION) => {
            tx.batch_execute(undo).await?;
            let message = "a statement of the handler failed, and it did not pass the error on";
            Ok(Err(Failure::permanent("error-swallowed", message).into()))
        }
        Err(error) => Err(error),
    }
}
