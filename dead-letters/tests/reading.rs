//! Reading topics of a real Kafka, which KAFKA_BROKERS names, from here to there.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use dead_letters::{Given, KafkaSettings, ReadError, Span, TopicReader};
use rdkafka::{
    ClientConfig, Message,
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    client::DefaultClientContext,
    config::FromClientConfig,
    mocking::MockCluster,
    producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer},
};
use uuid::Uuid;

/// No test waits longer for anything.
const LIMIT: Duration = Duration::from_secs(30);

fn brokers() -> String {
    std::env::var("KAFKA_BROKERS")
        .expect("these tests need a real Kafka: set KAFKA_BROKERS=host:port, or run them by `./dev test`")
}

fn reader(brokers: String, timeout: Duration) -> TopicReader {
    let kafka = KafkaSettings { brokers, properties: Vec::new() };
    TopicReader::new(&kafka, "reading-tests", timeout).expect("a client")
}

/// A topic of three partitions that nobody else has, and a producer.
struct Topic {
    name: String,
    producer: ThreadedProducer<DefaultProducerContext>,
}

impl Topic {
    fn new() -> Self {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", brokers());
        let admin = AdminClient::<DefaultClientContext>::from_config(&config).expect("an admin client");
        let name = format!("reading-{}", Uuid::new_v4().simple());
        let topic = NewTopic::new(&name, 3, TopicReplication::Fixed(1));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let options = AdminOptions::new().operation_timeout(Some(LIMIT));
        let made = runtime.block_on(admin.create_topics([&topic], &options)).expect("an answer");
        assert!(made.iter().all(Result::is_ok), "{made:?}");
        config.set("transactional.id", &name).set("linger.ms", "0");
        let producer: ThreadedProducer<_> = config.create().expect("a producer");
        producer.init_transactions(LIMIT).expect("initialised");
        Self { name, producer }
    }

    /// Sends records to a partition in a transaction that stays open.
    fn begin(&self, partition: i32, values: &[&str]) {
        self.producer.begin_transaction().expect("begun");
        for value in values {
            let record = BaseRecord::<(), str>::to(&self.name).partition(partition).payload(value);
            self.producer.send(record).map_err(|(error, _)| error).expect("enqueued");
        }
        self.producer.flush(LIMIT).expect("acknowledged");
    }

    fn commit(&self, partition: i32, values: &[&str]) {
        self.begin(partition, values);
        self.producer.commit_transaction(LIMIT).expect("committed");
    }
}

/// What the spans give, by partition: offsets and values.
fn read(
    reader: &mut TopicReader,
    topic: &str,
    spans: impl IntoIterator<Item = Span>,
) -> BTreeMap<i32, Vec<(i64, String)>> {
    reader.open(topic, spans).expect("opened");
    let mut found: BTreeMap<i32, Vec<_>> = BTreeMap::new();
    let ended = reader.to_end(|given| {
        let Given::Record(record) = given else { panic!("{given:?}") };
        let value = String::from_utf8_lossy(record.payload().unwrap_or_default()).into_owned();
        found.entry(record.partition()).or_default().push((record.offset(), value));
        true
    });
    assert!(ended.expect("read"));
    found
}

fn values(given: &[(i64, &str)]) -> Vec<(i64, String)> {
    given.iter().map(|(offset, value)| (*offset, (*value).to_owned())).collect()
}

#[test]
fn decided_records_are_given_and_the_end_is_met_behind_markers() {
    let topic = Topic::new();
    topic.commit(0, &["a", "b"]);
    topic.begin(0, &["aborted"]);
    topic.producer.abort_transaction(LIMIT).expect("aborted");
    topic.commit(1, &["c"]);
    topic.commit(0, &["d"]);
    topic.begin(1, &["not decided"]);

    let mut reader = reader(brokers(), LIMIT);
    let partitions = reader.partitions(&topic.name).expect("an answer");
    assert_eq!(partitions, BTreeMap::from([(0, true), (1, true), (2, true)]));
    let whole = partitions.into_keys().map(Span::whole);
    // Offsets 2, 4 and 6 are markers, 3 was aborted, and the last of each partition is a marker.
    let found = read(&mut reader, &topic.name, whole);
    assert_eq!(found[&0], values(&[(0, "a"), (1, "b"), (5, "d")]));
    assert_eq!(found[&1], values(&[(0, "c")]));
    assert_eq!(found.len(), 2, "{found:?}");
    assert_eq!(reader.extent(&topic.name, 0).expect("an answer"), (0, 7));
    assert_eq!(reader.positions(), &BTreeMap::from([(0, 6), (1, 1)]));
}

#[test]
fn a_span_is_read_and_no_more_and_a_reader_reads_one_after_the_other() {
    let (topic, other) = (Topic::new(), Topic::new());
    topic.commit(0, &["0", "1", "2", "3", "4", "5"]);
    topic.commit(1, &["0"]);
    topic.commit(1, &["2"]);
    other.commit(0, &["elsewhere"]);
    let mut reader = reader(brokers(), LIMIT);
    let span = |partition, from, upto| Span { partition, from: Some(from), upto: Some(upto) };

    // Offset 1 of the second partition is a marker, and the third has nothing at all.
    let spans = [span(0, 2, 4), span(1, 0, 2), span(2, 0, 100)];
    let found = read(&mut reader, &topic.name, spans);
    assert_eq!(found, BTreeMap::from([(0, values(&[(2, "2"), (3, "3")])), (1, values(&[(0, "0")]))]));
    for (upto, expected) in [(2, &[][..]), (3, &[(2, "2")]), (100, &[(2, "2")])] {
        let found = read(&mut reader, &topic.name, [span(1, 1, upto)]);
        assert_eq!(found.get(&1).cloned().unwrap_or_default(), values(expected), "up to {upto}");
    }
    assert_eq!(read(&mut reader, &other.name, [Span::whole(0)])[&0], values(&[(0, "elsewhere")]));

    reader.open(&topic.name, [Span::whole(0)]).expect("opened");
    let mut seen = 0;
    let ended = reader.to_end(|_| {
        seen += 1;
        seen < 2
    });
    assert_eq!((ended.expect("read"), seen), (false, 2), "the visitor had enough");
    assert_eq!(reader.topics().expect("an answer").get(&topic.name), Some(&3));
    assert!(reader.partitions("there-is-no-such-topic").expect("an answer").is_empty());
}

#[test]
fn what_comes_later_can_be_followed() {
    let topic = Topic::new();
    topic.commit(0, &["before"]);
    let mut reader = reader(brokers(), LIMIT);
    reader.open(&topic.name, [Span { from: Some(1), ..Span::whole(0) }]).expect("opened");
    topic.commit(0, &["after"]);
    let (mut found, started) = (None, Instant::now());
    while found.is_none() {
        assert!(started.elapsed() < LIMIT, "it did not come in time");
        reader
            .follow(Duration::from_millis(100), |given| {
                let Given::Record(record) = given else { panic!("{given:?}") };
                found = record.payload().map(|value| String::from_utf8_lossy(value).into_owned());
            })
            .expect("read");
    }
    assert_eq!(found.as_deref(), Some("after"));
}

#[test]
fn a_partition_that_never_ends_is_named_though_another_is_written_all_the_time() {
    let cluster = MockCluster::new(2).expect("a cluster");
    cluster.create_topic("t", 2, 1).expect("a topic");
    for (partition, broker) in [(0, 1), (1, 2)] {
        cluster.partition_leader("t", partition, Some(broker)).expect("led");
    }
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", cluster.bootstrap_servers()).set("linger.ms", "0");
    let producer: ThreadedProducer<DefaultProducerContext> = config.create().expect("a producer");
    let write = || producer.send(BaseRecord::<(), str>::to("t").partition(0).payload("more")).is_ok();
    let mut reader = reader(cluster.bootstrap_servers(), Duration::from_secs(1));
    assert!(write());
    producer.flush(LIMIT).expect("acknowledged");
    reader.open("t", [Span::whole(0), Span::whole(1)]).expect("opened");
    cluster.broker_down(2).expect("down");

    let (done, started) = (AtomicBool::new(false), Instant::now());
    let unread = std::thread::scope(|threads| {
        threads.spawn(|| {
            while !done.load(Ordering::Relaxed) && started.elapsed() < LIMIT {
                write();
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        let mut unread = Vec::new();
        let read = reader.to_end(|given| {
            match given {
                Given::Record(record) => assert_eq!(record.partition(), 0),
                Given::Unread(one) => unread.push(one),
            }
            true
        });
        done.store(true, Ordering::Relaxed);
        assert!(read.expect("the other broker answers"));
        unread
    });
    let [one] = &unread[..] else { panic!("{unread:?}") };
    assert_eq!((one.partition, one.from, one.upto), (1, None, None), "{one}");
    assert!(started.elapsed() < LIMIT, "it took {:?}", started.elapsed());
}

#[test]
fn a_kafka_that_never_answers_is_an_error_that_says_what_and_why() {
    let mut reader = reader("127.0.0.1:1".into(), Duration::from_secs(1));
    let error = reader.open("t", [Span::whole(0)]).expect_err("nobody is there");
    let said = error.to_string();
    assert!(matches!(error, ReadError::Unanswered { .. }), "{error:?}");
    assert!(said.starts_with("asking for the partitions of t: ") && said.contains("127.0.0.1:1"), "{said}");
}

#[test]
fn a_kafka_that_stops_answering_ends_the_reading_with_what_stalled() {
    let cluster = MockCluster::new(1).expect("a cluster");
    cluster.create_topic("t", 1, 1).expect("a topic");
    let mut reader = reader(cluster.bootstrap_servers(), Duration::from_secs(1));
    reader.open("t", [Span::whole(0)]).expect("opened");
    cluster.broker_down(1).expect("down");
    let started = Instant::now();
    let error = reader.to_end(|given| panic!("{given:?}")).expect_err("nobody is there any more");
    let said = error.to_string();
    assert!(matches!(error, ReadError::Unanswered { .. }), "{error:?}");
    assert!(said.starts_with("reading t: neither a record nor an end came for 15 s: "), "{said}");
    assert!(started.elapsed() < LIMIT, "it took {:?}", started.elapsed());
}
