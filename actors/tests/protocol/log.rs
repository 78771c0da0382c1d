//! The log is not what it was: another, shorter, held back, gone; or it ends in what is no record.

use std::time::Duration;

use actors::{Condition, Consent, Group, LaneState, PartitionStatus, ResetTo, TopicPartition};
use rdkafka::{
    ClientConfig,
    producer::{FutureProducer, FutureRecord, Producer},
};
use rustix::process::Signal;

use crate::{
    delivery::id,
    support::{
        World,
        member::{Manners, Member},
        until,
    },
};

const SOON: Duration = Duration::from_secs(10);

fn lane(group: &Group, world: &World) -> Option<PartitionStatus> {
    group.partitions().into_iter().find(|lane| lane.topic == world.topic)
}

fn is(group: &Group, world: &World, state: LaneState) -> bool {
    lane(group, world).is_some_and(|lane| lane.state == state)
}

fn source(world: &World) -> TopicPartition {
    TopicPartition::new(world.topic.as_str(), 0)
}

fn condition(group: &Group, code: &str) -> Option<Condition> {
    group.degraded().into_iter().find(|condition| condition.code == code)
}

async fn send(world: &World, n: std::ops::Range<i64>) {
    for n in n {
        world.send(Some("k"), Some(&World::event(id(), "k", n, "ok"))).await;
    }
}

/// A producer whose records count once it commits.
async fn transaction(world: &World) -> FutureProducer {
    let producer: FutureProducer = ClientConfig::new()
        .set("bootstrap.servers", &world.settings.kafka.brokers)
        .set("transactional.id", &world.topic)
        .create()
        .expect("producer");
    let begun = producer.clone();
    let begin = move || begun.init_transactions(SOON).and_then(|()| begun.begin_transaction());
    tokio::task::spawn_blocking(begin).await.expect("no panic").expect("begun");
    producer
}

async fn send_in(producer: &FutureProducer, world: &World, n: std::ops::Range<i64>) {
    for n in n {
        let value = World::event(id(), "k", n, "ok");
        let record = FutureRecord::<str, [u8]>::to(&world.topic).key("k").payload(&value);
        producer.send(record, SOON).await.expect("delivered");
    }
}

async fn end(producer: FutureProducer, commit: bool) {
    let end = move || match commit {
        true => producer.commit_transaction(SOON),
        false => producer.abort_transaction(SOON),
    };
    tokio::task::spawn_blocking(end).await.expect("no panic").expect("ended");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reset_holds_while_producers_go_on() {
    let world = World::new(1).await;
    let group = world.start().await;
    send(&world, 0..3).await;
    world.until_counted("applied", 3).await;
    group.shutdown(SOON).await;
    world.execute("UPDATE partition_lease SET next_offset = next_offset + 100, lost = lost + 100, last_offset = NULL WHERE topic NOT LIKE '%requeue'").await;
    let group = world.start().await;
    until("it halts", || async { is(&group, &world, LaneState::Halted) }).await;
    send(&world, 3..6).await;
    assert_eq!(group.reset(source(&world), ResetTo::End, Consent::default()).await.expect("reset").1, 6);
    send(&world, 6..9).await;
    until("it goes on", || async { world.list("k").await == [0, 1, 2, 6, 7, 8] }).await;
    assert!(is(&group, &world, LaneState::Running));
    group.shutdown(SOON).await;
}

/// The former owner is at work while the partition is claimed: what it has reached is no end of the log.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_owner_that_takes_over_from_one_at_work_does_not_halt() {
    let world = World::new(1).await;
    send(&world, 0..1).await;
    let group = world.start().await;
    world.until_counted("applied", 1).await;
    group.shutdown(SOON).await;
    // Holds the lease's row, as a batch in flight does, until the log and the lease have moved on.
    let mut client = world.pool.get().await.expect("connection");
    let tx = client.transaction().await.expect("transaction");
    let moved = "UPDATE partition_lease SET next_offset = 4, applied = applied + 3 WHERE topic = $1";
    tx.execute(moved, &[&world.topic]).await.expect("held");
    let group = world.start().await;
    until("it is to be claimed", || async { lane(&group, &world).is_some() }).await;
    send(&world, 1..6).await;
    tx.commit().await.expect("let go");
    until("it goes on", || async { world.list("k").await == [0, 4, 5] }).await;
    group.shutdown(SOON).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_made_anew_behind_a_frozen_reader_is_noticed_and_by_its_successor_too() {
    let world = World::new(1).await;
    let frozen = Member::spawn(&world, &Manners::default());
    frozen.until_claimed(&world).await;
    send(&world, 0..5).await;
    world.until_counted("applied", 5).await;
    frozen.signal(Signal::STOP);
    world.make_topic_anew().await;
    send(&world, 100..108).await;
    frozen.signal(Signal::CONT);
    frozen.until_said("the partition is halted").await;
    assert!(frozen.has_said("another-log") || frozen.has_said("past-log-end"));
    frozen.kill().await;

    // Whatever was read of the new log meanwhile: the next owner does not take it for the one that was read before.
    let group = world.start().await;
    until("it halts", || async { is(&group, &world, LaneState::Halted) }).await;
    assert_eq!(group.reset(source(&world), ResetTo::Start, Consent::default()).await.expect("reset").1, 0);
    until("all of the new log", || async { world.list("k").await.len() == 13 }).await;
    assert_eq!((world.counted("lost").await, world.unaccounted().await), (0, 0));
    group.shutdown(SOON).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_made_anew_under_load_is_noticed() {
    let world = World::new(1).await;
    let group = world.start().await;
    send(&world, 0..20).await;
    world.until_counted("applied", 20).await;
    world.make_topic_anew().await;
    send(&world, 20..60).await;
    until("it halts", || async { is(&group, &world, LaneState::Halted) }).await;
    let reason = lane(&group, &world).and_then(|lane| lane.reason).expect("a reason");
    assert!(reason.contains("another-log") || reason.contains("past-log-end"), "{reason}");
    group.reset(source(&world), ResetTo::Start, Consent::default()).await.expect("reset");
    until("all of the new log", || async { world.list("k").await.len() == 60 }).await;
    group.shutdown(SOON).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_ends_in_a_transactions_marker_has_no_lag_and_loses_nothing() {
    let world = World::new(1).await;
    let group = world.start().await;
    let producer = transaction(&world).await;
    send_in(&producer, &world, 0..2).await;
    end(producer, true).await;
    let shows =
        |next, lag| lane(&group, &world).is_some_and(|lane| (lane.next_offset, lane.lag) == (next, lag));
    until("it is at the end", || async { shows(3, 0) }).await;
    let producer = transaction(&world).await;
    send_in(&producer, &world, 2..102).await;
    end(producer, false).await;
    until("what was aborted is passed", || async { shows(104, 0) }).await;
    assert_eq!((world.counted("gaps").await, world.unaccounted().await), (102, 0));
    send(&world, 102..103).await;
    world.until_counted("applied", 3).await;
    assert!(group.shutdown(SOON).await);

    world.delete_before(105).await;
    let group = world.start().await;
    send(&world, 103..104).await;
    world.until_counted("applied", 4).await;
    assert_eq!(world.counted("lost").await, 0);
    group.shutdown(SOON).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_that_stays_open_is_named_and_forgotten_when_it_ends() {
    let world = World::new(1).await;
    let group = world.start().await;
    send(&world, 0..1).await;
    world.until_counted("applied", 1).await;
    let producer = transaction(&world).await;
    send_in(&producer, &world, 1..2).await;
    send(&world, 2..3).await;
    until("it is named", || async { condition(&group, "open-transaction").is_some() }).await;
    let named = condition(&group, "open-transaction").expect("still");
    assert_eq!((named.topic, named.partition), (Some(world.topic.clone()), Some(0)));
    assert!(named.message.contains("offset 1"), "{}", named.message);
    assert!(is(&group, &world, LaneState::Degraded));
    end(producer, false).await;
    world.until_counted("applied", 2).await;
    until("it is forgotten", || async { group.degraded().is_empty() }).await;
    group.shutdown(SOON).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_that_is_gone_is_named_until_it_is_back() {
    let world = World::new(1).await;
    let group = world.start().await;
    send(&world, 0..1).await;
    world.until_counted("applied", 1).await;
    world.delete_topic().await;
    until("it is named", || async { condition(&group, "topic-missing").is_some() }).await;
    assert_eq!(condition(&group, "topic-missing").and_then(|named| named.topic), Some(world.topic.clone()));
    world.create_topic().await;
    until("it is there", || async { condition(&group, "topic-missing").is_none() }).await;
    until("it is another", || async { is(&group, &world, LaneState::Halted) }).await;
    group.shutdown(SOON).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_in_zstd_are_read_as_any_others() {
    let world = World::new(1).await;
    let group = world.start().await;
    let producer: FutureProducer = ClientConfig::new()
        .set("bootstrap.servers", &world.settings.kafka.brokers)
        .set("compression.type", "zstd")
        .create()
        .expect("producer");
    let value = World::large_event(id(), "k", 7, 2_000);
    producer
        .send(FutureRecord::<str, [u8]>::to(&world.topic).key("k").payload(&value), SOON)
        .await
        .expect("delivered");
    world.until_counted("applied", 1).await;
    group.shutdown(SOON).await;
}

/// More partitions while the group runs: a key stays where it was, and what others write to the new ones waits and is named.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_that_grows_parts_no_key() {
    let world = World::new(1).await;
    let group = world.start().await;
    send(&world, 0..1).await;
    world.until_counted("applied", 1).await;
    world.grow(&world.topic, 3).await;
    world.grow(&world.out, 3).await;
    until("it is named", || async {
        let named = |topic: &str| {
            group.degraded().iter().any(|one| {
                one.code == "topic-partitions"
                    && one.topic.as_deref() == Some(topic)
                    && one.partition.is_none()
            })
        };
        named(&world.topic) && named(&world.out)
    })
    .await;
    until("the new partitions are here", || async {
        let halted = |lane: &PartitionStatus| lane.topic == world.topic && lane.state == LaneState::Halted;
        group.partitions().iter().filter(|lane| halted(lane)).count() == 2
    })
    .await;
    let keys = crate::delivery::keys(12);
    for key in &keys {
        world.send_to_partition(0, key, &World::event(id(), key, 1, "ok")).await;
    }
    world.until_counted("applied", 13).await;
    let out = world.read(&world.out).await;
    assert_eq!(out.len(), 13);
    assert!(out.iter().all(|record| rdkafka::Message::partition(record) == 0), "keys stay together");
    world.send_to_partition(2, "k", &World::event(id(), "k", 9, "ok")).await;
    assert!(group.shutdown(SOON).await, "and nothing is left behind");

    // A process that knows of them reads them.
    let mut world = world;
    world.settings.partitions = [(world.topic.clone(), 3)].into();
    let group = world.start().await;
    world.until_counted("applied", 14).await;
    group.shutdown(SOON).await;
}
