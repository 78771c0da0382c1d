//! Orders that are cancelled, or over their time.

use std::time::Duration;

use chassis::{Correlation, shutdown::trigger};
use contracts::{DeliveryAssigned, PaymentStalled, PaymentSuccess};
use orders::{
    closing::{self, Refusal},
    domain::Status,
};
use serde_json::json;
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use crate::{
    store::{apply, get, inbound, post},
    support::{LONG, Trial, nowhere, place},
};

fn by_customer() -> Correlation {
    Correlation { id: "c-cancel".into(), traceparent: "00-a-b-01".into() }
}

pub(crate) fn paid(order_id: Uuid) -> PaymentSuccess {
    let provider_reference = "ch_1".to_owned();
    PaymentSuccess {
        order_id,
        order_version: 1,
        amount_cents: 2_580,
        provider_reference,
        payment_token: None,
    }
}

/// What the outbox says of an order, beside that it was placed.
async fn said(trial: &Trial, order: Uuid) -> Vec<String> {
    let client = trial.pool.get().await.expect("a connection");
    let sql = "select convert_from(value, 'UTF8')::jsonb ->> 'event_type' from outbox
               where convert_from(key, 'UTF8') = $1::text and convert_from(value, 'UTF8')::jsonb ->> 'event_type' <> 'ORDER_CREATED' order by 1";
    let rows = client.query(sql, &[&order.to_string()]).await.expect("a query");
    rows.iter().map(|row| row.get(0)).collect()
}

/// Where an order is, asked on as many connections as were cut.
async fn state(trial: &Trial, order: Uuid) -> String {
    let mut tries = 0;
    loop {
        let client = trial.pool.get().await.expect("a connection");
        match client.query_one("select state from orders where order_id = $1", &[&order]).await {
            Ok(row) => return row.get(0),
            Err(error) if tries < 32 => drop((error, tries += 1)),
            Err(error) => panic!("{error}"),
        }
    }
}

/// Waits until an order is in a state.
async fn until(trial: &Trial, order: Uuid, state: &str) -> serde_json::Value {
    let started = Instant::now();
    loop {
        let (_, shown) = get(trial, &format!("/orders/{order}")).await;
        if shown["status"] == state {
            return shown;
        }
        assert!(started.elapsed() < Duration::from_secs(20), "not {state}: {shown}");
        sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancel_ends_an_order_once_and_says_what_has_to_be_done() {
    let trial = Trial::start(10_000).await;
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(place(&trial.door).await.expect("accepted"));
    }
    let [pending, with_money, delivered] = ids[..] else { unreachable!() };
    let assigned =
        DeliveryAssigned { order_id: delivered, order_version: 1, courier_id: 7, courier: "Ada".into() };
    apply(&trial, &[inbound(paid(with_money)), inbound(paid(delivered)), inbound(assigned)]).await;

    // As many at once as may be: each is answered, and the order is ended once.
    let cancels = (0..20).map(|_| trial.closer.cancel(pending, by_customer()));
    for answer in futures_util::future::join_all(cancels).await {
        assert_eq!(answer, Ok(Status::Cancelled));
    }
    let (status, order) = post(&trial, &format!("/orders/{pending}/cancel")).await;
    assert_eq!((status, &order["status"]), (200, &json!("CANCELLED")));
    assert_eq!(order["reason"], "cancelled by the customer");
    assert_eq!(said(&trial, pending).await, ["ORDER_CANCELLED"]);

    let (status, order) = post(&trial, &format!("/orders/{with_money}/cancel")).await;
    assert_eq!((status, &order["status"]), (200, &json!("REFUNDING")));
    assert_eq!(said(&trial, with_money).await, ["REFUND_REQUESTED"]);
    let timeline = order["timeline"].as_array().expect("a timeline");
    assert_eq!(timeline.last().expect("an entry")["event_type"], "REFUND_REQUESTED");

    let (status, problem) = post(&trial, &format!("/orders/{delivered}/cancel")).await;
    assert_eq!(status, 409, "{problem}");
    assert_eq!(trial.closer.cancel(Uuid::nil(), by_customer()).await, Err(Refusal::NoOrder));
    assert!(said(&trial, delivered).await.is_empty());
}

/// However many instances look for them at the same time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_over_its_time_is_ended_once_and_the_rest_goes_on() {
    let trial = Trial::start(10_000).await;
    let mut old = Vec::new();
    for _ in 0..450 {
        old.push(trial.place());
    }
    let old: Vec<Uuid> = futures_util::future::join_all(old)
        .await
        .into_iter()
        .map(|id| id.expect("no panic").expect("accepted"))
        .collect();
    let young = place(&trial.door).await.expect("accepted");
    let paid_for: Vec<_> = old.iter().step_by(3).map(|id| inbound(paid(*id))).collect();
    apply(&trial, &paid_for).await;
    // As if they had been placed an hour ago: in their ids, too.
    let client = trial.pool.get().await.expect("a connection");
    let aged = "update orders set created_at = created_at - interval '1 hour', order_id = ('0000' || substr(replace(order_id::text, '-', ''), 5))::uuid
                where order_id <> $1 returning order_id, state";
    client.execute(aged, &[&young]).await.expect("aged");

    let time_out = Duration::from_secs(900);
    let mut tasks = Vec::new();
    let (stop, listener) = trigger();
    for _ in 0..3 {
        let (_closer, closing) = closing::open(trial.pool.clone(), nowhere(), time_out).await.expect("opens");
        tasks.push((_closer, tokio::spawn(closing.run(listener.clone(), Duration::ZERO))));
    }
    let started = Instant::now();
    while trial.number("select count(*) from orders where state in ('PENDING', 'PAID')").await > 1 {
        assert!(started.elapsed() < Duration::from_secs(20), "not ended");
        sleep(Duration::from_millis(50)).await;
    }
    stop.fire();
    for (_closer, task) in tasks {
        task.await.expect("no panic");
    }
    let twice = "select count(*) from (select 1 from outbox where convert_from(value, 'UTF8')::jsonb ->> 'event_type' <> 'ORDER_CREATED' group by key having count(*) > 1) as twice";
    assert_eq!(trial.number(twice).await, 0);
    assert_eq!(trial.number("select count(*) from outbox where convert_from(value, 'UTF8')::jsonb ->> 'event_type' <> 'ORDER_CREATED'").await, 450);
    assert_eq!(
        trial
            .number("select count(*) from orders where state = 'REFUNDING' and cancelled like 'timed out%'")
            .await,
        150
    );
    assert_eq!(
        trial
            .number("select count(*) from orders where state = 'CANCELLED' and reason like 'timed out%900 s'")
            .await,
        300
    );
    assert_eq!(get(&trial, &format!("/orders/{young}")).await.1["status"], "PENDING");
    let own = "select count(*) from outbox where convert_from(value, 'UTF8')::jsonb ->> 'event_type' <> 'ORDER_CREATED'
               and convert_from(value, 'UTF8')::jsonb ->> 'correlation_id' <> 'c-1'";
    assert_eq!(trial.number(own).await, 0, "what ends an order belongs to its conversation");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_is_ended_at_its_time_also_by_an_instance_that_came_later() {
    let trial = Trial::start(10_000).await;
    let order = place(&trial.door).await.expect("accepted");
    trial.ending.abort();
    let (_closer, closing) =
        closing::open(trial.pool.clone(), nowhere(), Duration::from_secs(1)).await.expect("opens");
    let (_stop, listener) = trigger();
    let task = tokio::spawn(closing.run(listener, Duration::ZERO));
    let shown = until(&trial, order, "CANCELLED").await;
    assert_eq!(shown["reason"], "timed out: not delivered within 1 s");
    task.abort();
}

/// The server may end connections at any moment: what was asked for is done once, and answered.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancel_is_answered_whatever_becomes_of_its_connection() {
    let trial = Trial::with_time_out(10_000, LONG).await;
    let mut orders = Vec::new();
    for _ in 0..60 {
        orders.push(place(&trial.door).await.expect("accepted"));
    }
    let cut = "select pg_terminate_backend(pid) from pg_stat_activity
               where datname = current_database() and pid <> pg_backend_pid()";
    for order in &orders {
        let cancel = trial.closer.cancel(*order, by_customer());
        let kill = async {
            if let Ok(client) = trial.pool.get().await {
                // Its own connection may have been cut a moment ago.
                let _cut = client.execute(cut, &[]).await;
            }
        };
        let (mut answer, ()) = tokio::join!(cancel, kill);
        let started = Instant::now();
        while !matches!(answer, Ok(Status::Cancelled)) {
            assert!(matches!(answer, Err(Refusal::Unavailable(_) | Refusal::Unknown)), "{answer:?}");
            if matches!(answer, Err(Refusal::Unavailable(_))) {
                // Which says that nothing was done.
                assert_eq!(state(&trial, *order).await, "PENDING");
            }
            assert!(started.elapsed() < Duration::from_secs(20), "{answer:?}");
            sleep(Duration::from_millis(20)).await;
            answer = trial.closer.cancel(*order, by_customer()).await;
        }
    }
    for order in orders {
        let mut tries = 0;
        let events = loop {
            // As above.
            let client = trial.pool.get().await.expect("a connection");
            let sql = "select count(*) from outbox where convert_from(value, 'UTF8')::jsonb ->> 'event_type' <> 'ORDER_CREATED' and convert_from(key, 'UTF8') = $1::text";
            match client.query_one(sql, &[&order.to_string()]).await {
                Ok(row) => break row.get::<_, i64>(0),
                Err(error) if tries < 32 => drop((error, tries += 1)),
                Err(error) => panic!("{error}"),
            }
        };
        assert_eq!(events, 1, "{order}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stalled_order_is_shown_and_listed_until_it_goes_on() {
    let trial = Trial::start(10_000).await;
    let (order, other) =
        (place(&trial.door).await.expect("accepted"), place(&trial.door).await.expect("accepted"));
    let stalled = PaymentStalled {
        order_id: order,
        order_version: 1,
        dead_letter_id: Uuid::from_u128(5),
        event_type: "ORDER_CREATED".into(),
        code: "payment-method-unusable".into(),
        generation: 1,
    };
    apply(&trial, &[inbound(stalled)]).await;
    let (_, shown) = get(&trial, &format!("/orders/{order}")).await;
    assert_eq!(
        (&shown["stalled"]["by"], &shown["stalled"]["code"]),
        (&json!("payments"), &json!("payment-method-unusable"))
    );
    assert_eq!(shown["stalled"]["dead_letter_id"], json!(Uuid::from_u128(5)));
    assert_eq!((&shown["attention"], &shown["status"]), (&json!("dead-letter"), &json!("PENDING")));
    let ids = async |query: &str| -> Vec<serde_json::Value> {
        let (status, page) = get(&trial, &format!("/orders?{query}")).await;
        assert_eq!(status, 200, "{page}");
        page["orders"].as_array().expect("a list").iter().map(|order| order["order_id"].clone()).collect()
    };
    assert_eq!(ids("stalled=true").await, [json!(order)]);
    assert_eq!(ids("stalled=true&status=PAID").await, Vec::<serde_json::Value>::new());
    assert_eq!(ids("stalled=false").await, [json!(other)]);
    assert_eq!(ids("").await.len(), 2);
    assert_eq!(get(&trial, "/orders?stalled=perhaps").await.0, 400);

    apply(&trial, &[inbound(paid(order))]).await;
    let (_, shown) = get(&trial, &format!("/orders/{order}")).await;
    assert_eq!((&shown["stalled"], &shown["attention"]), (&json!(null), &json!(null)));
    assert!(ids("stalled=true").await.is_empty());

    // Money that is on its way back for long needs a person.
    trial.closer.cancel(order, by_customer()).await.expect("cancelled");
    let client = trial.pool.get().await.expect("a connection");
    client
        .execute(
            "update orders set owed_since = now() - interval '11 minutes' where order_id = $1",
            &[&order],
        )
        .await
        .expect("aged");
    let (_, shown) = get(&trial, &format!("/orders/{order}")).await;
    assert_eq!((&shown["status"], &shown["attention"]), (&json!("REFUNDING"), &json!("refund-overdue")));
}

/// Whatever the tables hold: the orders that are late are found by an index, the oldest first, and not by looking at all that have ended.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn those_that_are_late_are_found_among_many_that_have_ended() {
    let trial = Trial::start(100_000).await;
    place(&trial.door).await.expect("accepted");
    let client = trial.pool.get().await.expect("a connection");
    let many = "insert into orders (order_id, state, version, customer_id, item, quantity, amount_cents, correlation_id,
                                    timeline, created_at, updated_at)
        select (lpad(to_hex(n), 12, '0') || '70008' || lpad(to_hex(n), 15, '0'))::uuid,
               case when n > 190000 then 'PENDING' else 'COMPLETED' end,
               1, 'c', 'soup', 1, 1, 'c-2', '[]', now() - interval '1 hour', now() from generate_series(1, 200000) as n";
    client.execute(many, &[]).await.expect("inserted");
    client.batch_execute("analyze orders").await.expect("analyzed");
    let started = Instant::now();
    let (_closer, closing) =
        closing::open(trial.pool.clone(), nowhere(), Duration::from_secs(900)).await.expect("opens");
    let (stop, listener) = trigger();
    let task = tokio::spawn(closing.run(listener, Duration::ZERO));
    while trial.number("select count(*) from orders where state = 'PENDING'").await > 1 {
        assert!(started.elapsed() < Duration::from_secs(60), "10,000 late orders are not ended");
        sleep(Duration::from_millis(100)).await;
    }
    eprintln!("10,000 late orders among 190,000 ended ones: {:.1} s", started.elapsed().as_secs_f64());
    stop.fire();
    task.await.expect("no panic");
}

/// What lies unread may say that the order is delivered.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_time_of_an_order_stands_still_while_nobody_reads_what_is_said_of_it_though_not_for_ever() {
    let trial = Trial::start(10_000).await;
    let (late, very_late) =
        (place(&trial.door).await.expect("accepted"), place(&trial.door).await.expect("accepted"));
    let client = trial.pool.get().await.expect("a connection");
    let aged = "update orders set created_at = now() - make_interval(mins => $2),
                                  order_id = ('0000' || substr(replace(order_id::text, '-', ''), 5))::uuid
                where order_id = $1 returning order_id";
    let late: Uuid = client.query_one(aged, &[&late, &18]).await.expect("aged").get(0);
    let very_late: Uuid = client.query_one(aged, &[&very_late, &40]).await.expect("aged").get(0);
    let lease = "insert into partition_lease (consumer, topic, partition, epoch, owner, first_offset, next_offset, cluster_id,
                                              clean, claimed_at, caught_up_at)
                 values ('orders-service', 'payments', 0, 1, 'x', 0, 0, 'c', true, now(), now() - interval '17 minutes')";
    client.execute(lease, &[]).await.expect("a lease");
    let (_closer, closing) =
        closing::open(trial.pool.clone(), nowhere(), Duration::from_secs(900)).await.expect("opens");
    let (_stop, listener) = trigger();
    let task = tokio::spawn(closing.run(listener, Duration::ZERO));
    until(&trial, very_late, "CANCELLED").await;
    // Looked at as often as the other one.
    assert_eq!(get(&trial, &format!("/orders/{late}")).await.1["status"], "PENDING");
    client.execute("update partition_lease set caught_up_at = now()", &[]).await.expect("caught up");
    until(&trial, late, "CANCELLED").await;
    task.abort();
}
