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
        .route("/parked/give-up", post(give_up))
}

type Done = Result<Json<Value>, Problem>;
type Partition = Result<Path<(String, i32)>, PathRejection>;

fn named(partition: Partition) -> Result<TopicPartition, Problem> {
    let Path((topic, partition)) =
        partition.map_err(|error| Problem::new(StatusCode::BAD_REQUEST, error.body_text()))?;
    Ok(TopicPartition::new(topic, partition))
}

/// Whoever asks, where that is known.
type Who = Option<Extension<Peer>>;

async fn pause(State(health): State<Health>, who: Who, partition: Partition) -> Done {
    done(&health, who, Operation::Pause(named(partition)?)).await
}

async fn resume(State(health): State<Health>, who: Who, partition: Partition) -> Done {
    done(&health, who, Operation::Resume(named(partition)?)).await
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

async fn reset(State(health): State<Health>, who: Who, partition: Partition, body: Body) -> Done {
    let Reset { to, force, from } = parse(&body, RESET)?;
    let to = match to.as_i64() {
        Some(offset) => ResetTo::Offset(offset),
        None if to == "start" => ResetTo::Start,
        None if to == "end" => ResetTo::End,
        None => return Err(Problem::invalid("to", r#"must be "start", "end" or an offset"#)),
    };
    let resetting = health.resetting().try_lock_owned();
    let Ok(resetting) = resetting else {
        let mut busy = Problem::new(
            StatusCode::TOO_MANY_REQUESTS,
            "another reset is under way in this process: try again",
        );
        busy.retry_after = Some(Duration::from_secs(1));
        return Err(busy);
    };
    let partition = named(partition)?;
    let asked = async move {
        let _one_at_a_time = resetting;
        done(&health, who, Operation::Reset(partition, to, Consent { force, from })).await
    };
    // To its end, even if whoever asked has gone: the next one must not begin beside it.
    tokio::spawn(asked.in_current_span()).await.unwrap_or_else(|error| {
        Err(Problem::new(StatusCode::INTERNAL_SERVER_ERROR, format!("the reset did not end: {error}")))
    })
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

async fn retry(State(health): State<Health>, who: Who, body: Body) -> Done {
    let waiting: Waiting = parse(&body, r#"{"topic": …, "partition": …, "key": … or "id": …}"#)?;
    let which = waiting.which()?;
    let partition = TopicPartition::new(waiting.topic, waiting.partition);
    done(&health, who, Operation::RetryNow { partition, which }).await
}

async fn give_up(State(health): State<Health>, who: Who, body: Body) -> Done {
    let waiting: Waiting = parse(&body, r#"{"topic": …, "partition": …, "key": … or "id": …, "reason": …}"#)?;
    let which = waiting.which()?;
    let reason = waiting.reason.filter(|reason| !reason.trim().is_empty());
    let reason = reason.ok_or_else(|| Problem::invalid("reason", "must say why, for whoever finds it"))?;
    let partition = TopicPartition::new(waiting.topic, waiting.partition);
    done(&health, who, Operation::GiveUp { partition, which, reason }).await
}

fn parse<T: DeserializeOwned>(body: &Body, expected: &str) -> Result<T, Problem> {
    contracts::read(&body.0)
        .map_err(|misfit| Problem::invalid("body", format!("must be {expected}: {misfit}")))
}

/// Does it, and says so in the log, under the correlation id of whoever asked.
async fn done(health: &Health, who: Who, operation: Operation) -> Done {
    let none = || Problem::new(StatusCode::NOT_FOUND, "this process has no consumer group, or not yet");
    let lanes = health.lanes().ok_or_else(none)?;
    let (name, partition) = operation.described();
    let partition = partition.clone();
    let answer = lanes.operate(operation).await;
    let peer = who.map(|Extension(Peer(address))| tracing::field::display(address));
    let refused = answer.as_ref().err().map(tracing::field::display);
    tracing::info!(
        operation = name,
        topic = &*partition.topic,
        partition = partition.partition,
        peer,
        refused,
        "an operator asked for this"
    );
    Ok(Json(json!({ "done": answer.map_err(problem)? })))
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
