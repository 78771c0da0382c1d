//! Joins the payments' and the orders service's events to the domain.

use std::time::Duration;

use actors::{
    Attempt, Death, Decision, Decoded, Emit, Failure, Handler, LoadResult, Lock, Record, Rejection,
    SaveResult,
};
use chassis::events::{self, Inbound};
use contracts::{DeliveryStalled, Event};
use deadpool_postgres::GenericClient;
use uuid::Uuid;

use crate::{
    domain::{self, Assignment, Couriers, Refusal, Status, Try},
    metrics, store,
};

/// Handles what the payments and the orders services say.
#[derive(Debug)]
pub struct Deliveries {
    test_tokens: bool,
    patience: Duration,
}

impl Deliveries {
    /// A handler for which test tokens have their effect, or do not, and that looks for a courier for `patience`.
    pub fn new(test_tokens: bool, patience: Duration) -> Self {
        Self { test_tokens, patience }
    }
}

impl Handler for Deliveries {
    type Body = Inbound;
    type Key = Uuid;
    type State = Assignment;
    type Shared = Couriers;
    type Prepared = ();

    fn name(&self) -> &'static str {
        "delivery::handler::Deliveries"
    }

    fn decode(&self, record: &Record) -> Result<Decoded<Inbound>, Rejection> {
        events::decode_if(record, |event| {
            matches!(
                event,
                Event::PaymentSuccess(_)
                    | Event::OrderCompleted(_)
                    | Event::OrderCancelled(_)
                    | Event::RefundRequested(_)
            )
        })
    }

    fn key(&self, body: &Inbound) -> Uuid {
        body.envelope.event.order_id()
    }

    async fn load<C: GenericClient>(&self, client: &C, keys: &[Uuid], lock: Lock) -> LoadResult<Self> {
        store::load(client, keys, lock).await
    }

    fn decide(
        &self,
        attempt: &Attempt,
        body: &Inbound,
        assignment: Option<&Assignment>,
        couriers: &mut Couriers,
        _prepared: Option<&()>,
    ) -> Result<Decision<Assignment>, Failure> {
        let this_try = Try {
            age: attempt.age,
            patience: self.patience,
            now: attempt.now,
            test_tokens: self.test_tokens,
        };
        let outcome =
            domain::decide(&body.envelope.event, assignment, couriers, this_try).map_err(refused)?;
        if let (Event::PaymentSuccess(_), Some(assignment)) = (&body.envelope.event, assignment) {
            return Ok(Decision::moot(match assignment.status {
                Status::Closed { .. } => "the order is over: nobody is to be sent",
                _ => "it was decided before who delivers the order",
            }));
        }
        let emit = outcome.event.map(|event| events::publish(body, event)).into_iter().collect();
        Ok(Decision { state: outcome.assignment.into(), emit, ..Decision::nothing() })
    }

    fn buried(&self, body: &Inbound, death: &Death<'_>) -> Vec<Emit> {
        // An order that is over waits for nobody, whoever still has it in hand.
        let Event::PaymentSuccess(paid) = &body.envelope.event else { return Vec::new() };
        let stalled = DeliveryStalled {
            order_id: paid.order_id,
            order_version: paid.order_version,
            dead_letter_id: death.dead_letter_id,
            event_type: body.envelope.event.event_type().to_owned(),
            code: death.code.to_owned(),
            generation: death.generation,
        };
        vec![events::buried(body, death, stalled.into())]
    }

    async fn save<C: GenericClient>(
        &self,
        client: &C,
        changed: Vec<(Uuid, Assignment)>,
        couriers: Couriers,
    ) -> SaveResult<Self> {
        store::save(client, &changed, &couriers).await?;
        for (_, assignment) in &changed {
            ::metrics::counter!(metrics::ASSIGNMENTS, "result" => result(&assignment.status)).increment(1);
        }
        Ok(())
    }
}

fn refused(refusal: Refusal) -> Failure {
    Failure::not_yet(refusal.code(), refusal.to_string())
}

fn result(status: &Status) -> &'static str {
    match status {
        Status::Assigned { .. } => "assigned",
        Status::Released { .. } => "released",
        Status::Failed { .. } => "failed",
        Status::Closed { .. } => "closed",
    }
}

#[cfg(test)]
mod tests;
