//! The settings of a group, each with its unit and a default that fits a small cluster.

use std::{collections::BTreeMap, time::Duration};

use dead_letters::KafkaSettings;

use crate::connection::Limits;

/// How a transient failure is retried.
///
/// ```
/// use std::time::Duration;
///
/// use actors::RetryPolicy;
///
/// // After 1 s, 2 s, 4 s, and so on to a minute, for five minutes.
/// let deadline = Duration::from_secs(300);
/// let policy = RetryPolicy { initial: Duration::from_secs(1), deadline, ..RetryPolicy::default() };
/// assert_eq!((policy.attempts, policy.max), (None, Duration::from_secs(60)));
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct RetryPolicy {
    /// Delay after the first failed attempt.
    pub initial: Duration,
    /// Each delay is this many times the one before.
    pub multiplier: f64,
    /// No delay is longer than this, jitter included.
    pub max: Duration,
    /// A delay is spread by this share both ways, so that events that failed together do not return together. 0 to 1.
    pub jitter: f64,
    /// Attempts in all; the last failure is a dead letter of class `exhausted`. `None` for as many as the deadline allows:
    /// what an event waits for takes its time, however often it is asked.
    pub attempts: Option<u32>,
    /// Time from the first failure after which no further attempt is made; checked after a failed attempt only. Time in which an
    /// event was due and not run is left out, whatever the reason.
    pub deadline: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            initial: Duration::from_millis(200),
            multiplier: 2.0,
            max: Duration::from_secs(60),
            jitter: 0.2,
            attempts: None,
            deadline: Duration::from_secs(30 * 60),
        }
    }
}

/// How a partition actor that died is restarted.
#[derive(Clone, Debug, PartialEq)]
pub struct RestartSettings {
    /// Restarts without progress allowed in `period`; one more halts the partition.
    pub budget: u32,
    /// The period over which restarts are counted.
    pub period: Duration,
    /// Delay before the first restart; doubles with each restart without progress.
    pub initial: Duration,
    /// No restart waits longer.
    pub max: Duration,
}

impl Default for RestartSettings {
    fn default() -> Self {
        Self {
            budget: 10,
            period: Duration::from_secs(60),
            initial: Duration::from_millis(100),
            max: Duration::from_secs(5),
        }
    }
}

/// When failures are nobody's event's fault.
#[derive(Clone, Debug, PartialEq)]
pub struct CircuitSettings {
    /// Distinct keys that must have been tried before anything is concluded.
    pub min_keys: usize,
    /// Attempts older than this say nothing any more.
    pub window: Duration,
}

impl Default for CircuitSettings {
    fn default() -> Self {
        Self { min_keys: 20, window: Duration::from_secs(30) }
    }
}

/// How long what has ended is remembered.
#[derive(Clone, Debug, PartialEq)]
pub struct RetentionSettings {
    /// Outcomes of events: longer than any record may be on its way a second time. Also of the offset journal.
    pub inbox: Duration,
    /// Outcomes of events that were ever dead: as long as a dead letter may be put back.
    pub dead: Duration,
    /// Rows deleted by one statement.
    pub batch: i64,
    /// Time between two sweeps; each goes on until nothing is left.
    pub every: Duration,
}

impl Default for RetentionSettings {
    fn default() -> Self {
        let day = Duration::from_secs(24 * 60 * 60);
        Self { inbox: day * 3, dead: day * 31, batch: 10_000, every: Duration::from_secs(10) }
    }
}

/// The settings of a consumer group.
///
/// ```
/// use std::time::Duration;
///
/// use actors::{GroupSettings, KafkaSettings};
///
/// let kafka = KafkaSettings { brokers: "localhost:9092".into(), properties: Vec::new() };
/// let mut settings = GroupSettings::new("counter", "clicks-counter", &["clicks"], kafka);
/// settings.writes.push("clicks-counts".into());
/// settings.retry.deadline = Duration::from_secs(300);
/// assert_eq!((settings.batch_max_records, settings.parked_max), (500, 10_000));
/// ```
#[derive(Clone, Debug)]
pub struct GroupSettings {
    /// The consumer group: also the name dead-letter topics, inbox rows and leases carry.
    pub group: String,
    /// The service's name, in dead letters and logs.
    pub service: String,
    /// The service's version, in dead letters.
    pub build: String,
    /// Topics to read. The group's requeue topic is read as well, without being named here.
    pub topics: Vec<String>,
    /// Topics that the handler, or the process beside it, writes to: looked at as well.
    pub writes: Vec<String>,
    /// Partitions of topics by name, where they are known. More of them than that are not read: records of a key would part.
    pub partitions: BTreeMap<String, i32>,
    /// How to reach Kafka.
    pub kafka: KafkaSettings,
    /// A member silent for this long loses its partitions. Brokers allow no less than their `group.min.session.timeout.ms`, 6 s by
    /// default; and after an outage of Kafka a group waits so long for the members that it remembers.
    pub session_timeout: Duration,
    /// Most records in one batch transaction.
    pub batch_max_records: usize,
    /// Most bytes in one batch transaction.
    pub batch_max_bytes: usize,
    /// Most records delivered and not yet finished of a partition: no more are taken until there is room. One that is full for 5 s
    /// is paused.
    pub lane_max_records: usize,
    /// The same in bytes.
    pub lane_max_bytes: usize,
    /// Largest record, key, value and headers together, in bytes, that is handled; a larger one is dead, class `poison`, with the
    /// beginning of its value.
    pub record_max_bytes: usize,
    /// Time between two looks at the settings of the group's topics.
    pub topics_every: Duration,
    /// Batch transactions in flight in this process.
    pub batch_transactions: usize,
    /// Keys of one batch whose `prepare` runs at the same time.
    pub prepare_concurrency: usize,
    /// How long a batch waits for its external calls. What has answered by then is committed; what has not is parked, and runs
    /// when its call is answered. Where calls usually take longer, it is twice what they take.
    pub slow_call: Duration,
    /// How transient failures are retried.
    pub retry: RetryPolicy,
    /// Delay policy while a server cannot be reached; its attempts are never counted.
    pub unreachable: RetryPolicy,
    /// How dead actors are restarted.
    pub restart: RestartSettings,
    /// Actors that one record may kill before it is a dead letter of class `crash`.
    pub crash_limit: u32,
    /// Processes that may end uncleanly while one record is tried alone before it is a dead letter of class `crash`: more
    /// than for actors, since what ends a process may be nobody's fault.
    pub death_limit: u32,
    /// When transient failures are systemic: then nothing counts.
    pub circuit: CircuitSettings,
    /// Records of one lane that may wait in `parked`; at that number it takes nothing new.
    pub parked_max: usize,
    /// Records of one key that may wait; at that number its lane takes nothing new.
    pub chain_max: usize,
    /// Unacknowledged outbox rows of one lane at which it takes no further batch.
    pub outbox_max_rows: usize,
    /// Time a leaving partition's batch in flight is given to finish; below the session time-out.
    pub drain: Duration,
    /// How long outcomes are remembered.
    pub retention: RetentionSettings,
    /// How long a transaction may take.
    pub limits: Limits,
    /// A partition that is halted by an error of code or schema tries again after this.
    pub halt_retry: Duration,
    /// Whatever keeps dead rows of the database for longer than this is a condition in `/readyz`.
    pub snapshot_max: Duration,
}

impl GroupSettings {
    /// Time between two heartbeats of a member.
    pub fn heartbeat(&self) -> Duration {
        (self.session_timeout / 4).max(Duration::from_millis(1))
    }

    /// The defaults for `group` of `service`.
    pub fn new(service: &str, group: &str, topics: &[&str], kafka: KafkaSettings) -> Self {
        Self {
            group: group.to_owned(),
            service: service.to_owned(),
            build: env!("CARGO_PKG_VERSION").to_owned(),
            topics: topics.iter().map(|topic| (*topic).to_owned()).collect(),
            writes: Vec::new(),
            partitions: BTreeMap::new(),
            kafka,
            session_timeout: Duration::from_secs(6),
            batch_max_records: 500,
            batch_max_bytes: 4 << 20,
            lane_max_records: 4_000,
            lane_max_bytes: 16 << 20,
            record_max_bytes: 16 << 20,
            topics_every: Duration::from_secs(180),
            batch_transactions: 4,
            prepare_concurrency: 64,
            slow_call: Duration::from_millis(100),
            retry: RetryPolicy::default(),
            unreachable: RetryPolicy { max: Duration::from_secs(2), ..RetryPolicy::default() },
            restart: RestartSettings::default(),
            crash_limit: 3,
            death_limit: 5,
            circuit: CircuitSettings::default(),
            parked_max: 10_000,
            chain_max: 1_000,
            outbox_max_rows: 10_000,
            drain: Duration::from_millis(3_500),
            retention: RetentionSettings::default(),
            limits: Limits::default(),
            halt_retry: Duration::from_secs(30),
            snapshot_max: Duration::from_secs(60),
        }
    }
}
