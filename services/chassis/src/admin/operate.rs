//! What an operator may do: pause, resume and reset partitions, hurry or give up waiting records.

use std::time::Duration;

use actors::{Group, OperateError, ResetTo, TopicPartition};
use axum::{
    Json, Router,
    extract::{Path, State, rejection::PathRejection},
    http::StatusCode,
    routing::post,
};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};

use super::Health;
use crate::{http::Body, problem::Problem};

/// Something an operator asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Stop a partition, in whichever process it is.
    Pause(TopicPartition),
    /// Let it go on; a halted one of this process tries again.
    Resume(TopicPartition),
    /// Move it; with true also back to where events may be forgotten.
    Reset(TopicPartition, ResetTo, bool),
    /// Run the head of a key's chain now.
    RetryNow {
        /// Where it waits.
        partition: TopicPartition,
        /// Its key.
        key: String,
    },
    /// Make the head of a key's chain a dead letter now.
    GiveUp {
        /// Where it waits.
        partition: TopicPartition,
        /// Its key.
        key: String,
        /// Why, for whoever finds the dead letter.
        reason: String,
    },
}

impl Operation {
    /// Does it; what was done, in words.
    pub(super) async fn carry_out(self, group: &Group) -> Result<String, OperateError> {
        match self {
            Self::Pause(partition) => {
                let done = format!("{partition} takes nothing until it is resumed");
                group.pause(partition).await.map(|()| done)
            }
            Self::Resume(partition) => {
                let done = format!("{partition} goes on");
                group.resume(partition).await.map(|()| done)
            }
            Self::Reset(partition, to, force) => {
                let (from, to) = group.reset(partition.clone(), to, force).await?;
                Ok(format!("{partition} was at offset {from} and goes on at {to}"))
            }
            Self::RetryNow { partition, key } => {
                let done = format!("the first waiting record of key {key} runs now");
                group.retry_parked(partition, &key).await.map(|()| done)
            }
            Self::GiveUp { partition, key, reason } => {
                let done = format!("the first waiting record of key {key} becomes a dead letter");
                group.give_up_parked(partition, &key, &reason).await.map(|()| done)
            }
        }
    }
}

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

async fn pause(State(health): State<Health>, partition: Partition) -> Done {
    done(&health, Operation::Pause(named(partition)?)).await
}

async fn resume(State(health): State<Health>, partition: Partition) -> Done {
    done(&health, Operation::Resume(named(partition)?)).await
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Reset {
    to: To,
    #[serde(default)]
    force: bool,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum To {
    Offset(i64),
    Place(Place),
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Place {
    Start,
    End,
}

async fn reset(State(health): State<Health>, partition: Partition, body: Body) -> Done {
    let Reset { to, force } =
        parse(&body, r#"{"to": "start" | "end" | OFFSET}, and "force": true where told"#)?;
    let to = match to {
        To::Offset(offset) => ResetTo::Offset(offset),
        To::Place(Place::Start) => ResetTo::Start,
        To::Place(Place::End) => ResetTo::End,
    };
    done(&health, Operation::Reset(named(partition)?, to, force)).await
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Waiting {
    topic: String,
    partition: i32,
    key: String,
    reason: Option<String>,
}

async fn retry(State(health): State<Health>, body: Body) -> Done {
    let waiting: Waiting = parse(&body, r#"{"topic": …, "partition": …, "key": …}"#)?;
    let partition = TopicPartition::new(waiting.topic, waiting.partition);
    done(&health, Operation::RetryNow { partition, key: waiting.key }).await
}

async fn give_up(State(health): State<Health>, body: Body) -> Done {
    let waiting: Waiting = parse(&body, r#"{"topic": …, "partition": …, "key": …, "reason": …}"#)?;
    let reason = waiting.reason.filter(|reason| !reason.trim().is_empty());
    let reason = reason.ok_or_else(|| Problem::invalid("reason", "must say why, for whoever finds it"))?;
    let partition = TopicPartition::new(waiting.topic, waiting.partition);
    done(&health, Operation::GiveUp { partition, key: waiting.key, reason }).await
}

fn parse<T: DeserializeOwned>(body: &Body, expected: &str) -> Result<T, Problem> {
    serde_json::from_slice(&body.0)
        .map_err(|error| Problem::invalid("body", format!("must be {expected}: {error}")))
}

async fn done(health: &Health, operation: Operation) -> Done {
    let none = || Problem::new(StatusCode::NOT_FOUND, "this process has no consumer group, or not yet");
    let lanes = health.lanes().ok_or_else(none)?;
    let done = lanes.operate(operation).await.map_err(problem)?;
    Ok(Json(json!({ "done": done })))
}

fn problem(error: OperateError) -> Problem {
    let status = match &error {
        OperateError::Unknown { .. } | OperateError::NothingWaits(_) => StatusCode::NOT_FOUND,
        OperateError::NotHere(_) | OperateError::Forgotten { .. } => StatusCode::CONFLICT,
        OperateError::NoSuchOffset { .. } => StatusCode::UNPROCESSABLE_ENTITY,
        OperateError::Unavailable(_) => {
            return Problem::unavailable(error.to_string(), Duration::from_secs(1));
        }
    };
    Problem::new(status, error.to_string())
}
