//! A consumer group that lives in one test: its topics, its dead letters, and the consumer's side of a requeue.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Write as _},
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use chrono::{DateTime, Utc};
use dead_letters::{
    ACTIONS_TOPIC, Action, Class, DeadLetter, Entry, Given, Headers, KafkaSettings, Offset, RequeueOutcome,
    Span, TopicPartition, TopicReader, dlq_topic, fingerprint, letter_id, requeue_topic,
};
use rdkafka::{
    ClientConfig, Message,
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    client::DefaultClientContext,
    config::FromClientConfig,
    message::{BorrowedMessage, OwnedHeaders},
    producer::{BaseRecord, Producer, ThreadedProducer},
    types::RDKafkaErrorCode,
};
use serde_json::Value;
use uuid::Uuid;

/// No test waits longer for anything.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);

/// Partitions of the test's topics; the ledger's are those of the services.
const PARTITIONS: i32 = 3;

pub(crate) fn brokers() -> String {
    std::env::var("KAFKA_BROKERS")
        .expect("these tests need a real Kafka: set KAFKA_BROKERS=host:port, or run them by `./dev test`")
}

pub(crate) fn client() -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", brokers());
    config
}

/// A record as it was put back.
#[derive(Clone, Debug)]
pub(crate) struct Returned {
    pub(crate) partition: i32,
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) value: Option<Vec<u8>>,
    pub(crate) headers: Headers,
    pub(crate) letter: DeadLetter,
}

pub(crate) struct Group {
    pub(crate) name: String,
    producer: ThreadedProducer<rdkafka::producer::DefaultProducerContext>,
}

/// When records were written, milliseconds since the epoch.
const WRITTEN: i64 = 1_790_000_000_000;

impl Group {
    /// A group of a name nobody else has, with its topics.
    pub(crate) fn new() -> Self {
        let name = format!("t-{}", &Uuid::new_v4().simple().to_string()[..12]);
        create(&[(&dlq_topic(&name), PARTITIONS), (&requeue_topic(&name), PARTITIONS), (ACTIONS_TOPIC, 6)]);
        let producer =
            client().set("linger.ms", "0").set("partitioner", "murmur2_random").create().expect("a producer");
        Self { name, producer }
    }

    /// What a death of the record `orders/{partition}/{offset}` says.
    pub(crate) fn letter(&self, partition: i32, offset: i64, generation: u32) -> DeadLetter {
        let origin = TopicPartition::new("orders", partition);
        let now = Utc::now();
        DeadLetter {
            id: letter_id(&origin, Offset(offset), WRITTEN, &self.name, generation),
            group: self.name.clone(),
            handler: "charge".into(),
            class: Class::Permanent,
            origin,
            offset: Offset(offset),
            timestamp_ms: WRITTEN,
            event_id: Some(Uuid::new_v4()),
            event_type: Some("ORDER_CREATED".into()),
            correlation_id: Some(format!("c-{offset}")),
            error_code: "amount-over-limit".into(),
            error: "charging the order: 200 over the limit of 100".into(),
            fingerprint: fingerprint(Class::Permanent, "amount-over-limit", "200 over the limit of 100"),
            attempts: 1,
            first_failed_at: now,
            // Letters of a test are told apart by age, however fast they are made.
            failed_at: now - chrono::TimeDelta::seconds(1_000 - offset.min(999)),
            generation,
            service: "payments".into(),
            build: "1.2.3".into(),
            truncated: None,
        }
    }

    /// Writes a dead letter with a key and a body, and one header of the record's own.
    pub(crate) fn bury(&self, letter: &DeadLetter, key: &str, value: &str) {
        let mut own = Headers::new();
        own.push("traceparent", Some(b"00-abc"));
        let headers = letter.to_headers(&own);
        self.produce(
            &dlq_topic(&self.name),
            Some(key.as_bytes()),
            Some(value.as_bytes()),
            headers.to_kafka(),
        );
    }

    /// Buries `orders/0/{offset}` and gives its id.
    pub(crate) fn bury_one(&self, offset: i64) -> Uuid {
        let letter = self.letter(0, offset, 1);
        self.bury(&letter, &format!("order-{offset}"), &format!(r#"{{"order_id":"order-{offset}"}}"#));
        letter.id
    }

    /// Writes any record, acknowledged when this returns.
    pub(crate) fn produce(
        &self,
        topic: &str,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: OwnedHeaders,
    ) {
        let mut record: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(topic).headers(headers);
        record.key = key;
        record.payload = value;
        self.producer.send(record).map_err(|(error, _)| error).expect("enqueued");
        // Checked often: the client's own flush looks only every tenth of a second.
        let deadline = Instant::now() + LIMIT;
        while self.producer.in_flight_count() > 0 {
            assert!(Instant::now() < deadline, "Kafka acknowledged nothing in time");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// The consumer's word on a requeued record.
    pub(crate) fn answer(&self, id: Uuid, generation: u32, outcome: RequeueOutcome) {
        let entry = Entry {
            dlq_id: id,
            group: self.name.clone(),
            action: Action::Outcome { generation, outcome },
            at: Utc::now(),
            by: self.name.clone(),
            job: None,
            reason: None,
        };
        self.write(&entry);
    }

    /// A line of the ledger.
    pub(crate) fn write(&self, entry: &Entry) {
        let line = serde_json::to_vec(entry).expect("JSON");
        self.produce(
            ACTIONS_TOPIC,
            Some(entry.dlq_id.to_string().as_bytes()),
            Some(&line),
            OwnedHeaders::new(),
        );
    }

    /// Plays the consumer: waits for `count` requeued records and answers each as `decide` says; a record that dies
    /// again is buried as a letter of its new generation first.
    pub(crate) fn serve(&self, count: usize, decide: impl Fn(&Returned) -> RequeueOutcome) -> Vec<Returned> {
        let returned = self.returned(count);
        for record in &returned {
            let outcome = decide(record);
            let old = &record.letter;
            if outcome == RequeueOutcome::DeadAgain {
                let id = old.id_in(old.generation);
                let letter = DeadLetter { id, failed_at: Utc::now(), ..old.clone() };
                let text = |bytes: &Option<Vec<u8>>| {
                    String::from_utf8(bytes.clone().unwrap_or_default()).expect("text")
                };
                self.bury(&letter, &text(&record.key), &text(&record.value));
            }
            self.answer(old.id, old.generation, outcome);
        }
        returned
    }

    /// Waits until `count` records were put back, seen as a consumer of decided transactions sees them.
    pub(crate) fn returned(&self, count: usize) -> Vec<Returned> {
        let mut reader = reader(&requeue_topic(&self.name));
        let deadline = Instant::now() + LIMIT;
        let mut records = Vec::new();
        while records.len() < count {
            assert!(Instant::now() < deadline, "{} of {count} records were put back in time", records.len());
            let followed = reader.follow(Duration::from_millis(100), |given| match given {
                Given::Record(message) => records.push(returned(message)),
                Given::Unread(unread) => panic!("{unread}"),
            });
            followed.expect("the requeue topic is read");
        }
        records
    }

    /// Everything that was put back so far.
    pub(crate) fn all_returned(&self) -> Vec<Returned> {
        let mut records = Vec::new();
        to_end(&requeue_topic(&self.name), |message| records.push(returned(message)));
        records
    }

    /// The ledger's lines about this group, by letter.
    pub(crate) fn ledger(&self) -> BTreeMap<Uuid, Vec<Entry>> {
        let mut lines: BTreeMap<Uuid, Vec<Entry>> = BTreeMap::new();
        to_end(ACTIONS_TOPIC, |message| {
            let entry = message.payload().and_then(|value| serde_json::from_slice::<Entry>(value).ok());
            if let Some(entry) = entry.filter(|entry| entry.group == self.name) {
                lines.entry(entry.dlq_id).or_default().push(entry);
            }
        });
        lines
    }

    /// The state that `list` shows for each letter.
    pub(crate) fn states(&self) -> BTreeMap<String, String> {
        let run = run(&["list", "--all", "--limit", "100000", "--group", &self.name, "-o", "json"]);
        let text = |line: &Value, field: &str| line[field].as_str().expect(field).to_owned();
        run.json().iter().map(|line| (text(line, "id"), text(line, "state"))).collect()
    }
}

fn returned(message: &BorrowedMessage<'_>) -> Returned {
    let headers = Headers::from_kafka(message);
    Returned {
        partition: message.partition(),
        key: message.key().map(<[u8]>::to_vec),
        value: message.payload().map(<[u8]>::to_vec),
        letter: DeadLetter::from_headers(&headers).expect("a requeued record carries its letter"),
        headers,
    }
}

pub(crate) fn create(topics: &[(&str, i32)]) {
    let admin = AdminClient::<DefaultClientContext>::from_config(&client()).expect("an admin client");
    let topics: Vec<_> =
        topics.iter().map(|(name, count)| NewTopic::new(name, *count, TopicReplication::Fixed(1))).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let options = AdminOptions::new().operation_timeout(Some(LIMIT));
    for result in runtime.block_on(admin.create_topics(&topics, &options)).expect("topics are created") {
        match result {
            Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
            Err((topic, code)) => panic!("creating {topic}: {code}"),
        }
    }
}

/// A reader that stands at the beginning of a topic.
pub(crate) fn reader(topic: &str) -> TopicReader {
    let kafka = KafkaSettings { brokers: brokers(), properties: Vec::new() };
    let mut reader = TopicReader::new(&kafka, "dlq-inspector-tests", LIMIT).expect("a client");
    let partitions = reader.partitions(topic).expect("an answer");
    reader.open(topic, partitions.into_keys().map(Span::whole)).expect("opened");
    reader
}

fn to_end(topic: &str, mut visit: impl FnMut(&BorrowedMessage<'_>)) {
    let read = reader(topic).to_end(|given| match given {
        Given::Record(message) => {
            visit(message);
            true
        }
        Given::Unread(unread) => panic!("{topic}: {unread}"),
    });
    read.expect("the topic is read to its end");
}

/// How a run of the inspector ended.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Run {
    /// The lines of standard output as objects.
    pub(crate) fn json(&self) -> Vec<Value> {
        self.out
            .lines()
            .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{line}: {e}")))
            .collect()
    }

    /// The ids of those lines whose `event` is `kind`.
    pub(crate) fn ids(&self, kind: &str) -> Vec<String> {
        let lines = self.json();
        let ids =
            lines.iter().filter(|line| line["event"] == kind).map(|line| line["id"].as_str().expect("id"));
        ids.map(str::to_owned).collect()
    }
}

impl From<Output> for Run {
    fn from(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
        Self { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
    }
}

/// The inspector, not started yet.
pub(crate) fn inspector(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dlq-inspector"));
    command
        .args(args)
        .env("KAFKA_BROKERS", brokers())
        .env_remove("COLUMNS")
        .env_remove("LINES")
        .stdin(Stdio::null());
    command
}

/// Runs the inspector to its end.
pub(crate) fn run(args: &[&str]) -> Run {
    inspector(args).output().expect("the inspector runs").into()
}

/// Runs the inspector with `input` on standard input and expects an exit code.
pub(crate) fn expect_with(code: i32, args: &[&str], input: &str) -> Run {
    let mut child = inspector(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the inspector runs");
    child.stdin.take().expect("piped").write_all(input.as_bytes()).expect("written");
    let run = end(child);
    assert_eq!(run.code, Some(code), "{args:?}: {run:#?}");
    run
}

/// Runs it and expects an exit code.
pub(crate) fn expect(code: i32, args: &[&str]) -> Run {
    let run = run(args);
    assert_eq!(run.code, Some(code), "{args:?}: {run:#?}");
    run
}

/// Starts the inspector; its output is piped.
pub(crate) fn spawn(args: &[&str]) -> Child {
    inspector(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the inspector runs")
}

/// Reads lines until one holds `word`; the rest of the output is drained by a thread of its own.
pub(crate) fn wait_for(child: &mut Child, word: &str) {
    let mut lines = BufReader::new(child.stdout.take().expect("piped"));
    let mut seen = String::new();
    while !seen.contains(word) {
        assert!(lines.read_line(&mut seen).expect("text") > 0, "it ended without saying {word}: {seen}");
    }
    std::thread::spawn(move || std::io::copy(&mut lines, &mut std::io::sink()));
}

/// How it ended, once it has.
pub(crate) fn end(child: Child) -> Run {
    child.wait_with_output().expect("it ends").into()
}

/// When a letter of the test died, as the JSON has it.
pub(crate) fn time(line: &Value, field: &str) -> DateTime<Utc> {
    line[field].as_str().expect(field).parse().expect("RFC 3339")
}
