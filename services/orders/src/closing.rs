//! Ends orders before they are delivered: those that a customer cancels, and those whose time is over.
//!
//! One task does both, many orders in a transaction: it locks them, decides, and writes with each the event that says so. Lanes that
//! bring news of the same orders, and other instances that look for the same overdue ones, wait for those locks or pass them by: so that
//! of a cancel, a time-out and a delivery one is first and the others find what it has made of the order. Nothing about a deadline is
//! kept in memory: it follows from when an order was placed.

use std::{
    collections::HashSet,
    time::{Duration, SystemTime},
};

use actors::{Cause, Emit, Loaded, Lock, Publisher};
use chassis::{Correlation, events, shutdown::Listener, traces};
use chrono::Utc;
use contracts::{Envelope, topics};
use deadpool_postgres::{Pool, Transaction};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, MissedTickBehavior, interval, sleep, timeout},
};
use tokio_postgres::Error;
use uuid::Uuid;

use crate::{
    domain::{self, Close, Order, Status, TooLate},
    intake, metrics,
    store::{self, Late, Overdue},
    timeline::TimelineEntry,
    transact::{Failed, Transactor, Work},
};

/// Requests that may wait.
const QUEUE: usize = 1_024;
/// Orders ended together.
const BATCH: usize = 200;
/// Rows that cannot be read, of which so many are passed by.
const MAX_UNREADABLE: usize = 10_000;
/// How often orders are looked for whose time is over.
const LOOK: Duration = Duration::from_secs(1);
/// A request that has waited for this long is answered that its outcome is not known.
const ANSWER_LIMIT: Duration = Duration::from_secs(8);
/// Time spent on finding out whether a commit happened.
const FIND_OUT_LIMIT: Duration = Duration::from_secs(5);
/// As the intake's: what this process leaves is published by the heirs of either, whichever version of the service they are of.
const LANE_PREFIX: &str = intake::LANE_PREFIX;
/// How long an order's deadline waits for what lies unread.
const UNREAD_GRACE: Duration = Duration::from_secs(600);

/// An order was not cancelled, as far as is known.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum Refusal {
    /// Nobody has placed it.
    #[error("there is no order of this id")]
    NoOrder,
    /// It is delivered.
    #[error(transparent)]
    TooLate(#[from] TooLate),
    /// Nothing was done.
    #[error("{0}, this request has done nothing")]
    Unavailable(&'static str),
    /// It may have been.
    #[error(
        "it is not known whether the order was cancelled: look at it, or send the request again, which cancels it once \
         however often it is sent"
    )]
    Unknown,
}

/// A customer's wish.
#[derive(Debug)]
pub struct Job {
    /// Which order is not wanted any more.
    pub order_id: Uuid,
    /// By which request.
    pub correlation: Correlation,
    /// Whom to tell.
    pub reply: oneshot::Sender<Result<Status, Refusal>>,
}

/// Where cancels come in. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Closer(mpsc::Sender<Job>);

/// A way in, and what comes by it.
pub fn closer(capacity: usize) -> (Closer, mpsc::Receiver<Job>) {
    let (sender, receiver) = mpsc::channel(capacity);
    (Closer(sender), receiver)
}

impl Closer {
    /// Cancels an order; one that is cancelled, or about to be, stays so. Answers once it is durable, with where the order is then.
    ///
    /// # Errors
    /// See [`Refusal`].
    pub async fn cancel(&self, order_id: Uuid, correlation: Correlation) -> Result<Status, Refusal> {
        let (reply, answer) = oneshot::channel();
        self.0.try_send(Job { order_id, correlation, reply }).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => Refusal::Unavailable("too many cancels are waiting"),
            mpsc::error::TrySendError::Closed(_) => Refusal::Unavailable("this instance is shutting down"),
        })?;
        match timeout(ANSWER_LIMIT, answer).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) | Err(_) => Err(Refusal::Unknown),
        }
    }
}

/// Opens the way in and the outbox behind it. Orders that have not ended within `time_out` are ended.
///
/// # Errors
/// When PostgreSQL cannot be reached.
pub async fn open(pool: Pool, publisher: Publisher, time_out: Duration) -> Result<(Closer, Closing), Cause> {
    let (closer, jobs) = closer(QUEUE);
    let transactor = Transactor::open(pool, publisher, LANE_PREFIX).await?;
    Ok((closer, Closing { jobs, transactor, time_out, unreadable: HashSet::new() }))
}

/// The task behind it.
#[derive(Debug)]
pub struct Closing {
    jobs: mpsc::Receiver<Job>,
    transactor: Transactor,
    time_out: Duration,
    /// Overdue orders whose rows cannot be read, as they were said.
    unreadable: HashSet<Uuid>,
}

impl Closing {
    /// Works until `closing` fires and what had come in by then is answered; then waits, at most `limit`, for Kafka to have all of it.
    /// True when Kafka has; else another instance will publish the rest.
    pub async fn run(mut self, closing: Listener, limit: Duration) -> bool {
        let mut jobs = Vec::with_capacity(BATCH);
        let mut look = interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                received = self.jobs.recv_many(&mut jobs, BATCH) => {
                    if received == 0 {
                        break;
                    }
                    self.serve(std::mem::take(&mut jobs)).await;
                }
                () = self.transactor.ended() => {
                    tracing::error!("nobody keeps the outbox instance any more; orders are not ended any more");
                    return false;
                }
                () = closing.clone().fired(), if !self.jobs.is_closed() => self.jobs.close(),
                // A batch at a time: whoever cancels does not wait for all that are late.
                _ = look.tick(), if !self.jobs.is_closed() => if self.end_overdue().await {
                    look.reset_immediately();
                },
            }
        }
        self.transactor.close(limit).await
    }

    async fn serve(&mut self, mut jobs: Vec<Job>) {
        // Whoever hung up while waiting was promised nothing.
        jobs.retain(|job| !job.reply.is_closed());
        if jobs.is_empty() {
            return;
        }
        let (started, mut unknown) = (Instant::now(), false);
        let answers = loop {
            let failed = match self.cancel(&jobs).await {
                Ok(answers) => break answers,
                Err(failed) => failed,
            };
            unknown |= matches!(failed, Failed::Unknown(_));
            // Asked again, it finds what was done; but not for longer than the client waits.
            if !unknown || started.elapsed() > FIND_OUT_LIMIT {
                tracing::error!(error = %failed, orders = jobs.len(), "orders could not be cancelled");
                // What may have been done is not undone by a try that came to nothing.
                let refusal = if unknown {
                    Refusal::Unknown
                } else {
                    Refusal::Unavailable("orders cannot be changed now")
                };
                break vec![Err(refusal); jobs.len()];
            }
            sleep(Duration::from_millis(200)).await;
        };
        for (job, answer) in jobs.into_iter().zip(answers) {
            // Whoever hung up meanwhile finds the order as it is.
            let _gone = job.reply.send(answer);
        }
    }

    /// One answer for each job.
    async fn cancel(&mut self, jobs: &[Job]) -> Result<Vec<Result<Status, Refusal>>, Failed> {
        let (ended, answers) = self.transactor.commit(&mut Cancelling(jobs)).await?;
        said(&ended, "order cancelled by the customer");
        Ok(answers)
    }

    /// Ends some of the orders whose time is over; whether there may be more.
    async fn end_overdue(&mut self) -> bool {
        let mut more = false;
        for state in [Status::Pending, Status::Paid] {
            let without: Vec<Uuid> = self.unreadable.iter().copied().collect();
            let started = SystemTime::now();
            let mut ending = EndingOverdue { state, time_out: self.time_out, without: &without };
            let (ended, unreadable) = match self.transactor.commit(&mut ending).await {
                Ok(done) => done,
                Err(failed) => {
                    // One look of many: the next one finds them again.
                    tracing::warn!(error = %failed, "orders whose time is over could not be ended; trying again");
                    return false;
                }
            };
            for order_id in &unreadable {
                tracing::error!(%order_id, "the order is over its time, and its row holds what none may: it is not ended");
            }
            more |= ended.len() + unreadable.len() >= BATCH;
            if self.unreadable.len() < MAX_UNREADABLE {
                self.unreadable.extend(unreadable);
            }
            said(&ended, "order ended: its time is over");
            // Nobody asked for it: each begins a trace.
            ended.iter().for_each(|one| traces::began("end overdue order", &one.by, started));
        }
        more
    }
}

/// What customers wish: an answer for each job.
struct Cancelling<'a>(&'a [Job]);

impl Work for Cancelling<'_> {
    type Done = (Vec<Ended>, Vec<Result<Status, Refusal>>);

    async fn run(&mut self, tx: &Transaction<'_>) -> Result<(Self::Done, Vec<Emit>), Error> {
        let mut ids: Vec<Uuid> = self.0.iter().map(|job| job.order_id).collect();
        ids.sort_unstable();
        ids.dedup();
        let Loaded { mut states, unreadable, .. } = store::load(tx, &ids, Lock::ForUpdate).await?;
        let mut batch = Batch::default();
        let mut answers = Vec::with_capacity(self.0.len());
        for Job { order_id, correlation, .. } in self.0 {
            answers.push(match states.get_mut(order_id) {
                Some(order) => {
                    batch.close(*order_id, order, Close::ByCustomer, correlation).map_err(Into::into)
                }
                None if unreadable.contains_key(order_id) => {
                    Err(Refusal::Unavailable("the order's row holds what none may"))
                }
                None => Err(Refusal::NoOrder),
            });
        }
        let (ended, emits) = batch.save(tx).await?;
        Ok(((ended, answers), emits))
    }
}

/// Orders whose time is over, and those that cannot be read.
struct EndingOverdue<'a> {
    state: Status,
    time_out: Duration,
    without: &'a [Uuid],
}

impl Work for EndingOverdue<'_> {
    type Done = (Vec<Ended>, Vec<Uuid>);

    async fn run(&mut self, tx: &Transaction<'_>) -> Result<(Self::Done, Vec<Emit>), Error> {
        let limit = i64::try_from(BATCH).unwrap_or(i64::MAX);
        let Self { state, time_out, without } = *self;
        let heard = actors::caught_up(tx, topics::ORDERS_GROUP, &crate::READS).await?;
        let overdue = Overdue { state, time_out, heard, grace: UNREAD_GRACE, without };
        let Late { orders, unreadable } = store::overdue(tx, overdue, limit).await?;
        let mut batch = Batch::default();
        for (id, mut order, correlation_id) in orders {
            let by = Correlation::of_id(correlation_id);
            // None of them is delivered: it was asked for those that are not.
            let _too_late = batch.close(id, &mut order, Close::TimedOut(time_out), &by);
        }
        let (ended, emits) = batch.save(tx).await?;
        Ok(((ended, unreadable), emits))
    }
}

/// An order that was ended, for the log.
struct Ended {
    order_id: Uuid,
    by: Correlation,
    status: Status,
}

fn said(ended: &[Ended], what: &'static str) {
    for Ended { order_id, by, status } in ended {
        tracing::info!(%order_id, correlation_id = by.id, %status, "{what}");
    }
}

/// What a transaction changes.
#[derive(Default)]
struct Batch {
    changed: Vec<(Uuid, Order)>,
    emits: Vec<Emit>,
    ended: Vec<Ended>,
}

impl Batch {
    /// Ends `order`, unless it is ending already; of several wishes for one order the first counts.
    fn close(
        &mut self,
        order_id: Uuid,
        order: &mut Order,
        why: Close,
        by: &Correlation,
    ) -> Result<Status, TooLate> {
        let now = Utc::now();
        let domain::Outcome { order: closed, event } = domain::close(order_id, order, why, now)?;
        *order = closed;
        let Some(event) = event else { return Ok(order.status) };
        let envelope = Envelope {
            event_id: Uuid::now_v7(),
            occurred_at: now,
            correlation_id: by.id.clone(),
            causation_id: None,
            event,
        };
        order.unsaved.push(TimelineEntry::new(&envelope, now, order.version));
        self.emits.push(events::emit(&envelope, Some(&by.traceparent)));
        self.ended.push(Ended { order_id, by: by.clone(), status: order.status });
        self.changed.push((order_id, order.clone()));
        Ok(order.status)
    }

    async fn save(self, tx: &Transaction<'_>) -> Result<(Vec<Ended>, Vec<Emit>), Error> {
        store::save(tx, &self.changed).await?;
        metrics::ended(&self.changed);
        Ok((self.ended, self.emits))
    }
}
