//! Joins the orders service's events to the domain and the provider.

use std::time::Duration;

use actors::{
    Attempt, Breaker, Call as Calling, Cause, Death, Decision, Decoded, Emit, Failure, Handler, LoadResult,
    Lock, Record, Rejection, SaveResult,
};
use chassis::events::{self, Inbound};
use contracts::{Event, PaymentStalled};
use deadpool_postgres::GenericClient;
use uuid::Uuid;

use crate::{
    domain::{self, Answer, Call, Kind, Payment, Refusal, Status},
    metrics,
    provider::{
        ChargeAnswer, ChargeRequest, PaymentProvider, ProviderError, RefundRequest, Try, VoidAnswer,
        VoidRequest,
    },
    store,
};

/// Handles what the orders service says.
#[derive(Debug)]
pub struct Payments<P> {
    provider: P,
    time_out: Duration,
    /// Whether the provider answers is asked once, for all partitions.
    breaker: Breaker,
    /// The same of what undoes a charge: where refunds do not work, charges may.
    undoing: Breaker,
}

impl<P: PaymentProvider> Payments<P> {
    /// A handler that waits for each of the provider's answers at most `time_out`.
    pub fn new(provider: P, time_out: Duration) -> Self {
        let undoing = Breaker::new("payment-provider-refunds");
        Self { provider, time_out, breaker: Breaker::new("payment-provider"), undoing }
    }

    async fn ask(&self, attempt: &Attempt, event: &Event, call: Call) -> Result<Answer, ProviderError> {
        let order = event.order_id();
        let this_try = Try { failed: attempt.failed_attempts, crashed: attempt.crashes };
        match call {
            Call::Nothing => Ok(Answer::NotAsked),
            Call::Charge { amount_cents } => {
                let key = Kind::Charge.provider_key(order);
                let token = domain::token(event);
                let request = ChargeRequest { key: &key, amount_cents, token, attempt: this_try };
                self.provider.charge(request).await.map(Answer::Charge)
            }
            Call::Refund(charge) => {
                let (key, charge_key) = (Kind::Refund.provider_key(order), Kind::Charge.provider_key(order));
                let request = RefundRequest {
                    key: &key,
                    charge_key: &charge_key,
                    amount_cents: charge.amount_cents,
                    charge: &charge.reference,
                    attempt: this_try,
                };
                self.provider.refund(request).await.map(Answer::Refund)
            }
            Call::Void => {
                let (charge, refund) = (Kind::Charge.provider_key(order), Kind::Refund.provider_key(order));
                let request = VoidRequest { charge: &charge, refund: &refund, attempt: this_try };
                self.provider.void(request).await.map(Answer::Void)
            }
        }
    }
}

impl<P: PaymentProvider> Handler for Payments<P> {
    type Body = Inbound;
    type Key = Uuid;
    type State = Payment;
    type Shared = ();
    type Prepared = Answer;

    fn name(&self) -> &'static str {
        "payments::handler::Payments"
    }

    fn decode(&self, record: &Record) -> Result<Decoded<Inbound>, Rejection> {
        events::decode_if(record, |event| {
            matches!(event, Event::OrderCreated(_) | Event::RefundRequested(_) | Event::OrderCancelled(_))
        })
    }

    fn key(&self, body: &Inbound) -> Uuid {
        body.envelope.event.order_id()
    }

    fn needs_prepare(&self, _body: &Inbound) -> bool {
        // Whether the provider is asked depends on the payment's state too, which only `prepare` sees.
        true
    }

    async fn prepare(
        &self,
        attempt: &Attempt,
        body: &Inbound,
        payment: Option<&Payment>,
    ) -> Result<Answer, Failure> {
        let event = &body.envelope.event;
        let call = domain::call(event, payment).map_err(refused)?;
        if call == Call::Nothing {
            return Ok(Answer::NotAsked);
        }
        let breaker = match call {
            Call::Nothing | Call::Charge { .. } => &self.breaker,
            Call::Refund(_) | Call::Void => &self.undoing,
        };
        let calling = breaker.enter(attempt)?;
        let asked = tokio::time::timeout(self.time_out, self.ask(attempt, event, call)).await;
        let answer = match asked {
            Ok(Ok(answer)) => {
                calling.answered();
                answer
            }
            Ok(Err(error)) => return Err(unanswered(calling, error)),
            Err(_elapsed) => {
                let message = format!("the payment provider did not answer within {:?}", self.time_out);
                return Err(calling.failed(Cause::new("provider-timeout", message)));
            }
        };
        tracing::debug!(
            order_id = %event.order_id(),
            correlation_id = attempt.correlation_id,
            event_type = event.event_type(),
            answer = name(&answer),
            "the payment provider answered"
        );
        Ok(answer)
    }

    fn gives_up(&self, body: &Inbound) -> bool {
        // Money that has to go back is tried for as long as it takes: nobody else will.
        matches!(body.envelope.event, Event::OrderCreated(_))
    }

    fn buried(&self, body: &Inbound, death: &Death<'_>) -> Vec<Emit> {
        let event = &body.envelope.event;
        let stalled = PaymentStalled {
            order_id: event.order_id(),
            order_version: event.order_version(),
            dead_letter_id: death.dead_letter_id,
            event_type: event.event_type().to_owned(),
            code: death.code.to_owned(),
            generation: death.generation,
        };
        vec![events::buried(body, death, stalled.into())]
    }

    async fn load<C: GenericClient>(&self, client: &C, keys: &[Uuid], lock: Lock) -> LoadResult<Self> {
        store::load(client, keys, lock).await
    }

    fn decide(
        &self,
        attempt: &Attempt,
        body: &Inbound,
        payment: Option<&Payment>,
        _shared: &mut (),
        prepared: Option<&Answer>,
    ) -> Result<Decision<Payment>, Failure> {
        let answer = prepared.cloned().unwrap_or(Answer::NotAsked);
        if answer == Answer::NotAsked
            && let Some(why) = domain::moot(&body.envelope.event, payment)
        {
            return Ok(Decision::moot(why));
        }
        let outcome = domain::decide(&body.envelope.event, payment, answer, attempt.now).map_err(refused)?;
        let emit = outcome.event.map(|event| events::publish(body, event)).into_iter().collect();
        Ok(Decision { state: outcome.payment.into(), emit, ..Decision::nothing() })
    }

    async fn save<C: GenericClient>(
        &self,
        client: &C,
        changed: Vec<(Uuid, Payment)>,
        _shared: (),
    ) -> SaveResult<Self> {
        store::save(client, &changed).await?;
        for (_, payment) in &changed {
            if matches!(payment.status, Status::Failed { .. }) {
                ::metrics::counter!(metrics::PAYMENTS, "result" => "failed").increment(1);
            }
            for entry in &payment.unsaved {
                match entry.kind {
                    Kind::Charge => {
                        ::metrics::counter!(metrics::PAYMENTS, "result" => "success").increment(1)
                    }
                    Kind::Refund => ::metrics::counter!(metrics::REFUNDS).increment(1),
                }
            }
        }
        Ok(())
    }
}

fn name(answer: &Answer) -> &'static str {
    match answer {
        Answer::NotAsked => "not asked",
        Answer::Charge(ChargeAnswer::Approved(_)) => "charged",
        Answer::Charge(ChargeAnswer::Declined { .. }) => "declined",
        Answer::Refund(_) => "refunded",
        Answer::Void(VoidAnswer::Nothing) => "nothing to void",
        Answer::Void(VoidAnswer::Returned { .. }) => "voided",
    }
}

fn refused(refusal: Refusal) -> Failure {
    let (code, message) = (refusal.code(), refusal.to_string());
    if refusal.is_transient() { Failure::transient(code, message) } else { Failure::permanent(code, message) }
}

fn unanswered(calling: Calling<'_>, error: ProviderError) -> Failure {
    match error {
        ProviderError::Unreachable { code, message } => calling.unreachable(Cause::new(code, message)),
        ProviderError::Unavailable { code, message } => calling.failed(Cause::new(code, message)),
        ProviderError::Transient { code, message } => {
            calling.answered();
            Failure::transient(code, message)
        }
        ProviderError::Permanent { code, message } => {
            calling.answered();
            Failure::permanent(code, message)
        }
    }
}

#[cfg(test)]
mod tests;
