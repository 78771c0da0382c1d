//! What is published: once where nobody died, whatever Kafka refuses.

use std::{collections::HashMap, time::Duration};

use actors::{
    Condition, Emit, Group, Headers, OutboxWriter, Publisher,
    dead_letters::dlq_topic,
    metrics::{OUTBOX_ROWS, Sample},
};
use rdkafka::Message;

use crate::{
    delivery::{id, keys},
    support::{LIMIT, World, until},
};

/// How often each number was said of each key.
async fn said(world: &World) -> HashMap<Vec<u8>, usize> {
    let mut said = HashMap::new();
    for record in world.read(&world.out).await {
        *said.entry(record.payload().expect("a body").to_vec()).or_default() += 1;
    }
    said
}

async fn emptied(world: &World) {
    until("the outbox is empty", || async { world.number("SELECT count(*) FROM outbox").await == 0 }).await;
}

async fn stop(group: Group) {
    assert!(group.shutdown(Duration::from_secs(10)).await, "it leaves in order");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_actor_that_dies_publishes_nothing_twice() {
    let world = World::new(2).await;
    let group = world.start().await;
    let events: Vec<_> = (0..300)
        .map(|n| {
            let (key, mode) = (format!("key-{n}"), if n % 30 == 7 { "panic-once" } else { "ok" });
            let event = World::event(id(), &key, n, mode);
            (key, event)
        })
        .collect();
    // One death for each of these, with rows of those before it published and not yet deleted.
    for (some, applied) in events.chunks(30).zip((30..).step_by(30)) {
        world.send_all(some.iter().map(|(key, event)| (key.as_str(), event.as_slice()))).await;
        world.until_counted("applied", applied).await;
    }
    emptied(&world).await;
    let said = said(&world).await;
    assert_eq!(said.len(), 300);
    let twice = said.values().filter(|count| **count > 1).count();
    assert_eq!(twice, 0, "published twice");
    let restarts: u32 = group.partitions().iter().map(|lane| lane.restarts).sum();
    assert!(restarts >= 10, "{restarts} actors died");
    stop(group).await;
}

/// A poison record that no compression makes small.
fn random(bytes: usize) -> String {
    (0..bytes / 32).map(|_| uuid::Uuid::new_v4().simple().to_string()).collect()
}

fn refuses(group: &Group) -> bool {
    group.degraded().iter().any(|condition| condition.code == "outbox-refused")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_letter_topic_that_refuses_holds_no_event_up_and_is_named() {
    let world = World::new(1).await;
    let dlq = dlq_topic(&world.group);
    world.configure(&dlq, &[("max.message.bytes", "2000")]).await;
    let group = world.start().await;
    world.send(Some("k"), Some(random(8_000).as_bytes())).await;
    for n in 0..20 {
        world.send(Some("k"), Some(&World::event(id(), "k", n, "ok"))).await;
    }
    world.until_counted("applied", 20).await;
    until("it shows", || async { refuses(&group) }).await;
    let condition = group.degraded().into_iter().find(|one| one.code == "outbox-refused").expect("shown");
    assert!(condition.message.contains(&dlq) && condition.message.contains("row 1"), "{condition:?}");
    until("all but the letter is published and deleted", || async {
        world.number("SELECT count(*) FROM outbox").await == 1
    })
    .await;
    let backlog = || group.partitions().iter().map(|lane| lane.outbox).sum::<usize>();
    until("it is counted", || async { backlog() == 1 }).await;
    // It is in nobody's way when the member leaves, and found by the next.
    stop(group).await;
    let group = world.start().await;
    until("it shows again", || async { refuses(&group) }).await;
    world.configure(&dlq, &[("max.message.bytes", "1000000")]).await;
    world.dead_letters(1).await;
    until("it is over", || async { !refuses(&group) }).await;
    emptied(&world).await;
    let said = said(&world).await;
    assert_eq!((said.len(), said.values().sum::<usize>()), (20, 20), "each event once");
    stop(group).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_dead_writer_left_is_published_while_its_successor_is_busy() {
    let world = World::new(1).await;
    let prefix = format!("{}-http", world.group);
    let publisher = Publisher::start(&world.settings.kafka).expect("publisher");
    let open = || OutboxWriter::open(world.pool.clone(), publisher.clone(), &prefix);
    let row = |value: &str| Emit {
        topic: world.out.clone(),
        key: Some(b"k".to_vec()),
        value: Some(value.as_bytes().to_vec()),
        headers: Headers::new(),
    };
    // One that dies after its commit.
    let mut dead = open().await.expect("opens");
    let mut client = world.pool.get().await.expect("connection");
    let tx = client.transaction().await.expect("transaction");
    let written = dead.write(&tx, vec![row("left")]).await.expect("written");
    tx.commit().await.expect("committed");
    drop((written, dead));
    world.execute("UPDATE outbox_instance SET expires_at = now() - interval '1 second'").await;
    let mut busy = open().await.expect("opens");
    let started = std::time::Instant::now();
    while !said(&world).await.contains_key(b"left".as_slice()) {
        assert!(started.elapsed() < LIMIT, "what it left is not published");
        // Never without a record on its way.
        for _ in 0..20 {
            let tx = client.transaction().await.expect("transaction");
            let written = busy.write(&tx, vec![row("busy"); 50]).await.expect("written");
            tx.commit().await.expect("committed");
            busy.publish(written);
        }
    }
    assert!(busy.close(Duration::from_secs(10)).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_producer_that_is_replaced_in_the_midst_loses_nothing_and_keeps_the_order() {
    let world = World::new(2).await;
    let publisher = Publisher::start(&world.settings.kafka).expect("publisher");
    let group = world.start_with(publisher.clone()).await;
    let (keys, each) = (keys(10), 100);
    let send = world.send_lists(&keys, each);
    let total = keys.len() as i64 * each;
    let replace = async {
        for part in 1..=4 {
            // In the midst of what is applied, and of what is on its way to Kafka.
            let some = total * part / 5;
            until(&format!("{some} are applied"), || async { world.counted("applied").await >= some }).await;
            assert!(publisher.replace(), "another producer");
        }
    };
    tokio::join!(send, replace);
    world.until_counted("applied", total).await;
    emptied(&world).await;
    let mut said: HashMap<String, Vec<i64>> = HashMap::new();
    for record in world.read(&world.out).await {
        let body: serde_json::Value =
            serde_json::from_slice(record.payload().expect("a body")).expect("JSON");
        let numbers = said.entry(body["key"].as_str().expect("a key").to_owned()).or_default();
        let number = body["n"].as_i64().expect("a number");
        // Sent once more is no harm where the reader has an inbox; out of order is.
        if !numbers.contains(&number) {
            numbers.push(number);
        }
    }
    for key in &keys {
        assert_eq!(said[key], (0..each).collect::<Vec<_>>(), "{key}");
    }
    stop(group).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_http_side_has_waiting_is_in_the_gauges() {
    let world = World::new(1).await;
    world.configure(&world.out, &[("max.message.bytes", "2000")]).await;
    let publisher = Publisher::start(&world.settings.kafka).expect("publisher");
    let group = world.start_with(publisher.clone()).await;
    let waiting = || {
        let of_none =
            |sample: &Sample| sample.name == OUTBOX_ROWS && sample.labels.contains(&("topic", String::new()));
        group.samples().iter().find(|sample| of_none(sample)).map(|sample| sample.value)
    };
    assert_eq!(waiting(), None, "nobody writes");
    let prefix = format!("{}-http", world.group);
    let mut writer = OutboxWriter::open(world.pool.clone(), publisher, &prefix).await.expect("opens");
    assert_eq!(waiting(), Some(0.0), "from the start");
    let mut client = world.pool.get().await.expect("connection");
    let tx = client.transaction().await.expect("transaction");
    let emit = Emit {
        topic: world.out.clone(),
        key: Some(b"k".to_vec()),
        value: Some(random(8_000).into_bytes()),
        headers: Headers::new(),
    };
    let written = writer.write(&tx, vec![emit]).await.expect("written");
    tx.commit().await.expect("committed");
    writer.publish(written);
    until("it is refused", || async { refuses(&group) }).await;
    assert_eq!(waiting(), Some(1.0));
    world.configure(&world.out, &[("max.message.bytes", "1000000")]).await;
    until("it is out", || async { waiting() == Some(0.0) }).await;
    assert!(writer.close(Duration::from_secs(10)).await);
    stop(group).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_letter_topic_that_is_deleted_and_made_again_loses_no_letter() {
    let world = World::new(1).await;
    let dlq = dlq_topic(&world.group);
    let group = world.start().await;
    world.send(Some("k"), Some(b"poison")).await;
    world.dead_letters(1).await;
    world.delete(&dlq).await;
    let missing = || {
        let of_dlq =
            |one: &Condition| one.code == "topic-missing" && one.topic.as_deref() == Some(dlq.as_str());
        group.degraded().iter().any(of_dlq)
    };
    until("it is missed", || async { missing() }).await;
    world.send(Some("k"), Some(b"poison too")).await;
    for n in 0..20 {
        world.send(Some("k"), Some(&World::event(id(), "k", n, "ok"))).await;
    }
    world.until_counted("applied", 20).await;
    world.create(&dlq).await;
    world.dead_letters(1).await;
    until("it is over", || async { !missing() && !refuses(&group) }).await;
    emptied(&world).await;
    stop(group).await;
}
