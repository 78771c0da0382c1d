//! Takes orders in, many at a time.
//!
//! A transaction for each order would spend most of its time waiting for the disk. Here one task takes whatever is
//! waiting, inserts it with the events that announce it in one transaction, and then answers everybody: the busier it
//! gets, the larger the batches. A request is answered once its order is durable, and not before.

mod door;

use std::time::Duration;

use actors::{
    Backlog, Cause, OutboxWriter, Publisher, WriteError, Written,
    connection::{Connection, Limits, Soundness, Trouble, Verdict},
};
use chassis::shutdown::Listener;
use deadpool_postgres::{Client, Pool};
use thiserror::Error;
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
const LANE_PREFIX: &str = "orders-http";

/// Opens the door and the outbox behind it.
///
/// # Errors
/// When PostgreSQL cannot be reached.
pub async fn open(pool: Pool, publisher: Publisher, outbox_limit: usize) -> Result<(Door, Intake), Cause> {
    let (door, jobs) = door(QUEUE);
    let writer = OutboxWriter::open(pool.clone(), publisher.clone(), LANE_PREFIX).await?;
    Ok((door, Intake { jobs, pool, publisher, writer, outbox_limit, unsure: false }))
}

/// The task behind the door.
#[derive(Debug)]
pub struct Intake {
    jobs: mpsc::Receiver<Job>,
    pool: Pool,
    publisher: Publisher,
    writer: OutboxWriter,
    outbox_limit: usize,
    /// A commit's outcome was never found out: the writer must look before it writes again.
    unsure: bool,
}

/// Why a batch was not committed.
#[derive(Debug, Error)]
enum Failed {
    #[error("the outbox instance was taken over")]
    Fenced,
    #[error("rolled back: {0}")]
    RolledBack(Cause),
    #[error("the outcome of the commit is unknown: {0}")]
    Unknown(Cause),
}

impl Verdict for Failed {
    fn verdict(&self) -> Soundness {
        match self {
            Self::Fenced => Soundness::Sound,
            Self::RolledBack(_) | Self::Unknown(_) => Soundness::Broken,
        }
    }
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
                () = self.writer.ended() => {
                    tracing::error!("nobody keeps the outbox instance any more; the intake ends");
                    return false;
                }
                () = closing.clone().fired(), if !self.jobs.is_closed() => self.jobs.close(),
                // What may have been committed has to be published, also if nobody orders any more.
                () = sleep(LOOK_AGAIN), if self.unsure => match self.writer.resync().await {
                    Ok(()) => self.unsure = false,
                    Err(cause) => tracing::debug!(%cause, "the outcome of a commit is still unknown"),
                },
            }
        }
        self.writer.close(limit).await
    }

    async fn serve(&mut self, jobs: impl Iterator<Item = Job>) {
        // Whoever hung up while waiting was promised nothing.
        let jobs: Vec<Job> = jobs.filter(|job| !job.reply.is_closed()).collect();
        if jobs.is_empty() {
            return;
        }
        let Backlog { rows, .. } = self.writer.backlog();
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
        let mut claims = Vec::new();
        let mut failed = match self.commit(jobs, &mut claims).await {
            Ok(()) => return answers(jobs, &claims, |_| Ok(())),
            Err(failed) => failed,
        };
        if matches!(failed, Failed::Fenced) {
            tracing::warn!("outbox instance taken over: opening a new one");
            failed = match OutboxWriter::open(self.pool.clone(), self.publisher.clone(), LANE_PREFIX).await {
                Ok(writer) => {
                    self.writer = writer;
                    match self.commit(jobs, &mut claims).await {
                        Ok(()) => return answers(jobs, &claims, |_| Ok(())),
                        Err(failed) => failed,
                    }
                }
                Err(cause) => Failed::RolledBack(cause),
            };
        }
        tracing::error!(error = %failed, orders = jobs.len(), "orders could not be stored");
        match failed {
            Failed::Unknown(_) => self.find_out(jobs, &claims).await,
            Failed::Fenced | Failed::RolledBack(_) => vec![Err(Refusal::Unavailable); jobs.len()],
        }
    }

    /// `claims` is what becomes of each, as far as it got.
    async fn commit(&mut self, jobs: &[Job], claims: &mut Vec<Claimed>) -> Result<(), Failed> {
        claims.clear();
        if self.unsure {
            self.writer.resync().await.map_err(Failed::RolledBack)?;
            self.unsure = false;
        }
        let connection = Connection::get(&self.pool).await;
        let mut connection = connection.map_err(|trouble| Failed::RolledBack(trouble.cause()))?;
        let ended =
            Limits::default().within(transact(connection.begin(), &mut self.writer, jobs, claims)).await;
        let ended = ended.unwrap_or_else(|trouble| Err(Failed::Unknown(trouble.cause())));
        connection.settle(&ended);
        self.unsure |= matches!(ended, Err(Failed::Unknown(_)));
        if let Some(written) = ended? {
            self.writer.publish(written);
        }
        ::metrics::counter!(metrics::INTAKE_BATCHES).increment(1);
        Ok(())
    }

    /// After a commit that was not answered: which orders are there?
    async fn find_out(&mut self, jobs: &[Job], claims: &[Claimed]) -> Vec<Result<Placed, Refusal>> {
        let ids: Vec<Uuid> = jobs.iter().map(|job| job.order.order_id).collect();
        let started = Instant::now();
        loop {
            match self.look(&ids).await {
                Ok(found) => {
                    self.unsure = false;
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
        self.writer.resync().await?;
        let asked = async {
            let connection = Connection::get(&self.pool).await?;
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

/// Nothing is written where nothing is new.
async fn transact(
    client: &mut Client,
    writer: &mut OutboxWriter,
    jobs: &[Job],
    known: &mut Vec<Claimed>,
) -> Result<Option<Written>, Failed> {
    let tx = client.transaction().await.map_err(rolled_back)?;
    let keyed: Vec<_> = jobs
        .iter()
        .filter_map(|job| Some((job.key.as_ref()?, job.order.order_id, job.order.created_at)))
        .collect();
    let requests: Vec<_> = jobs.iter().map(|job| (job.order.order_id, job.key.as_ref())).collect();
    // One round trip where there are no keys: the server runs one after the other.
    let limits = Limits::default().set();
    let placing = async {
        *known = claims(&requests, &keys::claim(&tx, &keyed).await?);
        let new = jobs.iter().zip(&*known).filter(|(_, claim)| **claim == Claimed::New).map(|(job, _)| job);
        let new: Vec<&Job> = new.collect();
        if !new.is_empty() {
            store::insert(&tx, &new.iter().map(|job| &job.order).collect::<Vec<_>>()).await?;
        }
        Ok(new)
    };
    let ((), new) = tokio::try_join!(biased; tx.batch_execute(&limits), placing).map_err(rolled_back)?;
    if new.is_empty() {
        tx.rollback().await.map_err(rolled_back)?;
        return Ok(None);
    }
    let emits = new.iter().map(|job| job.emit.clone()).collect();
    let written = writer.write(&tx, emits).await.map_err(|error| match error {
        WriteError::Fenced => Failed::Fenced,
        WriteError::TooLarge { .. } => Failed::RolledBack(Cause::from_error("too-large", &error)),
        WriteError::Postgres(error) => rolled_back(error),
    })?;
    tx.commit().await.map_err(|error| Failed::Unknown(Cause::from_error("commit", &error)))?;
    Ok(Some(written))
}

fn rolled_back(error: tokio_postgres::Error) -> Failed {
    Failed::RolledBack(Cause::from_error("postgres", &error))
}
