//! What a partition actor does when it is woken: one step, one batch at the most.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use chrono::DateTime;
use parking_lot::Mutex;
use tokio::{sync::SemaphorePermit, task::JoinHandle};

use super::{
    batch::{Item, PROCESS_DEATH},
    calls::Calls,
    pipeline::{self, BatchError, Context, fenced, no_connection, ours},
    requeue,
};
use crate::{
    Cause,
    consumer::{Lane, LaneKind},
    dead_letter::Class,
    group::Shared,
    handler::Handler,
    lease::{self, Claim, Place},
    outbox::Streams,
    retry::{self, Chains, Circuit},
    status::LaneState,
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
    /// This record's values were refused: it is not tried again.
    pub(super) blamed: Option<(Place, Cause)>,
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
            blamed: None,
            last_write: Instant::now(),
            crowded_since: None,
            timer: None,
        }
    }

    pub(super) async fn step(&mut self) -> Next {
        if self.lane.is_halted() {
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
        if let Some((cause, landmark)) = self.lane.strange() {
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
            Err(error) => return self.failed(error, None),
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
        let caught_up = match self.shared.pool.get().await {
            Ok(client) => self.outbox.catch_up(&client).await.map_err(|error| ours(&error)),
            Err(error) => Err(no_connection(&error)),
        };
        match caught_up {
            Ok(true) => {
                self.reached();
                Next::Again
            }
            Ok(false) => Next::Sleep(Some(HELD_UP)),
            Err(error) => self.failed(error, None),
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
            Err(error) => return self.failed(error, None),
        };
        let Some(first) = items.first() else {
            drop(permit);
            if due.is_empty() {
                return self.idle(self.next_due()).await;
            }
            // Rows that somebody took out of the table: everything has to be learnt again.
            self.claim = None;
            return Next::Again;
        };
        let only = (items.len() == 1).then(|| place(first));
        if let Some(place) = only.filter(|_| self.lane.is_careful())
            && let Err(error) = self.write_intent(&claim, place).await
        {
            return self.failed(error, None);
        }
        let context = Context {
            shared: &self.shared,
            source: &self.lane.source,
            outbox: &self.outbox,
            claim,
            chains: &self.chains,
            use_hints: self.use_hints,
            circuit: &self.circuit,
            calls: &self.calls,
            alone: self.lane.is_careful() || self.lane.is_solo(),
        };
        match pipeline::run(&context, items, permit).await {
            Ok(committed) => self.committed(committed),
            Err(error) => self.failed(error, only),
        }
    }

    async fn requeue_step(&mut self, claim: Claim, permit: SemaphorePermit<'_>) -> Next {
        let settings = &self.shared.settings;
        let taken = self.lane.take(settings.batch_max_records, settings.batch_max_bytes);
        if taken.is_empty() {
            drop(permit);
            return self.idle(None).await;
        }
        let context =
            requeue::Context { shared: &self.shared, source: &self.lane.source, outbox: &self.outbox, claim };
        let room = match requeue::room(&context, &taken).await {
            Ok(room) => room,
            Err(error) => return self.failed(error, None),
        };
        if room == 0 {
            drop(permit);
            return self.crowded();
        }
        self.crowded_since = None;
        match requeue::run(&context, &taken[..room]).await {
            Ok(committed) => self.committed(committed),
            Err(error) => self.failed(error, None),
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

    /// The next batch: what waits and is due, and behind it what is new, in one transaction: a few retries must not cost as
    /// much as many new records.
    async fn items(&mut self, due: &[i64], full: Option<Cause>) -> Result<Vec<Item>, BatchError> {
        let mut items = if due.is_empty() { Vec::new() } else { self.waited(due).await? };
        if let Some(cause) = full {
            if due.is_empty() {
                self.pause(&cause);
            }
            return Ok(items);
        }
        if due.is_empty() || self.runs_in_batches() {
            let settings = &self.shared.settings;
            let bytes: usize = items.iter().map(|item| item.record.size()).sum();
            let most = if self.wide { settings.lane_max_records } else { settings.batch_max_records };
            let records = most.saturating_sub(items.len());
            let bytes = settings.batch_max_bytes.saturating_sub(bytes);
            items.extend(self.fresh(records, bytes));
        }
        Ok(items)
    }

    /// Whether nothing has to be tried on its own.
    fn runs_in_batches(&self) -> bool {
        !self.lane.is_careful() && !self.lane.is_solo() && !self.circuit.is_open()
    }

    /// What waits is not known any more: half-read chains would let records of a key overtake.
    fn forgotten(&mut self, error: BatchError) -> Next {
        self.claim = None;
        self.failed(error, None)
    }

    /// Why nothing new may be taken, if so many records wait. Those that were put back do not count: they are bounded where
    /// they come from.
    fn full(&self, claim: &Claim) -> Option<Cause> {
        let settings = &self.shared.settings;
        let waiting = claim.parked;
        if usize::try_from(waiting).is_ok_and(|waiting| waiting >= settings.parked_max) {
            return Some(Cause::new("parked-full", format!("{waiting} records of this partition wait")));
        }
        let full = self.chains.has_full();
        full.then(|| Cause::new("chain-full", format!("{} records of one key wait", settings.chain_max)))
    }

    /// Waiting records to run now; none when it is the window's turn.
    fn due(&self, full: bool) -> Vec<i64> {
        let settings = &self.shared.settings;
        let now = self.shared.clock.now();
        // What processes have died of comes first, so that nothing else's progress hides it.
        match self.lane.suspect().map(|(place, _)| place) {
            Some(Place::Offset(offset)) if !full && self.lane.may_come(offset) => return Vec::new(),
            Some(Place::Parked(id)) if self.chains.is_due(id, now) => return vec![id],
            _ => {}
        }
        if self.circuit.wants_fresh() && !full && self.lane.front().is_some() {
            return Vec::new();
        }
        if self.cut_off.as_ref().is_some_and(|cut_off| cut_off.probe_at > Instant::now()) {
            return Vec::new();
        }
        let alone = self.lane.parked_solo() || self.lane.is_careful() || self.cut_off.is_some();
        let limit = if alone { 1 } else { self.circuit.limit(settings.batch_max_records).min(self.appetite) };
        // While new records wait, what is old leaves them half of the batch.
        let shares = !full && self.runs_in_batches() && self.lane.front().is_some();
        let (limit, bytes) = match shares {
            true => (limit.div_ceil(2), settings.batch_max_bytes / 2),
            false => (limit, settings.batch_max_bytes),
        };
        self.chains.due(now, limit, bytes)
    }

    /// How long until some that wait are to run.
    fn next_due(&self) -> Option<Duration> {
        let now = self.shared.clock.now();
        let due = (self.chains.next_due()? - now).to_std().unwrap_or_default();
        let probe =
            self.cut_off.as_ref().map(|cut_off| cut_off.probe_at.saturating_duration_since(Instant::now()));
        Some(due.max(probe.unwrap_or_default()).max(Duration::from_millis(1)))
    }

    /// The next of the window, at most so many records and bytes.
    fn fresh(&mut self, records: usize, bytes: usize) -> Vec<Item> {
        if self.lane.state() == LaneState::Paused {
            self.recovered();
        }
        if records == 0 || bytes == 0 {
            return Vec::new();
        }
        let taken = self.lane.take(self.circuit.limit(records), bytes);
        taken.into_iter().map(|taken| self.judged(Item::fresh(taken))).collect()
    }

    /// Waiting records whose time has come.
    async fn waited(&self, ids: &[i64]) -> Result<Vec<Item>, BatchError> {
        let client = self.shared.pool.get().await.map_err(|error| no_connection(&error))?;
        let rows = retry::fetch(&client, &self.lane.source, ids).await.map_err(|error| ours(&error))?;
        self.lane.take_parked(&rows.iter().map(|row| row.id).collect::<Vec<_>>());
        failpoint!(ParkedFetched);
        Ok(rows.into_iter().map(|row| self.judged(Item::waited(row))).collect())
    }

    /// A record that has killed as many actors or processes as one may, or that a constraint blames, is not tried again.
    fn judged(&self, mut item: Item) -> Item {
        let settings = &self.shared.settings;
        let here = place(&item);
        if item.crashes >= settings.crash_limit {
            let panic = self.lane.last_panic().unwrap_or_else(|| "an actor died on it".to_owned());
            item.verdict = Some((Class::Crash, Cause::new("crash", panic)));
        }
        let suspect = self.lane.suspect().filter(|(place, _)| *place == here);
        if let Some((_, deaths)) = suspect.filter(|(_, deaths)| *deaths >= settings.death_limit) {
            let message =
                format!("{deaths} processes ended without a word while they tried this record alone");
            item.verdict = Some((Class::Crash, Cause::new(PROCESS_DEATH, message)));
        }
        if let Some((_, cause)) = self.blamed.as_ref().filter(|(blamed, _)| *blamed == here) {
            item.verdict = Some((Class::Permanent, cause.clone()));
        }
        item
    }

    async fn write_intent(&self, claim: &Claim, place: Place) -> Result<(), BatchError> {
        let client = self.shared.pool.get().await.map_err(|error| no_connection(&error))?;
        let group = &self.shared.settings.group;
        let written = lease::write_intent(&client, group, &self.lane.source, claim, place).await;
        if !written.map_err(|error| ours(&error))? {
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

fn place(item: &Item) -> Place {
    item.parked.map_or(Place::Offset(item.record.offset), |waited| Place::Parked(waited.id))
}
