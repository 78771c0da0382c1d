//! The trace of an order, as a collector gets it from the services of a whole stack.

mod receiver;
mod tree;

use std::{sync::OnceLock, time::Instant};

use anyhow::{Context, Result, ensure};
use contracts::topics::PAYMENTS_GROUP;
use devstack::{
    clients::admin,
    testing::{self, SOON, Trial},
    topology::Role,
};
use uuid::Uuid;

use self::{
    receiver::{Receiver, Seen},
    tree::Tree,
};

const LIMIT: &str = "PROVIDER_MAX_AMOUNT_CENTS";
const SERVICES: [Role; 4] = [Role::Gateway, Role::Orders, Role::Payments, Role::Delivery];

/// Runs `test` on the stack of these tests, whose services send what they have to tell to one receiver.
fn run(test: impl AsyncFnOnce(&mut Trial, &Receiver) -> Result<()>) -> Result<()> {
    static RECEIVER: OnceLock<Receiver> = OnceLock::new();
    let receiver = RECEIVER.get_or_init(|| Receiver::start().expect("a port for the receiver"));
    let mut settings: Vec<(Role, &str, &str)> = vec![
        // Retries that are over soon, and members that are missed soon.
        (Role::Payments, "RETRY_INITIAL_MS", "50"),
        (Role::Payments, "RETRY_MAX_MS", "200"),
        // As if the provider had lowered what it takes since orders was told.
        (Role::Orders, LIMIT, "5000000"),
    ];
    settings.extend(SERVICES.map(|role| (role, "OTEL_EXPORTER_OTLP_ENDPOINT", receiver.url())));
    testing::run(&settings, async |trial| test(trial, receiver).await)
}

/// Waits until a trace has what is looked for.
async fn until(receiver: &Receiver, trace: &str, what: &str, enough: impl Fn(&Tree) -> bool) -> Result<Tree> {
    let started = Instant::now();
    loop {
        let tree = Tree::of(receiver.trace(trace));
        if enough(&tree) {
            return Ok(tree);
        }
        ensure!(started.elapsed() < SOON, "no {what} after {SOON:?}:\n{tree}");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

/// The trace in which an order's first event was handled.
async fn trace_of(receiver: &Receiver, order: Uuid) -> Result<String> {
    let (started, key) = (Instant::now(), order.to_string());
    loop {
        if let Some(trace) = receiver.trace_with("messaging.kafka.message.key", &key) {
            return Ok(trace);
        }
        ensure!(started.elapsed() < SOON, "no span of order {order} after {SOON:?}");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

fn is_sent_last(span: &Seen, tree: &Tree) -> bool {
    span.name == "send orders"
        && tree.parent(span).is_some_and(|parent| parent.service == "orders" && parent.is("process"))
}

#[test]
fn an_order_with_a_death_a_requeue_and_retries_is_one_tree() -> Result<()> {
    run(async |trial, receiver| {
        let id = trial.gateway.place("tok_flaky_2", 2_000_000).await?;
        let letter = trial.dead(PAYMENTS_GROUP, &id.to_string()).await?;
        let trace = trace_of(receiver, id).await?;
        let died = |span: &Seen| span.has("backburner.outcome", "dead");
        until(receiver, &trace, "death", |tree| tree.spans().any(died)).await?;

        // Whoever links to the death is another process than the one that told of it.
        trial.stack.set_variable(Role::Payments, LIMIT, "5000000");
        ensure!(trial.stack.stop(Role::Payments, 1).await?, "payments had to be killed");
        trial.stack.start(Role::Payments, 1).await?;
        let output = trial.inspector.run(&["requeue", &letter.id, "--execute", "--wait"]).await?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        trial.gateway.until(id, "COMPLETED", SOON).await?;
        let whole =
            |tree: &Tree| tree.spans().any(|span| is_sent_last(span, tree)) && tree.orphans().is_empty();
        let tree = until(receiver, &trace, "whole tree", whole).await?;

        let roots: Vec<&Seen> = tree.spans().filter(|span| span.parent.is_none()).collect();
        ensure!(roots.len() == 1 && roots[0].name == "POST /place-order", "{tree}");
        ensure!(roots[0].service == "gateway" && roots[0].kind == "server", "{tree}");
        ensure!(
            roots[0].has("http.request.method", "POST") && roots[0].has("http.route", "/place-order"),
            "{tree}"
        );
        ensure!(roots[0].has("http.response.status_code", "202"), "{tree}");

        // From the terminal event back to the request.
        let last = tree.spans().find(|span| is_sent_last(span, &tree)).context("none was sent last")?;
        let way = tree.way(last);
        let by_delivery = ["send deliveries", "process payments"];
        let mut expected = vec!["send orders", "process deliveries"];
        expected.extend(by_delivery);
        let mut tail = vec!["send payments", "process orders", "send orders"];
        // Where the courier's word came before the payment's, the latter ends the order.
        if way.get(1) == Some(&"process payments") {
            expected = vec!["send orders", "process payments"];
        }
        expected.append(&mut tail);
        ensure!(way.starts_with(&expected) && way.last() == Some(&"POST /place-order"), "{way:?}\n{tree}");
        ensure!(way.len() == expected.len() + 2, "the request passes gateway and orders: {way:?}");

        // Each attempt at the payment goes back to the one before it: two that failed, the last one, and the death before them.
        let of_payment: Vec<&Seen> = tree
            .spans()
            .filter(|span| {
                span.service == "payments"
                    && span.name == "process orders"
                    && span.has("messaging.kafka.message.key", &id.to_string())
            })
            .collect();
        let one = |outcome: &str, generation: &str, attempt: &str| {
            let found: Vec<&&Seen> = of_payment
                .iter()
                .filter(|span| {
                    span.has("backburner.outcome", outcome)
                        && span.has("backburner.generation", generation)
                        && span.has("backburner.attempt", attempt)
                })
                .collect();
            ensure!(found.len() == 1, "{} of {outcome} {generation}/{attempt}\n{tree}", found.len());
            Ok(*found[0])
        };
        let death = one("dead", "1", "1")?;
        let (first, second) = (one("failed", "2", "1")?, one("failed", "2", "2")?);
        let applied = one("applied", "2", "3")?;
        ensure!(of_payment.len() == 4, "{tree}");
        ensure!(
            death.links.is_empty() && death.has("error.type", "amount-over-limit") && death.failed,
            "{tree}"
        );
        ensure!(death.has("backburner.dead_letter_id", &letter.id), "{tree}");
        for (after, before) in [(first, death), (second, first), (applied, second)] {
            ensure!(after.links == [before.id.clone()], "{after:?} does not link to {before:?}\n{tree}");
            ensure!(after.parent == death.parent, "all are of one record\n{tree}");
        }
        ensure!(first.failed && second.failed && !applied.failed, "{tree}");
        for (name, value) in [
            ("messaging.system", "kafka"),
            ("messaging.destination.name", "orders"),
            ("messaging.consumer.group.name", PAYMENTS_GROUP),
            ("messaging.operation.name", "process"),
            ("messaging.operation.type", "process"),
            ("backburner.event_type", "ORDER_CREATED"),
        ] {
            ensure!(applied.has(name, value), "{name} is not {value}: {applied:?}");
        }
        // That it stalled was heard by orders, and is the death's doing.
        let stalled = tree.spans().any(|span| {
            span.has("backburner.event_type", "PAYMENT_STALLED")
                && tree.parent(span).and_then(|sent| tree.parent(sent)).is_some_and(|by| by.id == death.id)
        });
        ensure!(stalled, "{tree}");
        println!("{tree}");
        Ok(())
    })
}

#[test]
fn a_callers_trace_goes_on_and_its_wish_not_to_be_told_of_is_kept() -> Result<()> {
    run(async |trial, receiver| {
        let http = reqwest::Client::new();
        let post = async |traceparent: &str| {
            let body = serde_json::json!({"item": "tea", "amount_cents": 1_290, "customer_id": "c", "payment_token": "tok_ok"});
            let request = http.post(format!("{}/place-order", trial.gateway.url())).json(&body);
            let answer = request.header("traceparent", traceparent).send().await?.error_for_status()?;
            let answer: serde_json::Value = answer.json().await?;
            anyhow::Ok(answer["order_id"].as_str().context("an order's id")?.parse::<Uuid>()?)
        };
        let trace = || Uuid::new_v4().simple().to_string();
        let (untold, told) = (trace(), trace());
        let quiet = post(&format!("00-{untold}-00f067aa0ba902b7-00")).await?;
        trial.gateway.until(quiet, "COMPLETED", SOON).await?;
        let loud = post(&format!("00-{told}-00f067aa0ba902b7-01")).await?;
        trial.gateway.until(loud, "COMPLETED", SOON).await?;
        let whole =
            |tree: &Tree| tree.spans().any(|span| is_sent_last(span, tree)) && tree.orphans().len() == 1;
        let tree = until(receiver, &told, "whole tree", whole).await?;
        let top = tree.orphans();
        ensure!(
            top[0].name == "POST /place-order" && top[0].parent.as_deref() == Some("00f067aa0ba902b7"),
            "{tree}"
        );
        // It came before, and would have been told by now.
        ensure!(receiver.trace(&untold).is_empty(), "{}", Tree::of(receiver.trace(&untold)));
        Ok(())
    })
}

#[test]
fn a_record_without_a_trace_begins_one_and_is_in_it_when_it_is_put_back() -> Result<()> {
    run(async |trial, receiver| {
        let key = Uuid::new_v4();
        trial.publish("orders", &key.to_string(), Some(b"no json")).await?;
        let letter = trial.dead(PAYMENTS_GROUP, &key.to_string()).await?;
        let trace = trace_of(receiver, key).await?;
        let of = |span: &Seen, generation| {
            span.has("messaging.consumer.group.name", PAYMENTS_GROUP)
                && span.has("backburner.generation", generation)
        };
        // It dies again, which the inspector says by how it ends.
        trial.inspector.run(&["requeue", &letter.id, "--execute", "--wait"]).await?;
        let twice = |tree: &Tree| tree.spans().any(|span| of(span, "2"));
        let tree = until(receiver, &trace, "second death", twice).await?;
        let one =
            |generation| tree.spans().find(|span| of(span, generation)).with_context(|| format!("{tree}"));
        let (first, second) = (one("1")?, one("2")?);
        for death in [first, second] {
            ensure!(death.name == "process orders" && death.parent.is_none(), "{tree}");
            ensure!(
                death.has("backburner.outcome", "dead")
                    && death.has("backburner.dead_letter_class", "poison"),
                "{tree}"
            );
        }
        ensure!(first.links.is_empty() && second.links == [first.id.clone()], "{tree}");
        Ok(())
    })
}

#[test]
fn a_collector_that_refuses_costs_spans_and_nothing_else() -> Result<()> {
    run(async |trial, receiver| {
        let refusing = receiver.refuse();
        let id = trial.gateway.place("tok_ok", 1_290).await?;
        trial.gateway.until(id, "COMPLETED", SOON).await?;
        let started = Instant::now();
        for role in SERVICES {
            let url = trial.stack.admin_url(role, 1)?;
            let failed = async || -> Result<bool> {
                let text = admin::metrics(&url).await?;
                let line = text
                    .lines()
                    .find_map(|line| line.strip_prefix("backburner_trace_spans_total{outcome=\"failed\"} "));
                Ok(line.context("no such metric")?.parse::<f64>()? > 0.0)
            };
            while !failed().await? {
                ensure!(started.elapsed() < SOON, "{role} says of no span that it was not taken");
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
            // Partitions may still be on their way to their members.
            trial.until_degraded(role, "as well as without", SOON, <[_]>::is_empty).await?;
        }
        drop(refusing);
        let id = trial.gateway.place("tok_ok", 1_290).await?;
        trial.gateway.until(id, "COMPLETED", SOON).await?;
        trace_of(receiver, id).await?;
        Ok(())
    })
}
