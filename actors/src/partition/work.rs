//! What a partition actor does when it is woken: one step, one batch at the most.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use chrono::DateTime;
use parking_lot::Mutex;
use tokio::{sync::SemaphorePermit, task::JoinHandle};

use super::{
    batch::intent,
    calls::Calls,
    pipeline::{self, BatchError, Context, fenced},
    requeue,
    shared::Shared,
    size::BatchSize,
};
use crate::{
    Cause,
    connection::Connection,
    handler::Handler,
    lane::{Lane, LaneKind},
    lease::{self, Claim, Intent, RecordAt},
    outbox::Streams,
    retry::{Chains, Circuit},
};

/// How soon an outbox that Kafka holds up is tried again.
pub(super) const HELD_UP: Duration = Duration::from_millis(100);

/// How soon a requeue lane looks again whether there is room.
const CROWDED: Duration = Duration::from_millis(250);
/// It says so when there was none for so long.
const CROWDED_LONG: Duration = Duration::from_secs(10);

/// What an actor works with; all of it is lost with the actor.
pub(crate) struct Work<H: Handler> {
    pub(super) shared: Arc<Shared<H>>,
    pub(super) lane: Arc<Lane>,
    pub(super) claim: Option<Claim>,
    pub(super) claimed_before: bool,
    pub(super) outbox: Streams,
    pub(super) chains: Chains,
    /// The last row of those that were put back that is known.
    pub(super) requeued_to: i64,
    pub(super) circuit: Circuit,
    /// Waiting records to take at the most: about as many as the last batch had time for.
    pub(super) appetite: usize,
    /// External calls that go on without a batch.
    pub(super) calls: Mutex<Calls<H::Prepared>>,
    /// Nothing is tried before.
    pub(super) not_before: Option<Instant>,
    pub(super) failures: u32,
    /// No external call is answered.
    pub(super) cut_off: Option<CutOff>,
    pub(super) use_hints: bool,
    /// The last batch was ignored, all of it: the next may hold whatever the window does, until events come again.
    pub(super) wide: bool,
    /// How many records a batch may hold.
    pub(super) size: BatchSize,
    /// Batches since the last commit that failed by a statement prepared before the tables changed.
    pub(super) stale: u32,
    /// A halted lane tries again then; `None` where somebody has to decide.
    pub(super) try_again: Option<Instant>,
    /// The last batch was of parked rows alone: the next is of fresh records, where the two do not mix.
    pub(super) rows_were_last: bool,
    pub(super) last_write: Instant,
    /// Since when a requeue lane finds no room where its records belong.
    crowded_since: Option<Instant>,
    timer: Option<JoinHandle<()>>,
}

/// A server that events of the lane need is gone. Those that need it wait, others pass; one at a time is a probe.
#[derive(Debug)]
pub(super) struct CutOff {
    pub(super) cause: Cause,
    pub(super) probe_at: Instant,
}

/// What to do after a step.
pub(super) enum Next {
    /// There may be more.
    Again,
    /// Nothing until then, or until somebody calls.
    Sleep(Option<Duration>),
}

impl<H: Handler> Work<H> {
    pub(super) fn new(shared: Arc<Shared<H>>, lane: Arc<Lane>) -> Self {
        let name = format!("{}/{}", shared.settings.group, lane.source);
        let outbox = Streams::new(&name, &shared.publisher, &lane.outbox);
        let chains = Chains::new(shared.settings.chain_max);
        let calls = Mutex::new(Calls::new(lane.clone()));
        let circuit = Circuit::new(shared.settings.circuit.clone(), shared.sample.clone());
        let size = BatchSize::new(shared.settings.batch_max_records);
        Self {
            shared,
            lane,
            claim: None,
            claimed_before: false,
            outbox,
            chains,
            requeued_to: 0,
            circuit,
            appetite: usize::MAX,
            calls,
            not_before: None,
            failures: 0,
            cut_off: None,
            use_hints: true,
            wide: false,
            size,
            stale: 0,
            try_again: None,
            rows_were_last: false,
            last_write: Instant::now(),
            crowded_since: None,
            timer: None,
        }
    }

    pub(super) async fn step(&mut self) -> Next {
        if self.lane.is_halted() && self.try_again.is_none_or(|at| at > Instant::now()) {
            return self.halted_step().await;
        }
        if let Some(wait) = self.not_before.map(|at| at.saturating_duration_since(Instant::now()))
            && !wait.is_zero()
        {
            return Next::Sleep(Some(wait));
        }
        self.not_before = None;
        if self.claim.is_some()
            && let Err(error) = self.look().await
        {
            return self.forgotten(error);
        }
        let Some(claim) = self.claim else { return self.take_claim().await };
        // Their answers are there: they have waited their turn, and come before all others that are due.
        for (key, id) in self.calls.get_mut().ended() {
            self.chains.delay(&key, id, DateTime::UNIX_EPOCH);
        }
        if let Some((cause, landmark)) = self.lane.log_mismatch() {
            return self.halt_on_log(&claim, &cause, landmark).await;
        }
        if self.outbox.is_behind() {
            return self.catch_up().await;
        }
        let waiting = self.outbox.backlog().rows;
        if waiting >= self.shared.settings.outbox_max_rows {
            return self
                .degrade(&Cause::new("outbox-full", format!("{waiting} rows of its outbox wait for Kafka")));
        }
        if self.lane.is_paused() {
            self.pause(&Cause::new("operator", "paused by an operator"));
            return self.idle(None).await;
        }
        let shared = self.shared.clone();
        // While it waits for its turn, the window goes on filling: the busier the process, the larger the batches.
        let permit = match pipeline::acquire(&shared).await {
            Ok(permit) => permit,
            Err(error) => return self.failed(error),
        };
        if self.lane.is_closing() {
            return Next::Sleep(None);
        }
        match self.lane.kind {
            LaneKind::Source => self.source_step(claim, permit).await,
            LaneKind::Requeue => self.requeue_step(claim, permit).await,
        }
    }

    async fn catch_up(&mut self) -> Next {
        match self.catch_up_once().await {
            Ok(true) => {
                self.reached();
                Next::Again
            }
            Ok(false) => Next::Sleep(Some(HELD_UP)),
            Err(trouble) => self.failed(trouble.into()),
        }
    }

    async fn source_step(&mut self, claim: Claim, permit: SemaphorePermit<'_>) -> Next {
        let full = self.full(&claim);
        if let Err(error) = self.read_on().await {
            return self.forgotten(error);
        }
        let due = self.due(full.is_some());
        let items = match self.items(&due, full).await {
            Ok(items) => items,
            Err(error) => return self.failed(error),
        };
        let Some(first) = items.first() else {
            drop(permit);
            if due.is_empty() {
                self.nothing_fails();
                // One that processes have died of, and that is still to be delivered, wakes the actor when it comes.
                let comes = matches!(self.lane.quarantine.deadly(), Some(RecordAt::Offset(_)));
                return self.idle(self.next_due().filter(|_| !comes)).await;
            }
            // Rows that somebody took out of the table: everything has to be learnt again.
            self.claim = None;
            return Next::Again;
        };
        let of_rows = first.parked.is_some();
        self.rows_were_last = of_rows && items.last().is_some_and(|item| item.parked.is_some());
        let quarantined =
            if of_rows { self.lane.quarantine.writes_rows_intent() } else { self.lane.writes_intent() };
        if quarantined && let Err(error) = self.write_intent(&claim, &intent(&items)).await {
            return self.failed(error);
        }
        let context = Context {
            shared: &self.shared,
            source: &self.lane.source,
            outbox: &self.outbox,
            hand: &self.lane,
            claim,
            chains: &self.chains,
            use_hints: self.use_hints,
            circuit: &self.circuit,
            calls: &self.calls,
            alone: self.lane.runs_apart(),
        };
        match pipeline::run(&context, items, permit).await {
            Ok(committed) => self.committed(committed),
            Err(error) => self.failed(error),
        }
    }

    async fn requeue_step(&mut self, claim: Claim, permit: SemaphorePermit<'_>) -> Next {
        let taken = self.lane.take(self.size.most(), self.shared.settings.batch_max_bytes);
        if taken.is_empty() {
            drop(permit);
            self.nothing_fails();
            return self.idle(None).await;
        }
        let context =
            requeue::Context { shared: &self.shared, source: &self.lane.source, outbox: &self.outbox, claim };
        let room = match requeue::room(&context, &taken).await {
            Ok(room) => room,
            Err(error) => return self.failed(error),
        };
        if room == 0 {
            drop(permit);
            return self.crowded();
        }
        self.crowded_since = None;
        self.lane.keep_in_flight(room);
        match requeue::run(&context, &taken[..room]).await {
            Ok(committed) => self.committed(committed),
            Err(error) => self.failed(error),
        }
    }

    /// Kafka keeps what is put back until its lane has run some of what was put back before.
    fn crowded(&mut self) -> Next {
        let since = *self.crowded_since.get_or_insert_with(Instant::now);
        self.lane.put_back();
        if since.elapsed() > CROWDED_LONG {
            let message = "what was put back before waits in its partition, and is not run".to_owned();
            self.pause(&Cause::new("requeued-full", message));
        }
        Next::Sleep(Some(CROWDED))
    }

    /// What waits is not known any more: half-read chains would let records of a key overtake.
    fn forgotten(&mut self, error: BatchError) -> Next {
        self.claim = None;
        self.failed(error)
    }

    async fn write_intent(&self, claim: &Claim, intent: &Intent) -> Result<(), BatchError> {
        let connection = Connection::get(&self.shared.pool).await?;
        let settings = &self.shared.settings;
        let write = lease::write_intent(&*connection, &settings.group, &self.lane.source, claim, intent);
        if !connection.write(&settings.limits, write).await? {
            return Err(fenced());
        }
        failpoint!(IntentWritten);
        Ok(())
    }

    pub(super) fn report(&self) {
        self.lane.set_counts(self.chains.len(), self.outbox.backlog());
    }

    pub(super) fn sleep(&mut self, wait: Option<Duration>) {
        if let Some(timer) = self.timer.take() {
            timer.abort();
        }
        if let Some(wait) = wait {
            let lane = self.lane.clone();
            self.timer = Some(tokio::spawn(async move {
                tokio::time::sleep(wait).await;
                lane.wake();
            }));
        }
    }
}
