//! A batch that nobody can read, in a dead-letter topic of a real Kafka: everything else is still shown. In a program of its own, since
//! it damages what others would read.

#[expect(dead_code, reason = "most of it is for the other tests")]
#[path = "../kafka/common.rs"]
mod common;

use std::{
    fs,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use dead_letters::{Given, Headers, dlq_topic};
use rdkafka::{
    Message as _,
    admin::{AdminClient, AdminOptions, ResourceSpecifier},
    client::DefaultClientContext,
    config::FromClientConfig,
    producer::{BaseRecord, Producer, ThreadedProducer},
};
use uuid::Uuid;

use self::common::{Group, LIMIT, client, expect, reader};

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

fn admin() -> AdminClient<DefaultClientContext> {
    AdminClient::from_config(&client()).expect("an admin client")
}

/// Deletes the topic, however the test ends: others list every topic.
struct Topic(String);

impl Drop for Topic {
    fn drop(&mut self) {
        let deleted = runtime().block_on(admin().delete_topics(&[&self.0], &AdminOptions::new()));
        assert!(deleted.is_ok() || std::thread::panicking(), "{deleted:?}");
    }
}

/// Where the broker, which runs on this machine, keeps a partition.
fn segment(topic: &str, partition: i32) -> PathBuf {
    let broker = [ResourceSpecifier::Broker(1)];
    let described = runtime().block_on(admin().describe_configs(&broker, &AdminOptions::new()));
    let described = described.expect("the broker answers").remove(0).expect("it says how it is set");
    let dir = described.get("log.dirs").and_then(|entry| entry.value.clone()).expect("it has a directory");
    Path::new(&dir).join(format!("{topic}-{partition}/00000000000000000000.log"))
}

/// Buries letters of the partition as one compressed batch.
fn bury(group: &Group, partition: i32, offsets: impl IntoIterator<Item = i64>) -> Vec<Uuid> {
    let mut config = client();
    config.set("compression.type", "lz4").set("linger.ms", "200");
    let producer: ThreadedProducer<rdkafka::producer::DefaultProducerContext> =
        config.create().expect("a producer");
    let topic = dlq_topic(&group.name);
    let body = "a body that is long enough to be compressed ".repeat(100);
    let ids = offsets.into_iter().map(|offset| {
        let letter = group.letter(partition, offset, 1);
        let record = BaseRecord::<str, str>::to(&topic).key("k").payload(&body).partition(partition);
        let record = record.headers(letter.to_headers(&Headers::new()).to_kafka());
        producer.send(record).map_err(|(error, _)| error).expect("enqueued");
        letter.id
    });
    let ids = ids.collect();
    producer.flush(LIMIT).expect("acknowledged");
    ids
}

/// Damages the batch that begins at `offset`: its compressed records do not begin as such any more.
fn damage(segment: &Path, offset: i64) {
    let bytes = fs::read(segment).expect("the broker runs on this machine");
    let number =
        |at: usize| bytes[at..at + 8].iter().fold(0_i64, |number, byte| number << 8 | i64::from(*byte));
    let mut at = 0;
    // A batch is its first offset, its length from there on, 49 bytes more, and its records.
    while number(at) != offset {
        at += 12 + usize::try_from(number(at + 4) & 0xffff_ffff).expect("a length");
    }
    assert_eq!(bytes[at + 22] & 7, 3, "it is compressed with lz4");
    let file = fs::OpenOptions::new().write(true).open(segment).expect("it can be written");
    file.write_at(&[!bytes[at + 61]], u64::try_from(at + 61).expect("an offset")).expect("written");
}

#[test]
fn who_follows_a_topic_gets_past_what_cannot_be_read() {
    let group = Group::new();
    let topic = Topic(dlq_topic(&group.name));
    bury(&group, 0, [10]);
    bury(&group, 0, 11..16);
    bury(&group, 0, [16]);
    bury(&group, 1, [17]);
    damage(&segment(&topic.0, 0), 1);

    let mut reader = reader(&topic.0);
    let (mut read, mut unread) = (Vec::new(), Vec::new());
    let mut follow = |count: usize| {
        let deadline = Instant::now() + LIMIT;
        while read.len() < count {
            assert!(Instant::now() < deadline, "{read:?} and {unread:?} in time");
            let followed = reader.follow(Duration::from_millis(100), |given| match given {
                Given::Record(record) => read.push((record.partition(), record.offset())),
                Given::Unread(gap) => unread.push((gap.partition, gap.from, gap.upto)),
            });
            followed.expect("it is followed");
        }
        (read.clone(), unread.clone())
    };
    follow(3);
    bury(&group, 0, [18]);
    bury(&group, 1, [19]);
    let (mut read, unread) = follow(5);
    read.sort_unstable();
    assert_eq!(read, [(0, 0), (0, 6), (0, 7), (1, 0), (1, 1)]);
    assert_eq!(unread, [(0, Some(1), Some(6))]);
}

#[test]
fn what_cannot_be_read_is_named_and_everything_else_is_shown() {
    let group = Group::new();
    let topic = Topic(dlq_topic(&group.name));
    let before = bury(&group, 0, [10]);
    let lost = bury(&group, 0, 11..16);
    let after = bury(&group, 0, [16, 17]);
    let lost_too = bury(&group, 0, [18]);
    let beside = bury(&group, 1, [19]);
    for first in [1, 8] {
        damage(&segment(&topic.0, 0), first);
    }

    let start = Instant::now();
    let listed = expect(4, &["list", "--group", &group.name, "-o", "json"]);
    assert!(start.elapsed() < Duration::from_secs(10), "it took {:?}", start.elapsed());
    let mut shown: Vec<String> =
        listed.json().iter().map(|line| line["id"].as_str().expect("an id").to_owned()).collect();
    let mut readable: Vec<String> =
        [&before, &after, &beside].into_iter().flatten().map(Uuid::to_string).collect();
    shown.sort();
    readable.sort();
    assert_eq!(shown, readable, "{listed:#?}");
    let warnings: Vec<&str> = listed.err.lines().collect();
    let [first, second] = warnings[..] else { panic!("a line for each place: {listed:#?}") };
    assert!(first.contains(&format!("{}/0 offsets 1 to 5 cannot be read: ", topic.0)), "{first}");
    assert!(second.contains(&format!("{}/0 offset 8 cannot be read: ", topic.0)), "{second}");

    let counted = expect(4, &["topics", "--group", &group.name, "-o", "json"]);
    assert_eq!(counted.json()[0]["open"], 4);
    let all = expect(4, &["list", "-o", "json", "--limit", "100000"]);
    assert!(all.err.contains(&topic.0), "{}", all.err);

    // What is asked for by name and is there is answered in full.
    let shown = expect(0, &["show", &after[0].to_string()]);
    assert!(shown.out.contains("amount-over-limit") && shown.err.contains("offsets 1 to 5"), "{shown:#?}");
    expect(0, &["requeue", &beside[0].to_string()]);
    for id in [lost[0], lost_too[0]] {
        expect(3, &["show", &id.to_string()]);
    }
    // A group without damage has nothing to say of it.
    let sound = Group::new();
    sound.bury_one(1);
    assert_eq!(expect(0, &["list", "--group", &sound.name]).err, "");
}
