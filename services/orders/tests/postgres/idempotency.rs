//! Requests that are sent again, by a client that has lost the answer or never got one.

use std::time::{Duration, Instant};

use chassis::shutdown::trigger;
use chrono::Utc;
use orders::{
    idempotency::Key,
    intake::{self, Door, Placed, Refusal},
    store::keys,
};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::support::{Trial, nowhere, place_with};

const BODY: &[u8] = br#"{"item":"soup"}"#;
const OTHER: &[u8] = br#"{"item":"soup","quantity":3}"#;

fn key(name: &str, body: &[u8]) -> Key {
    Key { subject: String::new(), key: name.to_owned(), body: Sha256::digest(body).into() }
}

async fn place(door: &Door, name: &str, body: &[u8]) -> Result<Placed, Refusal> {
    place_with(door, Some(key(name, body)), body).await
}

#[tokio::test]
async fn one_key_places_one_order_however_often_it_comes() {
    let trial = Trial::start(10_000).await;
    let first = place(&trial.door, "k", BODY).await.expect("accepted");
    assert!(!first.replayed);
    for _ in 0..3 {
        let again = place(&trial.door, "k", BODY).await.expect("accepted");
        assert_eq!(again, Placed { order_id: first.order_id, replayed: true });
    }
    assert_eq!(place(&trial.door, "k", OTHER).await, Err(Refusal::KeyReused));
    let other = place(&trial.door, "another", OTHER).await.expect("accepted");
    let mut both = vec![first.order_id, other.order_id];
    both.sort_unstable();
    assert_eq!(trial.orders().await, both);
    assert_eq!(trial.announced().await, both, "each is announced once");
}

#[tokio::test]
async fn the_same_key_of_two_subjects_is_two() {
    let trial = Trial::start(10_000).await;
    let of = |subject: &str| Key { subject: subject.to_owned(), ..key("k", BODY) };
    let one = place_with(&trial.door, Some(of("one")), BODY).await.expect("accepted");
    let other = place_with(&trial.door, Some(of("other")), BODY).await.expect("accepted");
    assert!(!one.replayed && !other.replayed && one.order_id != other.order_id);
}

/// Two instances, and each key at both of them many times at once, now and then with another body.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn crowds_at_two_instances_place_one_order_for_each_key() {
    const KEYS: usize = 40;
    let trial = Trial::start(1_000_000).await;
    let (door, intake) = intake::open(trial.pool.clone(), nowhere(), 1_000_000).await.expect("opens");
    let (_closing, listener) = trigger();
    tokio::spawn(intake.run(listener, Duration::ZERO));
    let mut placing = Vec::new();
    for turn in 0..KEYS * 20 {
        let door = if turn % 2 == 0 { trial.door.clone() } else { door.clone() };
        let name = format!("k-{}", turn * 7 % KEYS);
        let body = if turn % 11 == 10 { OTHER } else { BODY };
        placing.push(tokio::spawn(async move { (name.clone(), place(&door, &name, body).await) }));
    }
    let mut placed: std::collections::BTreeMap<String, Vec<Placed>> = Default::default();
    let mut reused = 0;
    for one in placing {
        match one.await.expect("no panic") {
            (name, Ok(one)) => placed.entry(name).or_default().push(one),
            (_, Err(Refusal::KeyReused)) => reused += 1,
            (name, Err(refusal)) => panic!("{name}: {refusal}"),
        }
    }
    assert!(reused > 0);
    let mut orders: Vec<Uuid> = placed.values().map(|placed| placed[0].order_id).collect();
    orders.sort_unstable();
    for (name, placed) in &placed {
        assert!(placed.iter().all(|one| one.order_id == placed[0].order_id), "{name}: {placed:?}");
        assert_eq!(placed.iter().filter(|one| !one.replayed).count(), 1, "{name}: {placed:?}");
    }
    assert_eq!(orders.len(), KEYS);
    assert_eq!(trial.orders().await, orders);
    assert_eq!(trial.announced().await, orders);
}

/// A client that sends each order until it is accepted, over connections that are cut all the time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_repeats_until_it_is_accepted_orders_once_whatever_is_cut() {
    let trial = Trial::start(1_000_000).await;
    let cut = "select count(pg_terminate_backend(pid)) from pg_stat_activity
               where datname = current_database() and pid <> pg_backend_pid()";
    let (mut cuts, mut repeated, mut orders) = (0, 0, Vec::new());
    let started = Instant::now();
    while (cuts < 25 || repeated == 0) && started.elapsed() < Duration::from_secs(30) {
        let placing: Vec<_> = (0..20)
            .map(|_| {
                let door = trial.door.clone();
                tokio::spawn(async move {
                    let (name, mut tries) = (Uuid::new_v4().to_string(), 0);
                    loop {
                        tries += 1;
                        match place(&door, &name, BODY).await {
                            Ok(placed) => return (placed.order_id, tries),
                            Err(refusal) => assert_ne!(refusal, Refusal::KeyReused),
                        }
                    }
                })
            })
            .collect();
        if let Ok(client) = trial.pool.get().await
            && client.query_one(cut, &[]).await.is_ok_and(|row| row.get::<_, i64>(0) > 0)
        {
            cuts += 1;
        }
        for one in placing {
            let (order, tries) = one.await.expect("no panic");
            orders.push(order);
            repeated += usize::from(tries > 1);
        }
    }
    assert!(cuts >= 25 && repeated > 0, "the cuts must be felt: {cuts} cuts, {repeated} repeated");
    orders.sort_unstable();
    assert_eq!(trial.orders().await, orders);
    assert_eq!(trial.announced().await, orders);
}

#[tokio::test]
async fn a_key_is_known_for_a_day_and_then_forgotten() {
    let trial = Trial::start(10_000).await;
    let first = place(&trial.door, "k", BODY).await.expect("accepted");
    let young = place(&trial.door, "young", BODY).await.expect("accepted");
    let client = trial.pool.get().await.expect("a connection");
    let age = async |hours: f64| {
        let sql = "update idempotency set created_at = now() - $1 * interval '1 hour' where key = 'k'";
        client.execute(sql, &[&hours]).await.expect("aged");
    };
    age(23.9).await;
    assert_eq!(place(&trial.door, "k", BODY).await.expect("accepted").order_id, first.order_id);
    age(24.1).await;
    let second = place(&trial.door, "k", OTHER).await.expect("accepted: it is free");
    assert!(!second.replayed && second.order_id != first.order_id);
    assert!(!keys::forget(&client, Utc::now()).await.expect("looked"));
    assert_eq!(trial.number("select count(*) from idempotency").await, 2);
    age(25.1).await;
    assert!(!keys::forget(&client, Utc::now()).await.expect("deleted"));
    assert_eq!(trial.number("select count(*) from idempotency").await, 1);
    assert!(place(&trial.door, "young", BODY).await.expect("accepted").order_id == young.order_id);
}
