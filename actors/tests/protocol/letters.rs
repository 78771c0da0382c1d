//! Dead letters: whatever the record is, they get out, and come back as they were.

use std::time::Duration;

use actors::{
    Headers, TopicPartition, TopicSpec,
    dead_letters::{Action, Class, DeadLetter, Entry, KEPT, RequeueOutcome, dlq_topic, requeue_topic},
};
use rdkafka::Message;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::{
    delivery::{id, requeue},
    support::{
        World,
        member::{Manners, Member},
        until,
    },
};

/// What no compression makes small.
fn random(bytes: usize) -> String {
    (0..bytes / 32).map(|_| Uuid::new_v4().simple().to_string()).collect()
}

/// What the ledger says became of a letter.
async fn outcome(world: &World, letter: Uuid) -> Option<(u32, RequeueOutcome)> {
    world.read("dlq.actions").await.iter().find_map(|record| {
        let entry: Entry = serde_json::from_slice(record.payload()?).ok()?;
        match entry.action {
            Action::Outcome { generation, outcome } if entry.dlq_id == letter => Some((generation, outcome)),
            _ => None,
        }
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_letter_too_large_for_its_topic_is_cut_and_comes_back_whole() {
    let world = World::new(1).await;
    world.configure(&dlq_topic(&world.group), &[("max.message.bytes", "200000")]).await;
    let group = world.start().await;
    let event = World::event(id(), "k", 7, "permanent");
    let event = String::from_utf8(event)
        .expect("JSON")
        .replace("{\"", &format!("{{\"_\":\"{}\",\"", random(800_000)));
    world.send(Some("k"), Some(event.as_bytes())).await;
    // What comes behind it does not wait for it.
    world.send(Some("k"), Some(b"no json")).await;
    let letters = world.dead_letters(2).await;
    let letter = letters.iter().find(|letter| letter.error_code == "refused").expect("a letter");
    let truncated = letter.truncated.clone().expect("cut");
    assert_eq!(truncated.bytes, event.len() as u64);
    let hash: String = Sha256::digest(&event).iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(truncated.sha256, hash);
    let record = world.read(&dlq_topic(&world.group)).await;
    let kept = record.iter().filter_map(Message::payload).map(<[u8]>::len).max();
    assert_eq!(kept, Some(KEPT));
    assert_eq!(world.number("SELECT count(*) FROM dead_letter_body").await, 1);

    world.switches.forgiving.store(true, std::sync::atomic::Ordering::Relaxed);
    requeue(&world, letter).await;
    until("it is applied", || async { world.list("k").await == [7] }).await;
    until("the ledger says so", || async {
        outcome(&world, letter.id).await == Some((2, RequeueOutcome::Applied))
    })
    .await;
    group.shutdown(Duration::from_secs(10)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_that_is_too_large_is_dead_and_takes_no_memory() {
    const SIZE: usize = 200 << 20;
    let world = World::new(1).await;
    let mut value = br#"{"half":"#.to_vec();
    value.resize(SIZE, b' ');
    world.send_compressed("gzip", "k", &value).await;
    drop(value);
    world.send_compressed("zstd", "k", &World::large_event(id(), "k", 1, 2_000)).await;
    let member = Member::spawn(&world, &Manners::default());
    world.until_counted("applied", 1).await;
    let letter = world.dead_letters(1).await.remove(0);
    assert_eq!((letter.class, letter.error_code.as_str()), (Class::Poison, "record-too-large"));
    assert_eq!(letter.truncated.as_ref().map(|truncated| truncated.bytes), Some(SIZE as u64));
    assert!(letter.error.contains("offset 0"), "{}", letter.error);
    let peak = member.peak_memory();
    assert!(peak < SIZE * 3 / 2, "{} MiB", peak >> 20);
    eprintln!("peak memory: {} MiB", peak >> 20);

    // Nobody has the whole of it: it cannot be put back, and that is said.
    requeue(&world, &letter).await;
    until("the ledger says so", || async {
        outcome(&world, letter.id).await == Some((2, RequeueOutcome::Unplaceable))
    })
    .await;
    member.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn headers_come_back_byte_for_byte() {
    let world = World::new(1).await;
    let group = world.start().await;
    let mut headers = Headers::new();
    let odd: [(&[u8], Option<&[u8]>); 9] = [
        (b"traceparent", Some(b"00-1")),
        (&[0xff], Some(b"v")),
        (&[0xc3, 0x28], None),
        (b"traceparent", Some(b"")),
        (b"", Some(b"no name")),
        ("ünïcode".as_bytes(), Some(&[0, 0xff, 0])),
        (b"DLQ.generation", Some(b"9")),
        (b"dlq.mine", Some(b"kept")),
        (&[b'n'; 70_000], Some(b"a long name")),
    ];
    odd.iter().for_each(|(name, value)| headers.push(name, *value));
    (0..2_000u16).for_each(|n| headers.push([0xff, n.to_be_bytes()[0], n.to_be_bytes()[1] | 1], Some(b"v")));
    world.send_to(&world.topic, Some("k"), Some(&World::event(id(), "k", 7, "permanent")), &headers).await;
    let expected = {
        let mut expected = Headers::new();
        for (name, value) in headers.iter() {
            // As the client library gives it.
            let end = name.iter().position(|byte| *byte == 0).unwrap_or(name.len());
            expected.push(&name[..end], value);
        }
        expected
    };
    for generation in 1..=2u32 {
        until("it is buried", || async { world.letters().await.len() == generation as usize }).await;
        let record =
            world.read(&dlq_topic(&world.group)).await.into_iter().map(|record| Headers::from_kafka(&record));
        let letter = record.max_by_key(|headers| DeadLetter::from_headers(headers).expect("ours").generation);
        let letter = letter.expect("a letter");
        assert_eq!(
            &letter.encoded()[..expected.encoded().len()],
            expected.encoded(),
            "generation {generation}"
        );
        let dead = DeadLetter::from_headers(&letter).expect("ours");
        assert_eq!((dead.generation, dead.error_code.as_str()), (generation, "refused"));
        if generation == 1 {
            requeue(&world, &dead).await;
        }
    }
    group.shutdown(Duration::from_secs(10)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_put_back_is_dead_again_with_its_origin_and_the_ledger_says_so() {
    let world = World::new(1).await;
    let group = world.start().await;
    world.send(Some("k"), Some(&World::event(id(), "k", 7, "permanent"))).await;
    let first = world.dead_letters(1).await.remove(0);
    let topic = requeue_topic(&world.group);
    let send = async |letter: &DeadLetter| {
        world.send_to(&topic, Some("k"), Some(b"{}"), &letter.to_headers(&Headers::new())).await;
    };
    let moved = DeadLetter { id: Uuid::new_v4(), generation: 2, ..first.clone() };
    for (letter, code) in [
        (DeadLetter { origin: TopicPartition::new(&*world.topic, 99), ..moved.clone() }, "requeue-partition"),
        (DeadLetter { origin: TopicPartition::new(&*world.topic, -1), ..moved.clone() }, "requeue-partition"),
        (DeadLetter { origin: TopicPartition::new("another", 0), ..moved.clone() }, "requeue-topic"),
        (DeadLetter { group: "another".into(), ..moved.clone() }, "requeue-group"),
    ] {
        let letter = DeadLetter { id: Uuid::new_v4(), ..letter };
        send(&letter).await;
        // Another group's ledger says nothing of what was never put back.
        let said = if code == "requeue-group" { None } else { Some((2, RequeueOutcome::Unplaceable)) };
        let dead = || async {
            world
                .letters()
                .await
                .into_iter()
                .find(|dead| dead.error_code == code && dead.origin == letter.origin)
        };
        until("it is buried again", || async { dead().await.is_some() }).await;
        let dead = dead().await.expect("buried");
        until("the ledger says so", || async { outcome(&world, letter.id).await == said }).await;
        assert_eq!(
            (dead.offset, dead.generation, dead.timestamp_ms),
            (letter.offset, 2, letter.timestamp_ms)
        );
    }
    // Of what has no sound headers, only its id is known.
    let mut headers = Headers::new();
    let lost = Uuid::new_v4();
    headers.push("dlq.id", Some(lost.to_string().as_bytes()));
    world.send_to(&topic, None, Some(b"{}"), &headers).await;
    until("the ledger says so", || async {
        outcome(&world, lost).await == Some((1, RequeueOutcome::Unplaceable))
    })
    .await;
    assert_eq!(world.number("SELECT count(*) FROM parked").await, 0);
    assert_eq!(world.unaccounted().await, 0);
    group.shutdown(Duration::from_secs(10)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_letter_topic_that_loses_letters_is_refused_or_named() {
    let mut world = World::new(1).await;
    world.settings.topics_every = Duration::from_millis(200);
    let dlq = dlq_topic(&world.group);
    world.configure(&dlq, &[("cleanup.policy", "compact")]).await;
    let cause = world.try_start().await.expect_err("refused").cause;
    assert_eq!(cause.code, "topic-compacted");
    assert!(cause.message.contains(&dlq) && cause.message.contains("cleanup.policy=delete"), "{cause}");

    world.configure(&dlq, &[("retention.ms", "604800000"), ("max.message.bytes", "1000000")]).await;
    let group = world.try_start().await.expect("it starts");
    let named = || {
        let ours = group.degraded().into_iter().filter(|one| one.topic.as_deref() == Some(&*dlq));
        ours.map(|one| one.code.into_owned()).collect::<Vec<_>>()
    };
    assert_eq!(named(), ["topic-message-size", "topic-retention"]);
    world.configure(&dlq, &[("cleanup.policy", "compact")]).await;
    until("it shows while it runs", || async { named().contains(&"topic-compacted".to_owned()) }).await;
    let spec = actors::group_topics(&world.group, 1);
    let TopicSpec { config, .. } = spec.into_iter().find(|spec| spec.name == dlq).expect("one of them");
    let sound: Vec<(&str, &str)> =
        config.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    world.configure(&dlq, &sound).await;
    until("it is over", || async { named().is_empty() }).await;
    group.shutdown(Duration::from_secs(10)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_death_is_told_once_with_its_letter_and_what_comes_to_nothing_says_so() {
    let world = World::new(1).await;
    let group = world.start().await;
    world.send(Some("k"), Some(&World::event(id(), "k", 7, "mourned"))).await;
    let told = async || -> Vec<serde_json::Value> {
        let records = world.read(&world.out).await;
        records
            .iter()
            .map(|record| serde_json::from_slice(record.payload().expect("a body")).expect("JSON"))
            .collect()
    };
    let letter = world.dead_letters(1).await.remove(0);
    requeue(&world, &letter).await;
    let again =
        world.dead_letters(2).await.into_iter().find(|letter| letter.generation == 2).expect("dead again");
    until("both deaths are told", || async { told().await.len() == 2 }).await;
    let expected = [&letter, &again].map(
        |letter| serde_json::json!({"dead": letter.id, "code": "refused", "generation": letter.generation}),
    );
    assert_eq!(told().await, expected);

    // What it dies of may be what the handler says of it: the letter gets out, others go on.
    let (grave, unspeakable) = (id(), crate::support::UNSPEAKABLE);
    world.send(Some("k"), Some(&World::event(grave, "k", unspeakable, "panic"))).await;
    world.send(Some("k"), Some(&World::event(id(), "k", 8, "ok"))).await;
    until("the next one is applied", || async { world.list("k").await == [8] }).await;
    assert!(world.dead_letters(3).await.iter().any(|letter| letter.event_id == Some(grave)));

    world.switches.forgiving.store(true, std::sync::atomic::Ordering::Relaxed);
    requeue(&world, &again).await;
    until("the ledger says so", || async {
        outcome(&world, again.id).await == Some((3, RequeueOutcome::Ignored))
    })
    .await;
    let entries = world.read("dlq.actions").await;
    let entries = entries.iter().filter_map(|record| serde_json::from_slice::<Entry>(record.payload()?).ok());
    let reasons: Vec<_> =
        entries.filter(|entry| entry.dlq_id == again.id).filter_map(|entry| entry.reason).collect();
    assert_eq!(reasons, ["the toy is put away"]);
    assert_eq!(world.list("k").await, [8]);
    group.shutdown(Duration::from_secs(10)).await;
}
