//! What a partition actor does when it is woken: one step, one batch at the most.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use chrono::Utc;
use tokio::task::JoinHandle;

use super::{
    batch::Item,
    pipeline::{self, BatchError, Context, no_connection, ours},
    requeue,
};
use crate::{
    Cause,
    consumer::{Lane, LaneKind},
    dead_letter::Class,
    group::Shared,
    handler::Handler,
    lease::{self, Claim},
    outbox::{self, Relay},
    record::Offset,
    retry::{self, Chains},
    status::LaneState,
};

/// How soon an outbox that Kafka holds up is tried again.
pub(super) const HELD_UP: Duration = Duration::from_millis(100);
/// Acknowledged rows of an idle lane are deleted after this.
const IDLE: Duration = Duration::from_secs(1);

/// What an actor works with; all of it is lost with the actor.
pub(crate) struct Work<H: Handler> {
    pub(super) shared: Arc<Shared<H>>,
    pub(super) lane: Arc<Lane>,
    pub(super) claim: Option<Claim>,
    pub(super) claimed_before: bool,
    pub(super) relay: Relay,
    pub(super) chains: Chains,
    /// Nothing is tried before.
    pub(super) not_before: Option<Instant>,
    pub(super) failures: u32,
    pub(super) use_hints: bool,
    /// This record's values were refused: it is not tried again.
    pub(super) blamed: Option<(Place, Cause)>,
    pub(super) last_write: Instant,
    timer: Option<JoinHandle<()>>,
}

/// Which record is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// One of the window.
    Offset(Offset),
    /// A row of `parked`.
    Parked(i64),
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
        let relay = Relay::new(name, shared.publisher.clone());
        Self {
            shared,
            lane,
            claim: None,
            claimed_before: false,
            relay,
            chains: Chains::default(),
            not_before: None,
            failures: 0,
            use_hints: true,
            blamed: None,
            last_write: Instant::now(),
            timer: None,
        }
    }

    pub(super) async fn step(&mut self) -> Next {
        if self.lane.state() == LaneState::Halted {
            return Next::Sleep(None);
        }
        if let Some(wait) = self.not_before.map(|at| at.saturating_duration_since(Instant::now()))
            && !wait.is_zero()
        {
            return Next::Sleep(Some(wait));
        }
        self.not_before = None;
        let Some(claim) = self.claim else { return self.take_claim().await };
        if self.relay.is_behind() {
            return self.catch_up().await;
        }
        if self.relay.backlog().rows >= self.shared.settings.outbox_max_rows {
            return Next::Sleep(Some(HELD_UP));
        }
        match self.lane.kind {
            LaneKind::Source => self.source_step(claim).await,
            LaneKind::Requeue => self.requeue_step(claim).await,
        }
    }

    async fn catch_up(&mut self) -> Next {
        let caught_up = match self.shared.pool.get().await {
            Ok(client) => self.relay.catch_up(&client).await.map_err(|error| ours(&error)),
            Err(error) => Err(no_connection(&error)),
        };
        match caught_up {
            Ok(true) => Next::Again,
            Ok(false) => Next::Sleep(Some(HELD_UP)),
            Err(error) => self.failed(error, None),
        }
    }

    async fn source_step(&mut self, claim: Claim) -> Next {
        let settings = &self.shared.settings;
        let limit = if self.lane.parked_solo() { 1 } else { settings.batch_max_records };
        let due = self.chains.due(Utc::now(), limit);
        let items =
            if due.is_empty() { self.fresh(settings.batch_max_records) } else { self.waited(&due).await };
        let items = match items {
            Ok(items) => items,
            Err(error) => return self.failed(error, None),
        };
        let Some(first) = items.first() else {
            if due.is_empty() {
                return self.idle(claim).await;
            }
            // Rows that somebody took out of the table.
            self.reload_chains().await;
            return Next::Again;
        };
        let only = (items.len() == 1).then(|| place(first));
        let context = Context {
            shared: &self.shared,
            source: &self.lane.source,
            lane: self.relay.lane(),
            claim,
            chains: &self.chains,
            deletable: self.relay.deletable(),
            use_hints: self.use_hints,
        };
        match pipeline::run(&context, items).await {
            Ok(committed) => self.committed(committed).await,
            Err(error) => self.failed(error, only),
        }
    }

    async fn requeue_step(&mut self, claim: Claim) -> Next {
        let settings = &self.shared.settings;
        let records = self.lane.take(settings.batch_max_records, settings.batch_max_bytes);
        if records.is_empty() {
            return self.idle(claim).await;
        }
        let context = requeue::Context {
            shared: &self.shared,
            source: &self.lane.source,
            lane: self.relay.lane(),
            claim,
            deletable: self.relay.deletable(),
        };
        match requeue::run(&context, &records).await {
            Ok(committed) => self.committed(committed).await,
            Err(error) => self.failed(error, None),
        }
    }

    /// The next records of the window, unless too many wait already.
    fn fresh(&self, limit: usize) -> Result<Vec<Item>, BatchError> {
        let settings = &self.shared.settings;
        if self.chains.len() >= settings.parked_max {
            return Ok(Vec::new());
        }
        let records = self.lane.take(limit, settings.batch_max_bytes);
        Ok(records
            .into_iter()
            .map(|record| {
                let crashes = self.lane.crashes(record.offset);
                self.judged(Item::fresh(record, crashes))
            })
            .collect())
    }

    /// Waiting records whose time has come.
    async fn waited(&self, ids: &[i64]) -> Result<Vec<Item>, BatchError> {
        let client = self.shared.pool.get().await.map_err(|error| no_connection(&error))?;
        let rows = retry::fetch(&client, &self.lane.source, ids).await.map_err(|error| ours(&error))?;
        self.lane.take_parked(&rows.iter().map(|row| row.id).collect::<Vec<_>>());
        Ok(rows.into_iter().map(|row| self.judged(Item::waited(row))).collect())
    }

    /// A record that has killed as many actors as one may, or that a constraint blames, is not tried again.
    fn judged(&self, mut item: Item) -> Item {
        if item.crashes >= self.shared.settings.crash_limit {
            let panic = self.lane.last_panic().unwrap_or_else(|| "an actor died on it".to_owned());
            item.verdict = Some((Class::Crash, Cause::new("crash", panic)));
        }
        if let Some((_, cause)) = self.blamed.as_ref().filter(|(blamed, _)| *blamed == place(&item)) {
            item.verdict = Some((Class::Permanent, cause.clone()));
        }
        item
    }

    /// Nothing to do: deletes what Kafka has acknowledged, once the lane has been quiet for a while.
    async fn idle(&mut self, claim: Claim) -> Next {
        let due =
            self.chains.next_due().map(|at| (at - Utc::now()).to_std().unwrap_or(Duration::from_millis(1)));
        let Some(seq) = self.relay.deletable() else {
            let unacknowledged = (self.relay.backlog().rows > 0).then_some(IDLE);
            return Next::Sleep(due.into_iter().chain(unacknowledged).min());
        };
        let quiet = self.last_write.elapsed();
        if quiet < IDLE {
            return Next::Sleep(due.into_iter().chain([IDLE - quiet]).min());
        }
        match self.shared.pool.get().await {
            Ok(client) => match outbox::delete_prefix(&client, self.relay.lane(), seq).await {
                Ok(()) => self.relay.deleted(seq),
                Err(error) => return self.failed(ours(&error), None),
            },
            Err(error) => return self.failed(no_connection(&error), None),
        }
        self.claim = Some(claim);
        Next::Again
    }

    /// Leaves nothing half done. What Kafka has not acknowledged in time stays in the outbox for the successor.
    pub(super) async fn drain(&mut self) -> bool {
        let Some(claim) = self.claim else { return true };
        let limit = self.shared.settings.drain / 2;
        // A lane claimed a moment ago may not have published yet what its predecessor left.
        let settled = tokio::time::timeout(limit, self.settle(limit)).await.unwrap_or(false);
        let finish = async {
            let client = self.shared.pool.get().await.map_err(|error| no_connection(&error))?;
            if let Some(seq) = self.relay.deletable() {
                outbox::delete_prefix(&client, self.relay.lane(), seq).await.map_err(|error| ours(&error))?;
            }
            lease::release(&client, &self.shared.settings.group, &self.lane.source, &claim)
                .await
                .map_err(|error| ours(&error))
        };
        match finish.await {
            Ok(()) => settled,
            Err(error) => {
                tracing::warn!(
                    topic = &*self.lane.source.topic,
                    partition = self.lane.source.partition,
                    ?error,
                    "the partition leaves without saying so to PostgreSQL; its successor finds out"
                );
                false
            }
        }
    }

    /// Publishes what the outbox still holds and waits for Kafka to acknowledge all of it. True when it did.
    async fn settle(&mut self, limit: Duration) -> bool {
        while self.relay.is_behind() {
            let Ok(client) = self.shared.pool.get().await else { return false };
            match self.relay.catch_up(&client).await {
                Ok(true) => break,
                Ok(false) => tokio::time::sleep(HELD_UP).await,
                Err(_) => return false,
            }
        }
        self.relay.settled(limit).await
    }

    pub(super) fn report(&self) {
        let backlog = self.relay.backlog();
        self.lane.set_counts(self.chains.len(), backlog.rows);
        self.shared.gauges(&self.lane, self.chains.len(), backlog);
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
