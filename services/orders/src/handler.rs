//! Joins what payments and delivery say to the domain.

use actors::{
    Attempt, Change, Decision, Decoded, Failure, Handler, LoadResult, Lock, Record, Rejection, SaveResult,
};
use chassis::events::{self, Inbound};
use chrono::{DateTime, Utc};
use contracts::{Event, OrderCancelled, OrderCompleted, RefundRequested, topics};
use deadpool_postgres::GenericClient;
use uuid::Uuid;

use crate::{
    domain::{Courier, Fact, Fate, Notice},
    metrics, store,
    timeline::Entry,
};

/// The handler of group `orders-service`.
#[derive(Debug)]
pub struct Orders;

/// An order in the course of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// What the domain knows.
    pub fate: Fate,
    /// When it was accepted.
    pub created_at: DateTime<Utc>,
    /// What this batch adds to its timeline, and when it was last changed.
    pub news: Vec<Entry>,
    /// Whether it ended in this batch.
    pub ended: bool,
}

impl Handler for Orders {
    type Body = Inbound;
    type Key = Uuid;
    type State = Order;
    type Shared = ();
    type Prepared = ();

    fn name(&self) -> &'static str {
        "orders::handler::Orders"
    }

    fn decode(&self, record: &Record) -> Result<Decoded<Inbound>, Rejection> {
        events::decode_if(record, |event| event.topic() != topics::ORDERS)
    }

    fn key(&self, body: &Inbound) -> Uuid {
        body.envelope.event.order_id()
    }

    async fn load<C: GenericClient>(&self, client: &C, keys: &[Uuid], lock: Lock) -> LoadResult<Self> {
        store::load(client, keys, lock == Lock::ForUpdate).await
    }

    fn decide(
        &self,
        attempt: &Attempt,
        body: &Inbound,
        state: Option<&Order>,
        _shared: &mut (),
        _prepared: Option<&()>,
    ) -> Result<Decision<Order>, Failure> {
        let event = &body.envelope.event;
        let Some(order) = state else {
            let message =
                format!("{} is about order {}, which does not exist", event.event_type(), event.order_id());
            return Err(Failure::permanent("unknown-order", message));
        };
        let Some(fact) = fact(event) else { return Ok(Decision::nothing()) };
        let mut order = order.clone();
        let notice = order.fate.hear(&fact);
        order.news.push(Entry::new(&body.envelope, attempt.now, order.fate.version));
        let mut emit = Vec::new();
        if let Some(notice) = notice {
            order.ended = order.fate.state.is_final();
            let event = say(notice, body.envelope.event.order_id(), order.fate.version);
            let said = events::caused(body, event);
            order.news.push(Entry::new(&said, attempt.now, order.fate.version));
            emit.push(events::emit(&said, body.traceparent.as_deref()));
        }
        Ok(Decision { state: Change::Save(order), emit })
    }

    async fn save<C: GenericClient>(
        &self,
        client: &C,
        changed: Vec<(Uuid, Order)>,
        _shared: (),
    ) -> SaveResult<Self> {
        store::save(client, &changed).await?;
        // Counted before the commit: a batch that is redone counts twice, which a metric can bear.
        for (_, order) in changed.iter().filter(|(_, order)| order.ended) {
            let state = order.fate.state.as_str();
            let ended_at = order.news.last().map_or(order.created_at, |entry| entry.recorded_at);
            let took = (ended_at - order.created_at).to_std().unwrap_or_default();
            ::metrics::counter!(metrics::TERMINAL, "state" => state).increment(1);
            ::metrics::histogram!(metrics::PROCESSING, "state" => state).record(took.as_secs_f64());
        }
        Ok(())
    }
}

fn fact(event: &Event) -> Option<Fact> {
    match event {
        Event::PaymentSuccess(paid) => Some(Fact::Paid(paid.amount_cents)),
        Event::PaymentFailed(failed) => Some(Fact::PaymentFailed(failed.reason.clone())),
        Event::PaymentRefunded(refunded) => Some(Fact::Refunded(refunded.amount_cents)),
        Event::DeliveryAssigned(assigned) => {
            Some(Fact::Assigned(Courier { id: assigned.courier_id, name: assigned.courier.clone() }))
        }
        Event::DeliveryFailed(failed) => Some(Fact::DeliveryFailed(failed.reason.clone())),
        Event::OrderCreated(_)
        | Event::OrderCompleted(_)
        | Event::OrderCancelled(_)
        | Event::RefundRequested(_) => None,
    }
}

fn say(notice: Notice, order_id: Uuid, order_version: i64) -> Event {
    match notice {
        Notice::Completed { courier_id } => OrderCompleted { order_id, order_version, courier_id }.into(),
        Notice::Cancelled { reason } => OrderCancelled { order_id, order_version, reason }.into(),
        Notice::RefundRequested { amount_cents, reason } => {
            RefundRequested { order_id, order_version, amount_cents, reason }.into()
        }
    }
}

#[cfg(test)]
mod tests;
