//! Where requests come in, and what whoever asks is told.

use std::time::Duration;

use actors::Emit;
use chassis::{Correlation, events};
use chrono::{DateTime, Utc};
use contracts::{Envelope, OrderCreated};
use thiserror::Error;
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};
use uuid::Uuid;

use crate::{
    idempotency::Key,
    request::{DEFAULT_CUSTOMER, Request},
    store::NewOrder,
    timeline::TimelineEntry,
};

/// A request that has waited for this long is answered that its outcome is not known.
const ANSWER_LIMIT: Duration = Duration::from_secs(8);

/// An order was not taken, as far as is known.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Refusal {
    /// Too much is waiting already.
    #[error("{0}")]
    Busy(&'static str),
    /// The database cannot be used; nothing was done.
    #[error("the order could not be stored, this request has done nothing")]
    Unavailable,
    /// It may have been taken.
    #[error(
        "it is not known whether the order was taken, as {0} if it was sent for the first time: send it again with its \
         Idempotency-Key, which is in the answer's header; with another key it may be placed twice"
    )]
    Unknown(Uuid),
    /// Its key came with another body before; nothing was done.
    #[error(
        "came with another body before, and stands for what was asked for then: another request needs another key"
    )]
    KeyReused,
}

/// An order that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placed {
    /// Its id.
    pub order_id: Uuid,
    /// It was placed by an earlier request with the same key.
    pub replayed: bool,
}

/// One request on its way.
#[derive(Debug)]
pub struct Job {
    /// What to insert.
    pub order: NewOrder,
    /// What to publish.
    pub emit: Emit,
    /// By which it is known when it is sent again.
    pub key: Option<Key>,
    /// Whom to tell.
    pub reply: oneshot::Sender<Result<Placed, Refusal>>,
}

/// Where requests come in. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Door(mpsc::Sender<Job>);

/// A door, and what comes through it.
pub fn door(capacity: usize) -> (Door, mpsc::Receiver<Job>) {
    let (sender, receiver) = mpsc::channel(capacity);
    (Door(sender), receiver)
}

impl Door {
    /// Takes an order in: answers once it is durable. Of requests with one key there is one order.
    ///
    /// # Errors
    /// See [`Refusal`].
    pub async fn place(
        &self,
        request: Request,
        key: Option<Key>,
        correlation: Correlation,
    ) -> Result<Placed, Refusal> {
        let id = Uuid::now_v7();
        let (order, emit) = created(id, Uuid::now_v7(), Utc::now(), request, correlation);
        let (reply, answer) = oneshot::channel();
        self.0.try_send(Job { order, emit, key, reply }).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => Refusal::Busy("too many orders are waiting to be stored"),
            mpsc::error::TrySendError::Closed(_) => Refusal::Busy("this instance is shutting down"),
        })?;
        match timeout(ANSWER_LIMIT, answer).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) | Err(_) => Err(Refusal::Unknown(id)),
        }
    }
}

fn created(
    id: Uuid,
    event_id: Uuid,
    now: DateTime<Utc>,
    request: Request,
    by: Correlation,
) -> (NewOrder, Emit) {
    let customer_id = request.customer_id.unwrap_or_else(|| DEFAULT_CUSTOMER.to_owned());
    let event = OrderCreated {
        order_id: id,
        order_version: 1,
        customer_id: customer_id.clone(),
        item: request.item.clone(),
        quantity: request.quantity,
        amount_cents: request.amount_cents,
        payment_token: request.payment_token.clone(),
    };
    let envelope = Envelope {
        event_id,
        occurred_at: now,
        correlation_id: by.id.clone(),
        causation_id: None,
        event: event.into(),
    };
    let order = NewOrder {
        order_id: id,
        customer_id,
        item: request.item,
        quantity: request.quantity,
        amount_cents: request.amount_cents,
        payment_token: request.payment_token,
        correlation_id: by.id,
        created_at: now,
        created: TimelineEntry::new(&envelope, now, 1),
    };
    (order, events::emit(&envelope, Some(&by.traceparent)))
}

#[cfg(test)]
mod tests;
