//! Takes orders in, many at a time.
//!
//! A transaction for each order would spend most of its time waiting for the disk. Here one task takes whatever is
//! waiting, inserts it with the events that announce it in one transaction, and then answers everybody: the busier it
//! gets, the larger the batches. A request is answered once its order is durable, and not before.

mod door;

use std::time::Duration;

use actors::{
    Backlog, Cause, Emit, Publisher,
    connection::{Connection, Limits, Trouble},
};
use chassis::shutdown::Listener;
use deadpool_postgres::{Pool, Transaction};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep},
};
use uuid::Uuid;

pub use self::door::{Door, Job, Placed, Refusal, door};
use crate::{
    idempotency::{Claimed, claims},
    metrics,
    store::{self, keys},
    transact::{Failed, Transactor, Work},
};

/// Requests that may wait.
const QUEUE: usize = 4_096;
/// Orders committed together.
const BATCH: usize = 500;
/// Time spent on finding out whether a commit happened.
const FIND_OUT_LIMIT: Duration = Duration::from_secs(5);
/// How often an outcome that was not found out by then is looked for.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// Names the outbox lanes of the intakes of all instances.
pub(crate) const LANE_PREFIX: &str = "orders-http";

/// Opens the door and the outbox behind it.
///
/// # Errors
/// When PostgreSQL cannot be reached.
pub async fn open(pool: Pool, publisher: Publisher, outbox_limit: usize) -> Result<(Door, Intake), Cause> {
    let (door, jobs) = door(QUEUE);
    let transactor = Transactor::open(pool, publisher, LANE_PREFIX).await?;
    Ok((door, Intake { jobs, transactor, outbox_limit }))
}

/// The task behind the door.
#[derive(Debug)]
pub struct Intake {
    jobs: mpsc::Receiver<Job>,
    transactor: Transactor,
    outbox_limit: usize,
}

impl Intake {
    /// Works until `closing` fires and what had come in by then is answered; then waits, at most `limit`, for Kafka to have
    /// all of it. True when Kafka has; else another instance will publish the rest.
    pub async fn run(mut self, closing: Listener, limit: Duration) -> bool {
        let mut jobs = Vec::with_capacity(BATCH);
        loop {
            tokio::select! {
                received = self.jobs.recv_many(&mut jobs, BATCH) => {
                    if received == 0 {
                        break;
                    }
                    self.serve(jobs.drain(..)).await;
                }
                () = self.transactor.ended() => {
                    tracing::error!("nobody keeps the outbox instance any more; the intake ends");
                    return false;
                }
                () = closing.clone().fired(), if !self.jobs.is_closed() => self.jobs.close(),
                // What may have been committed has to be published, also if nobody orders any more.
                () = sleep(LOOK_AGAIN), if self.transactor.is_unsure() => {
                    if let Err(cause) = self.transactor.resync().await {
                        tracing::debug!(%cause, "the outcome of a commit is still unknown");
                    }
                }
            }
        }
        self.transactor.close(limit).await
    }

    async fn serve(&mut self, jobs: impl Iterator<Item = Job>) {
        // Whoever hung up while waiting was promised nothing.
        let jobs: Vec<Job> = jobs.filter(|job| !job.reply.is_closed()).collect();
        if jobs.is_empty() {
            return;
        }
        let Backlog { rows, .. } = self.transactor.backlog();
        let answers = if rows >= self.outbox_limit {
            tracing::warn!(
                rows,
                limit = self.outbox_limit,
                "orders refused: Kafka has not taken the events of earlier ones"
            );
            vec![Err(Refusal::Busy("too many events wait for Kafka")); jobs.len()]
        } else {
            self.place(&jobs).await
        };
        let accepted =
            answers.iter().filter(|answer| matches!(answer, Ok(placed) if !placed.replayed)).count();
        ::metrics::counter!(metrics::CREATED).increment(accepted as u64);
        for (job, answer) in jobs.into_iter().zip(answers) {
            if let Ok(Placed { order_id, replayed: false }) = answer {
                tracing::info!(%order_id, correlation_id = job.order.correlation_id, "order placed");
            }
            // Whoever hung up meanwhile finds the order by its key.
            let _gone = job.reply.send(answer);
        }
    }

    /// One answer for each job.
    async fn place(&mut self, jobs: &[Job]) -> Vec<Result<Placed, Refusal>> {
        let mut placing = Placing { jobs, known: Vec::new() };
        let committed = self.transactor.commit(&mut placing).await;
        let known = placing.known;
        let Err(failed) = committed else {
            ::metrics::counter!(metrics::INTAKE_BATCHES).increment(1);
            return answers(jobs, &known, |_| Ok(()));
        };
        tracing::error!(error = %failed, orders = jobs.len(), "orders could not be stored");
        match failed {
            Failed::Unknown(_) => self.find_out(jobs, &known).await,
            Failed::Fenced | Failed::RolledBack(_) => vec![Err(Refusal::Unavailable); jobs.len()],
        }
    }

    /// After a commit that was not answered: which orders are there?
    async fn find_out(&mut self, jobs: &[Job], claims: &[Claimed]) -> Vec<Result<Placed, Refusal>> {
        let ids: Vec<Uuid> = jobs.iter().map(|job| job.order.order_id).collect();
        let started = Instant::now();
        loop {
            match self.look(&ids).await {
                Ok(found) => {
                    tracing::info!(
                        committed = found.len(),
                        of = ids.len(),
                        "outcome of the commit found out"
                    );
                    return answers(jobs, claims, |id| {
                        if found.contains(&id) { Ok(()) } else { Err(Refusal::Unavailable) }
                    });
                }
                Err(cause) if started.elapsed() > FIND_OUT_LIMIT => {
                    tracing::error!(error = %cause, "outcome of the commit not found out in time");
                    return answers(jobs, claims, |id| Err(Refusal::Unknown(id)));
                }
                Err(_) => sleep(Duration::from_millis(200)).await,
            }
        }
    }

    async fn look(&mut self, ids: &[Uuid]) -> Result<std::collections::HashSet<Uuid>, Cause> {
        // Waits for the transaction in question to end, and publishes its rows if it happened.
        self.transactor.resync().await?;
        let asked = async {
            let connection = Connection::get(self.transactor.pool()).await?;
            connection.read(&Limits::default(), store::existing(&*connection, ids)).await
        };
        asked.await.map_err(|trouble: Trouble| trouble.cause())
    }
}

/// The answers to jobs of these claims, where `of_new` says what became of an order that was to be new. Of jobs whose claims were not
/// found out any more nothing was known before.
fn answers(
    jobs: &[Job],
    claims: &[Claimed],
    of_new: impl Fn(Uuid) -> Result<(), Refusal>,
) -> Vec<Result<Placed, Refusal>> {
    let id = |at: usize| jobs[at].order.order_id;
    let answer = |at: usize| match claims.get(at).copied().unwrap_or(Claimed::New) {
        Claimed::New => of_new(id(at)).map(|()| Placed { order_id: id(at), replayed: false }),
        Claimed::Like(first) => of_new(id(first)).map(|()| Placed { order_id: id(first), replayed: true }),
        Claimed::Before(order_id) => Ok(Placed { order_id, replayed: true }),
        Claimed::Reused(holder) => {
            holder.map_or(Ok(()), |first| of_new(id(first))).and(Err(Refusal::KeyReused))
        }
    };
    (0..jobs.len()).map(answer).collect()
}

/// A batch of orders, placed together.
struct Placing<'a> {
    jobs: &'a [Job],
    /// What becomes of each, as far as it got.
    known: Vec<Claimed>,
}

impl Work for Placing<'_> {
    type Done = ();

    async fn run(&mut self, tx: &Transaction<'_>) -> Result<((), Vec<Emit>), tokio_postgres::Error> {
        let jobs = self.jobs;
        self.known.clear();
        let keyed: Vec<_> = jobs
            .iter()
            .filter_map(|job| Some((job.key.as_ref()?, job.order.order_id, job.order.created_at)))
            .collect();
        let requests: Vec<_> = jobs.iter().map(|job| (job.order.order_id, job.key.as_ref())).collect();
        self.known = claims(&requests, &keys::claim(tx, &keyed).await?);
        let new = jobs.iter().zip(&self.known).filter(|(_, claim)| **claim == Claimed::New);
        let new: Vec<&Job> = new.map(|(job, _)| job).collect();
        if !new.is_empty() {
            store::insert(tx, &new.iter().map(|job| &job.order).collect::<Vec<_>>()).await?;
        }
        Ok(((), new.iter().map(|job| job.emit.clone()).collect()))
    }
}
