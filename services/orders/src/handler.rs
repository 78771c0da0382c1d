//! Joins the payments' and the delivery service's events to the domain.

use actors::{
    Attempt, Change, Decision, Decoded, Failure, Handler, LoadResult, Lock, Record, Rejection, SaveResult,
};
use chassis::events::{self, Inbound};
use contracts::Event;
use deadpool_postgres::GenericClient;
use uuid::Uuid;

use crate::{
    domain::{self, Order, Refusal},
    metrics, store,
    timeline::TimelineEntry,
};

/// Handles what the payments and the delivery services say.
#[derive(Debug)]
pub struct Orders;

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
        events::decode_if(record, |event| {
            matches!(
                event,
                Event::PaymentSuccess(_)
                    | Event::PaymentFailed(_)
                    | Event::PaymentRefunded(_)
                    | Event::PaymentVoided(_)
                    | Event::PaymentStalled(_)
                    | Event::DeliveryAssigned(_)
                    | Event::DeliveryFailed(_)
                    | Event::DeliveryStalled(_)
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
        order: Option<&Order>,
        _shared: &mut (),
        _prepared: Option<&()>,
    ) -> Result<Decision<Order>, Failure> {
        let outcome = domain::decide(&body.envelope.event, order, attempt.now).map_err(refused)?;
        let said = outcome.event.map(|event| events::caused(body, event));
        let mut order = outcome.order;
        for envelope in std::iter::once(&body.envelope).chain(&said) {
            order.unsaved.push(TimelineEntry::new(envelope, attempt.now, order.version));
        }
        let note = said.as_ref().and_then(|said| ended(&said.event));
        let emit = said.iter().map(|said| events::emit(said, body.traceparent.as_deref())).collect();
        Ok(Decision { state: Change::Save(order), emit, moot: None, note })
    }

    async fn save<C: GenericClient>(
        &self,
        client: &C,
        changed: Vec<(Uuid, Order)>,
        _shared: (),
    ) -> SaveResult<Self> {
        store::save(client, &changed).await?;
        metrics::ended(&changed);
        Ok(())
    }
}

/// For the log: one line for each order that has ended.
fn ended(said: &Event) -> Option<&'static str> {
    match said {
        Event::OrderCompleted(_) => Some("order completed"),
        Event::OrderCancelled(_) => Some("order cancelled"),
        _ => None,
    }
}

fn refused(refusal: Refusal) -> Failure {
    Failure::permanent(refusal.code(), refusal.to_string())
}

#[cfg(test)]
mod tests;
