use std::time::{Duration, Instant};

use axum::{
    body::Body,
    http::{Request, request::Builder},
};
use chassis::{
    shutdown::trigger,
    testing::{empty_database, reach},
};
use orders::{http::app, intake::Refusal};
use tower::ServiceExt;

use crate::support::{Trial, api, nowhere, place};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn orders_are_committed_together_each_with_its_event() {
    let trial = Trial::start(10_000).await;
    let placed: Vec<_> = (0..300).map(|_| trial.place()).collect();
    let mut ids = Vec::new();
    for placed in placed {
        ids.push(placed.await.expect("no panic").expect("accepted"));
    }
    ids.sort_unstable();
    assert_eq!(trial.orders().await, ids);
    assert_eq!(trial.announced().await, ids);
    let transactions = trial.number("select count(distinct xmin::text) from orders").await;
    assert!(transactions < 150, "300 orders took {transactions} transactions");
}

#[tokio::test]
async fn who_hangs_up_does_not_hurt_the_others() {
    let trial = Trial::start(10_000).await;
    let mut stay = Vec::new();
    for turn in 0..100 {
        let placed = trial.place();
        tokio::task::yield_now().await;
        if turn % 3 == 0 {
            placed.abort();
        } else {
            stay.push(placed);
        }
    }
    let mut accepted = Vec::new();
    for placed in stay {
        accepted.push(placed.await.expect("no panic").expect("accepted"));
    }
    let orders = trial.orders().await;
    assert!(accepted.iter().all(|id| orders.contains(id)));
    assert_eq!(trial.announced().await, orders, "whatever was stored is announced, whoever listens");
}

/// Connections are cut while orders come in: what was answered is so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cut_connections_lose_nothing_that_was_accepted() {
    let trial = Trial::start(1_000_000).await;
    let cut = "select count(pg_terminate_backend(pid)) from pg_stat_activity
               where datname = current_database() and pid <> pg_backend_pid()";
    let (mut accepted, mut unknown, mut refused, mut cuts) = (Vec::new(), Vec::new(), 0, 0);
    let started = Instant::now();
    while (cuts < 25 || refused == 0) && started.elapsed() < Duration::from_secs(30) {
        let placed: Vec<_> = (0..20).map(|_| trial.place()).collect();
        if let Ok(client) = trial.pool.get().await
            && client.query_one(cut, &[]).await.is_ok_and(|row| row.get::<_, i64>(0) > 0)
        {
            cuts += 1;
        }
        for placed in placed {
            match placed.await.expect("no panic") {
                Ok(id) => accepted.push(id),
                Err(Refusal::Unknown(id)) => unknown.push(id),
                Err(Refusal::Unavailable | Refusal::Busy(_)) => refused += 1,
                Err(refusal @ Refusal::KeyReused) => panic!("{refusal}"),
            }
        }
    }
    assert!(cuts >= 25 && refused > 0, "the cuts must be felt: {cuts} cuts, {refused} refused");
    let orders = trial.orders().await;
    assert!(accepted.iter().all(|id| orders.contains(id)), "an accepted order is missing");
    let unaccepted: Vec<_> = orders.iter().filter(|id| !accepted.contains(id)).collect();
    assert!(unaccepted.iter().all(|id| unknown.contains(id)), "a refused order was stored: {unaccepted:?}");
    assert_eq!(trial.announced().await, orders, "stored and announced are the same");
    // The intake may still be given a connection that was cut.
    let started = Instant::now();
    while let Err(refusal) = place(&trial.door).await {
        assert!(started.elapsed() < Duration::from_secs(10), "it does not work afterwards: {refusal:?}");
    }
}

#[tokio::test]
async fn an_instance_that_was_taken_over_takes_a_new_name() {
    let trial = Trial::start(10_000).await;
    place(&trial.door).await.expect("accepted");
    let lane = "select count(distinct lane) from outbox";
    assert_eq!(trial.number(lane).await, 1);
    let client = trial.pool.get().await.expect("a connection");
    client.execute("delete from outbox_instance", &[]).await.expect("taken over");
    place(&trial.door).await.expect("accepted under another name");
    assert_eq!(trial.number(lane).await, 2);
    assert_eq!(trial.announced().await, trial.orders().await);
}

#[tokio::test]
async fn orders_are_refused_while_too_many_events_wait_for_kafka() {
    let trial = Trial::start(2).await;
    let started = Instant::now();
    let refusal = loop {
        match place(&trial.door).await {
            Ok(_) => assert!(started.elapsed() < Duration::from_secs(10), "never refused"),
            Err(refusal) => break refusal,
        }
    };
    assert!(matches!(refusal, Refusal::Busy(_)), "{refusal:?}");
    assert_eq!(trial.orders().await.len(), 2);
}

#[tokio::test]
async fn closing_answers_what_had_come_in() {
    let trial = Trial::start(10_000).await;
    let placed: Vec<_> = (0..20).map(|_| trial.place()).collect();
    tokio::task::yield_now().await;
    trial.closing.fire();
    let mut accepted = 0;
    for placed in placed {
        match placed.await.expect("no panic") {
            Ok(_) => accepted += 1,
            Err(refusal) => assert!(matches!(refusal, Refusal::Busy(_)), "{refusal:?}"),
        }
    }
    let door = trial.door.clone();
    let Trial { task, pool, .. } = trial;
    assert!(!task.await.expect("no panic"), "Kafka is not there to take the events");
    let client = pool.get().await.expect("a connection");
    let stored: i64 = client.query_one("select count(*) from orders", &[]).await.expect("a query").get(0);
    assert_eq!(stored, accepted);
    assert!(matches!(place(&door).await, Err(Refusal::Busy(_))));
}

/// Readers that wait for a connection hold neither orders up nor batches, and are told to come back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crowd_of_readers_holds_no_order_up() {
    let database = reach(&empty_database("orders").await);
    database.migrate(orders::migrations()).await.expect("migrates");
    let pools = database.pools(16, 4).expect("pools");
    let (door, intake) = orders::intake::open(pools.intake.clone(), nowhere(), 10_000).await.expect("opens");
    let (closing, listener) = trigger();
    let intake = tokio::spawn(intake.run(listener, Duration::ZERO));
    let (closer, _cancels) = orders::closing::closer(1);
    let api = api(door, closer, pools.reads.clone());
    let mut readers = Vec::new();
    for _ in 0..pools.reads.status().max_size {
        readers.push(pools.reads.get().await.expect("a connection"));
    }
    let send = |request: Builder, body: &'static str| {
        let request = request.body(Body::from(body)).expect("valid");
        let app = app(api.clone());
        async move { app.oneshot(request).await.expect("infallible") }
    };
    let started = Instant::now();
    let waiting = (0..200).map(|_| send(Request::get("/orders?limit=500"), ""));
    let waiting = tokio::spawn(futures_util::future::join_all(waiting));
    for _ in 0..20 {
        let placed = send(Request::post("/orders"), r#"{"item":"soup"}"#).await;
        assert_eq!(placed.status(), 202);
    }
    drop(pools.pipeline.get().await.expect("a connection for a batch"));
    for refused in waiting.await.expect("no panic") {
        assert_eq!(refused.status(), 503);
        assert!(refused.headers().contains_key("retry-after"));
    }
    assert!(started.elapsed() < Duration::from_secs(4), "{:?}", started.elapsed());
    drop(readers);
    assert_eq!(send(Request::get("/orders?limit=500"), "").await.status(), 200);
    closing.fire();
    intake.await.expect("no panic");
}
