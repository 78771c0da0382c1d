//! The routes by which an operator asks for something.

use std::time::Duration;

use actors::{Consent, OperateError, ResetTo, TopicPartition, WhichParked};
use axum::{
    Extension, Json, Router,
    extract::{Path, State, rejection::PathRejection},
    http::StatusCode,
    routing::post,
};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};
use tracing::Instrument;

use super::{health::Health, operation::Operation};
use crate::{
    http::{Body, Peer},
    problem::Problem,
};

pub(super) fn routes() -> Router<Health> {
    Router::new()
        .route("/partitions/{topic}/{partition}/pause", post(pause))
        .route("/partitions/{topic}/{partition}/resume", post(resume))
        .route("/partitions/{topic}/{partition}/reset", post(reset))
        .route("/parked/retry", post(retry))
        .route("/parked/dead-letter", post(dead_letter))
        // Its name before.
        .route("/parked/give-up", post(dead_letter))
}

type Done = Result<Json<Value>, Problem>;
type Partition = Result<Path<(String, String)>, PathRejection>;
type Sent = Result<Body, Problem>;
/// Whoever asks, where that is known.
type Who = Option<Extension<Peer>>;

async fn pause(State(health): State<Health>, who: Who, partition: Partition) -> Done {
    asked("pause", &health, who, named(partition).map(Operation::Pause)).await
}

async fn resume(State(health): State<Health>, who: Who, partition: Partition) -> Done {
    asked("resume", &health, who, named(partition).map(Operation::Resume)).await
}

async fn reset(State(health): State<Health>, who: Who, partition: Partition, body: Sent) -> Done {
    asked("reset", &health, who, to_reset(partition, body)).await
}

async fn retry(State(health): State<Health>, who: Who, body: Sent) -> Done {
    asked("retry", &health, who, to_retry(body)).await
}

async fn dead_letter(State(health): State<Health>, who: Who, body: Sent) -> Done {
    asked("dead-letter", &health, who, to_dead_letter(body)).await
}

/// The partition that a path names.
fn named(partition: Partition) -> Result<TopicPartition, Problem> {
    let refuse = |what| {
        let detail =
            format!("{what}: take topic and partition from `/partitions`, which lists those of this process");
        Problem::new(StatusCode::BAD_REQUEST, detail)
    };
    let Path((topic, partition)) = partition.map_err(|_| refuse("the topic in the path is no UTF-8"))?;
    match partition.parse() {
        Ok(partition @ 0..) => Ok(TopicPartition::new(topic, partition)),
        _ => Err(refuse("the partition in the path must be a whole number that is not negative")),
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Reset {
    to: Value,
    #[serde(default)]
    force: bool,
    from: Option<i64>,
}

const RESET: &str = r#"{"to": "start" | "end" | OFFSET}, with "from": OFFSET and "force": true where told"#;

fn to_reset(partition: Partition, body: Sent) -> Result<Operation, Problem> {
    let partition = named(partition)?;
    let Reset { to, force, from } = parse(body, RESET)?;
    let to = match to.as_i64() {
        Some(offset) => ResetTo::Offset(offset),
        None if to == "start" => ResetTo::Start,
        None if to == "end" => ResetTo::End,
        None => return Err(Problem::invalid("to", r#"must be "start", "end" or an offset"#)),
    };
    Ok(Operation::Reset(partition, to, Consent { force, from }))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Waiting {
    topic: String,
    partition: i32,
    key: Option<String>,
    id: Option<i64>,
    reason: Option<String>,
}

impl Waiting {
    fn which(&self) -> Result<WhichParked, Problem> {
        match (&self.key, self.id) {
            (Some(key), None) => Ok(WhichParked::Key(key.clone())),
            (None, Some(id)) => Ok(WhichParked::Id(id)),
            _ => Err(Problem::invalid("key", "either a key or an id must be given: `/parked` has both")),
        }
    }
}

fn to_retry(body: Sent) -> Result<Operation, Problem> {
    let waiting: Waiting = parse(body, r#"{"topic": …, "partition": …, "key": … or "id": …}"#)?;
    let which = waiting.which()?;
    Ok(Operation::RetryNow { partition: TopicPartition::new(waiting.topic, waiting.partition), which })
}

fn to_dead_letter(body: Sent) -> Result<Operation, Problem> {
    let waiting: Waiting = parse(body, r#"{"topic": …, "partition": …, "key": … or "id": …, "reason": …}"#)?;
    let which = waiting.which()?;
    let reason = waiting.reason.filter(|reason| !reason.trim().is_empty());
    let reason = reason.ok_or_else(|| Problem::invalid("reason", "must say why, for whoever finds it"))?;
    let partition = TopicPartition::new(waiting.topic, waiting.partition);
    Ok(Operation::DeadLetterNow { partition, which, reason })
}

fn parse<T: DeserializeOwned>(body: Sent, expected: &str) -> Result<T, Problem> {
    contracts::read(&body?.0)
        .map_err(|misfit| Problem::invalid("body", format!("must be {expected}: {misfit}")))
}

/// Does what is asked for, or refuses it, and says so in one line of the log, under the correlation id of whoever asks. To its end,
/// even if whoever asked has gone: what was done is not done in silence, and of two resets none begins beside the other.
async fn asked(name: &'static str, health: &Health, who: Who, operation: Result<Operation, Problem>) -> Done {
    let health = health.clone();
    let done = async move { carry_out(name, &health, who, operation).await };
    tokio::spawn(done.in_current_span()).await.unwrap_or_else(|_| {
        // The hook has logged the panic, which may quote what it was about.
        let status = StatusCode::INTERNAL_SERVER_ERROR;
        tracing::error!(
            operation = name,
            status = status.as_u16(),
            "an operator asked for this, and it panicked"
        );
        Err(Problem::new(status, format!("the {name} did not end: it panicked, and the log says where")))
    })
}

/// What was asked for and is not, or not all of it, done.
enum Undone {
    /// Nothing of it.
    All(Problem),
    /// The partition tries again, and may still be paused.
    Part(Problem),
}

impl From<Problem> for Undone {
    fn from(problem: Problem) -> Self {
        Self::All(problem)
    }
}

async fn carry_out(
    name: &'static str,
    health: &Health,
    who: Who,
    operation: Result<Operation, Problem>,
) -> Done {
    let place = operation.as_ref().ok().map(|operation| operation.partition().clone());
    let answer = match operation {
        Ok(operation) => perform(health, operation).await,
        Err(problem) => Err(problem.into()),
    };
    let topic = place.as_ref().map(|place| &*place.topic);
    let partition = place.as_ref().map(|place| place.partition);
    let peer = who.map(|Extension(Peer(address))| tracing::field::display(address));
    match &answer {
        Ok(done) => {
            tracing::info!(operation = name, topic, partition, peer, done, "an operator asked for this");
        }
        Err(Undone::All(Problem { status, detail, .. })) => {
            let (status, why) = (status.as_u16(), detail);
            tracing::info!(
                operation = name,
                topic,
                partition,
                peer,
                status,
                why,
                "an operator asked for this, which is not done"
            );
        }
        Err(Undone::Part(Problem { status, detail, .. })) => {
            let (status, why) = (status.as_u16(), detail);
            tracing::warn!(
                operation = name,
                topic,
                partition,
                peer,
                status,
                why,
                "an operator asked for this, which is done in part"
            );
        }
    }
    match answer {
        Ok(done) => Ok(Json(json!({ "done": done }))),
        Err(Undone::All(problem) | Undone::Part(problem)) => Err(problem),
    }
}

async fn perform(health: &Health, operation: Operation) -> Result<String, Undone> {
    let _one_at_a_time = match operation {
        Operation::Reset(..) => Some(health.resetting().try_lock_owned().map_err(|_| busy())?),
        _ => None,
    };
    let none = || Problem::new(StatusCode::NOT_FOUND, "this process has no consumer group, or not yet");
    let lanes = health.lanes().ok_or_else(none)?;
    lanes.operate(operation).await.map_err(|error| match error {
        OperateError::Half { .. } => Undone::Part(problem(error)),
        error => Undone::All(problem(error)),
    })
}

fn busy() -> Problem {
    let detail = "another reset is under way in this process: try again";
    Problem {
        retry_after: Some(Duration::from_secs(1)),
        ..Problem::new(StatusCode::TOO_MANY_REQUESTS, detail)
    }
}

fn problem(error: OperateError) -> Problem {
    let status = match &error {
        OperateError::Unknown { .. } | OperateError::NothingWaits(_) => StatusCode::NOT_FOUND,
        OperateError::NotHere(_)
        | OperateError::Behind { .. }
        | OperateError::Forgotten { .. }
        | OperateError::Loses { .. }
        | OperateError::Moved { .. } => StatusCode::CONFLICT,
        OperateError::NoSuchOffset { .. } => StatusCode::UNPROCESSABLE_ENTITY,
        OperateError::Half { .. } | OperateError::Unavailable(_) => {
            return Problem::unavailable(error.to_string(), Duration::from_secs(1));
        }
    };
    Problem::new(status, error.to_string())
}
