//! The partition actor: claims its partition, then takes batches from its lane, one message at a time.
//!
//! It may die at any await: everything it must not lose is in PostgreSQL or in its [`Lane`].

use std::{marker::PhantomData, panic::AssertUnwindSafe, sync::Arc};

use futures_util::FutureExt;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::sync::oneshot;
use tracing::Instrument;

use super::{
    shared::Shared,
    work::{Next, Work},
};
use crate::{handler::Handler, lane::Lane, panics, status::LaneState};

/// Commands to a partition actor.
#[derive(Debug)]
pub(crate) enum Msg {
    /// There may be work.
    Work,
    /// An operator wants a halted partition to try again, or has changed its lease.
    Resume,
    /// Finish: nothing is in flight when the answer comes. True when everything emitted is acknowledged.
    Drain(oneshot::Sender<bool>),
}

/// The actor of one partition.
#[derive(Debug)]
pub(crate) struct PartitionActor<H>(PhantomData<fn() -> H>);

impl<H> Default for PartitionActor<H> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<H: Handler> Actor for PartitionActor<H> {
    type Msg = Msg;
    type State = Work<H>;
    type Arguments = (Arc<Shared<H>>, Arc<Lane>);

    async fn pre_start(
        &self,
        myself: ActorRef<Msg>,
        (shared, lane): Self::Arguments,
    ) -> Result<Work<H>, ActorProcessingErr> {
        lane.put_back();
        lane.set_state(LaneState::Claiming, None);
        lane.set_waker(move || {
            // An actor that has ended is replaced, and the lane gets another waker.
            myself.cast(Msg::Work).unwrap_or_default();
        });
        Ok(Work::new(shared, lane))
    }

    async fn handle(
        &self,
        myself: ActorRef<Msg>,
        message: Msg,
        work: &mut Work<H>,
    ) -> Result<(), ActorProcessingErr> {
        // Caught here, on the thread it happened on, for its place to be known; it ends the actor all the same.
        let span = work.lane.span.clone();
        let turn = AssertUnwindSafe(turn(myself, message, work).instrument(span));
        turn.catch_unwind().await.map_err(|panic| panics::describe(&*panic).into())
    }
}

/// What is done on a message.
async fn turn<H: Handler>(myself: ActorRef<Msg>, message: Msg, work: &mut Work<H>) {
    match message {
        Msg::Work => {}
        Msg::Resume => work.claim_again(),
        Msg::Drain(done) => {
            let clean = work.drain().await;
            // Whoever asked may have run out of patience.
            done.send(clean).unwrap_or_default();
            myself.stop(None);
            return;
        }
    }
    work.lane.looking();
    if work.lane.is_closing() {
        return;
    }
    let next = work.step().await;
    work.report();
    match next {
        Next::Again => work.lane.wake(),
        Next::Sleep(wait) => work.sleep(wait),
    }
}
