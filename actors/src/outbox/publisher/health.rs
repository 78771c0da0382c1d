//! How the producer is: whether what it was given gets anywhere.
//!
//! A record never times out here, so one that librdkafka has mislaid waits for ever, and nothing says so: after a broker has
//! restarted, partitions may stay with a broker that the client has forgotten, and nobody serves them. So what is sent and
//! acknowledged is watched for each partition. Where nothing moves, and the producer hears nothing either, Kafka is asked from
//! the side: a producer that gets nowhere while Kafka answers somebody is of no use.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use chrono::{DateTime, Utc};
use dead_letters::TopicPartition;
use rdkafka::Statistics;

use crate::{Cause, kafka::brokers};

/// Kafka answers when its last answer is no older.
const ANSWERS: Duration = Duration::from_secs(8);
/// Records that only wait, this long while Kafka answers, will not get anywhere. Twice as long after each replacement that did
/// not help.
const PATIENCE: Duration = Duration::from_secs(10);
const PATIENCE_MAX: Duration = Duration::from_secs(80);
/// Those that a broker has been given may take longer: it waits for replicas, up to 30 s.
const IN_FLIGHT: Duration = Duration::from_secs(45);
/// librdkafka says every two seconds how it is.
const SILENCE: Duration = Duration::from_secs(10);
/// A client that knows no broker for this long finds none any more. Twice as long after each replacement that did not help.
const LOST: Duration = Duration::from_secs(4);

/// A partition that has something to send.
#[derive(Debug)]
struct Waiting {
    /// The last of its records that Kafka has.
    acknowledged: u64,
    /// Since when it is that one.
    since: Instant,
    /// A broker has been given some.
    in_flight: bool,
}

/// A partition for which the producer was replaced, until something of it is acknowledged.
#[derive(Debug)]
struct Stalled {
    since: Instant,
    /// When it last had something to send.
    seen: Instant,
    replaced: u32,
}

/// What is known of the producer.
#[derive(Debug)]
pub(super) struct Health {
    /// When it was last looked at.
    looked: Instant,
    /// When librdkafka last said how it is, and how often it was replaced for saying nothing.
    heard: Instant,
    silences: u32,
    /// Answers of all brokers to this producer.
    answers: u64,
    /// When Kafka last answered, and since when it has without a gap.
    answered: Instant,
    answering: Instant,
    /// Since when it has known no broker, and how often it was replaced for that.
    lost: Option<Instant>,
    losses: u32,
    waiting: HashMap<TopicPartition, Waiting>,
    stalled: HashMap<TopicPartition, Stalled>,
}

impl Health {
    pub(super) fn new() -> Self {
        let now = Instant::now();
        Self {
            looked: now,
            heard: now,
            silences: 0,
            answers: 0,
            answered: now,
            answering: now,
            lost: None,
            losses: 0,
            waiting: HashMap::new(),
            stalled: HashMap::new(),
        }
    }

    /// librdkafka says how it is.
    pub(super) fn heard(&mut self, statistics: &Statistics, now: Instant) {
        (self.heard, self.silences) = (now, 0);
        if brokers::any_is_known(statistics) {
            (self.lost, self.losses) = (None, 0);
        } else {
            self.lost.get_or_insert(now);
        }
        let answers = statistics.brokers.values().map(|broker| broker.rx).sum();
        if answers != self.answers {
            self.answers = answers;
            self.answered(now);
        }
        let mut waiting = HashMap::new();
        for topic in statistics.topics.values() {
            // Whether one has a leader is not asked: what a stuck producer believes of that is a part of what is wrong with it.
            for partition in topic.partitions.values() {
                let place =
                    TopicPartition { topic: topic.topic.as_str().into(), partition: partition.partition };
                let acknowledged = partition.acked_msgid;
                let known = self.waiting.remove(&place);
                if acknowledged != known.as_ref().map_or(0, |known| known.acknowledged) {
                    self.stalled.remove(&place);
                }
                let in_flight = partition.msgs_inflight > 0;
                if partition.msgq_cnt + partition.xmit_msgq_cnt == 0 && !in_flight {
                    continue;
                }
                if let Some(stalled) = self.stalled.get_mut(&place) {
                    stalled.seen = now;
                }
                let since =
                    known.filter(|known| known.acknowledged == acknowledged).map_or(now, |known| known.since);
                waiting.insert(place, Waiting { acknowledged, since, in_flight });
            }
        }
        self.waiting = waiting;
        self.stalled.retain(|_, stalled| now.duration_since(stalled.seen) < PATIENCE_MAX * 2);
    }

    /// Kafka has answered this process.
    pub(super) fn answered(&mut self, now: Instant) {
        if now.duration_since(self.answered) > ANSWERS {
            self.answering = now;
        }
        self.answered = now;
    }

    /// A topic whose records do not move, while this producer hears nothing: Kafka is to be asked from the side.
    pub(super) fn in_doubt(&self, now: Instant) -> Option<&str> {
        if now.duration_since(self.answered) < ANSWERS / 2 {
            return None;
        }
        let stands =
            |(_, waiting): &(&TopicPartition, &Waiting)| now.duration_since(waiting.since) > PATIENCE / 2;
        self.waiting.iter().find(stands).map(|(place, _)| &*place.topic)
    }

    /// For how long the records of a partition have waited while Kafka answered.
    fn stood(&self, waiting: &Waiting, now: Instant) -> Duration {
        if now.duration_since(self.answered) > ANSWERS {
            return Duration::ZERO;
        }
        now.duration_since(waiting.since.max(self.answering))
    }

    /// For how long they may.
    fn patience(&self, place: &TopicPartition, waiting: &Waiting) -> Duration {
        if place.partition < 0 {
            // What has no partition yet waits for its topic to be found, or to be given up.
            return PATIENCE_MAX;
        }
        let replaced = self.stalled.get(place).map_or(0, |stalled| stalled.replaced);
        let first = if waiting.in_flight { IN_FLIGHT } else { PATIENCE };
        first.saturating_mul(1 << replaced.min(8)).min(PATIENCE_MAX)
    }

    /// Somebody looks, as it is done every second. Why the producer will not get anywhere any more, if so.
    pub(super) fn look(&mut self, now: Instant) -> Option<String> {
        self.looked = now;
        let silence = (SILENCE * 2).saturating_mul(1 << self.silences.min(8)).min(PATIENCE_MAX);
        if now.duration_since(self.heard) > silence {
            self.silences = self.silences.saturating_add(1);
            return Some("it does not say how it is".to_owned());
        }
        let patience = LOST.saturating_mul(1 << self.losses.min(8)).min(PATIENCE_MAX);
        if self.lost.is_some_and(|since| now.duration_since(since) >= patience) {
            self.losses = self.losses.saturating_add(1);
            return Some("it knows no broker any more".to_owned());
        }
        let stuck: Vec<(TopicPartition, Instant)> = self
            .waiting
            .iter()
            .filter(|(place, waiting)| self.stood(waiting, now) > self.patience(place, waiting))
            .map(|(place, waiting)| (place.clone(), waiting.since.max(self.answering)))
            .collect();
        for (place, since) in &stuck {
            let new = Stalled { since: *since, seen: now, replaced: 0 };
            self.stalled.entry(place.clone()).or_insert(new).replaced += 1;
        }
        let (place, _) = stuck.first()?;
        Some(format!("Kafka answers, and does not get the records for {place}"))
    }

    /// Another producer has taken its place, or the process stood still: what was not heard says nothing.
    pub(super) fn start_anew(&mut self, now: Instant) {
        (self.looked, self.heard, self.answered, self.answering) = (now, now, now, now);
        (self.answers, self.lost) = (0, None);
        self.waiting.clear();
    }

    /// What is wrong with it, and since when.
    pub(super) fn trouble(&self, now: Instant) -> Option<(Cause, DateTime<Utc>)> {
        let since = |ago: Duration| Utc::now() - chrono::Duration::from_std(ago).unwrap_or_default();
        let silent = now.duration_since(self.heard.min(self.looked));
        if silent > SILENCE {
            let message = "the Kafka producer does not say how it is: what is published now may wait";
            return Some((Cause::new("producer-silent", message), since(silent)));
        }
        let sent = self.waiting.iter().filter(|(place, _)| place.partition >= 0);
        let standing = sent.map(|(place, waiting)| (place, self.stood(waiting, now)));
        let standing = standing.filter(|(_, stood)| *stood > PATIENCE / 2);
        // A new producer is not the end of it.
        let lasting = self.stalled.iter().filter(|(_, stalled)| now.duration_since(stalled.seen) < PATIENCE);
        let lasting = lasting.map(|(place, stalled)| (place, now.duration_since(stalled.since)));
        let (place, stood) = standing.chain(lasting).max_by_key(|(_, stood)| *stood)?;
        let message = format!(
            "records for {place} are sent and not acknowledged, while Kafka answers: see whether it has a leader and enough \
             replicas in sync for the topic's min.insync.replicas; the producer is replaced in case it is its own fault"
        );
        Some((Cause::new("producer-stalled", message), since(stood)))
    }
}

#[cfg(test)]
mod tests {
    use rdkafka::statistics::{Broker, Partition, Topic};

    use super::*;

    /// A partition of topic `t` with `queued` records, of which the last acknowledged is `acked`.
    fn statistics(rx: u64, partition: i32, queued: i64, acked: u64) -> Statistics {
        all(rx, &[Partition { partition, xmit_msgq_cnt: queued, acked_msgid: acked, ..Partition::default() }])
    }

    fn all(rx: u64, partitions: &[Partition]) -> Statistics {
        let partitions =
            partitions.iter().map(|partition| (partition.partition, partition.clone())).collect();
        let topic = Topic { topic: "t".into(), partitions, ..Topic::default() };
        Statistics {
            brokers: [("b".to_owned(), Broker { rx, source: "learned".into(), ..Broker::default() })].into(),
            topics: [("t".to_owned(), topic)].into(),
            ..Statistics::default()
        }
    }

    /// A producer that says how it is every two seconds and is looked at every second, for `seconds`; why it is replaced, and when.
    fn run(
        health: &mut Health,
        from: Instant,
        seconds: u64,
        says: impl Fn(u64) -> Statistics,
    ) -> Option<(u64, String)> {
        (0..seconds).find_map(|second| {
            let now = from + Duration::from_secs(second);
            if second % 2 == 0 {
                health.heard(&says(second), now);
            }
            health.look(now).map(|why| (second, why))
        })
    }

    #[test]
    fn a_partition_that_stands_still_while_kafka_answers_is_a_reason() {
        let mut health = Health::new();
        let start = Instant::now();
        let (after, why) =
            run(&mut health, start, 60, |second| statistics(second, 3, 5, 7)).expect("replaced");
        assert_eq!(after, 11);
        assert!(why.contains("t/3"), "{why}");
        let (cause, _) = health.trouble(start + Duration::from_secs(after)).expect("trouble");
        assert_eq!(cause.code, "producer-stalled");
    }

    #[test]
    fn a_replacement_that_does_not_help_is_tried_twice_as_late() {
        let (mut health, mut now) = (Health::new(), Instant::now());
        let mut waits = Vec::new();
        for _ in 0..5 {
            let (after, _) =
                run(&mut health, now, 200, |second| statistics(second, 3, 5, 0)).expect("replaced");
            now += Duration::from_secs(after);
            health.start_anew(now);
            waits.push(after);
        }
        assert_eq!(waits, [11, 21, 41, 81, 81]);
        let (_, since) =
            health.trouble(now + Duration::from_secs(1)).expect("a new producer is not the end of it");
        assert!(Utc::now() - since > chrono::Duration::seconds(200), "since it began");
        let moved = run(&mut health, now, 30, |second| statistics(second, 3, 5, second));
        assert_eq!((moved, health.trouble(now + Duration::from_secs(29))), (None, None));
        now += Duration::from_secs(30);
        let (after, _) = run(&mut health, now, 200, |second| statistics(second, 3, 5, 99)).expect("replaced");
        assert!(after < 14, "something was acknowledged since: {after}");
    }

    #[test]
    fn what_other_partitions_do_is_nothing_to_one_that_stands_still() {
        let (mut health, mut now) = (Health::new(), Instant::now());
        let mut waits = Vec::new();
        for _ in 0..3 {
            let says = |second| {
                let busy =
                    Partition { partition: 1, msgq_cnt: 5, acked_msgid: second, ..Partition::default() };
                let stuck = Partition { partition: 2, msgq_cnt: 5, ..Partition::default() };
                all(second, &[busy, stuck])
            };
            let (after, why) = run(&mut health, now, 200, says).expect("replaced");
            assert!(why.contains("t/2"), "{why}");
            now += Duration::from_secs(after);
            health.start_anew(now);
            waits.push(after);
        }
        assert_eq!(waits, [11, 21, 41]);
    }

    #[test]
    fn what_a_broker_was_given_may_take_as_long_as_replicas_may() {
        let given =
            |second| all(second, &[Partition { partition: 1, msgs_inflight: 5, ..Partition::default() }]);
        let (after, _) = run(&mut Health::new(), Instant::now(), 200, given).expect("replaced");
        assert_eq!(after, 46);
    }

    #[test]
    fn what_moves_is_idle_or_cannot_move_is_none() {
        let none = |what: &str, seconds, says: &dyn Fn(u64) -> Statistics| {
            let replaced = run(&mut Health::new(), Instant::now(), seconds, says);
            assert_eq!(replaced, None, "{what}");
        };
        none("acknowledged bit by bit", 300, &|second| statistics(second, 3, 5, second / 8));
        none("nothing to send", 300, &|second| statistics(second, 3, 0, 7));
        none("Kafka does not answer", 300, &|_| statistics(9, 3, 5, 7));
        none("a topic that is looked for", 60, &|second| statistics(second, -1, 5, 0));
    }

    #[test]
    fn a_producer_that_hears_nothing_is_replaced_if_kafka_answers_somebody_else() {
        let (mut health, start) = (Health::new(), Instant::now());
        let mut asked = 0;
        let replaced = (0..60).find(|second| {
            let now = start + Duration::from_secs(*second);
            if second % 2 == 0 {
                health.heard(&statistics(9, 3, 5, 7), now);
            }
            if health.in_doubt(now) == Some("t") {
                asked += 1;
                health.answered(now);
            }
            health.look(now).is_some()
        });
        assert_eq!((replaced, asked), (Some(11), 2));
    }

    #[test]
    fn what_waited_while_kafka_was_away_is_given_its_time_when_it_is_back() {
        let (mut health, start) = (Health::new(), Instant::now());
        let back = |second: u64| statistics(second.saturating_sub(60), 3, 5, 7);
        let (after, _) = run(&mut health, start, 120, back).expect("replaced in the end");
        assert!(after >= 70, "{after}");
    }

    /// As librdkafka may, once a broker has told it that there is none: then it asks nobody again.
    #[test]
    fn a_producer_that_knows_no_broker_is_replaced_whatever_it_has_to_send() {
        let lost = |_| Statistics {
            brokers: [("g".to_owned(), Broker { source: "logical".into(), ..Broker::default() })].into(),
            ..Statistics::default()
        };
        let (mut health, mut now, mut waits) = (Health::new(), Instant::now(), Vec::new());
        for _ in 0..6 {
            let (after, why) = run(&mut health, now, 200, lost).expect("replaced");
            assert_eq!(why, "it knows no broker any more");
            now += Duration::from_secs(after);
            health.start_anew(now);
            waits.push(after);
        }
        assert_eq!(waits, [4, 8, 16, 32, 64, 80]);
        let blink = |second| if second % 4 == 0 { lost(second) } else { statistics(second, 3, 0, 7) };
        assert_eq!(run(&mut health, now, 60, blink), None, "one that finds them again is kept");
    }

    #[test]
    fn a_producer_that_says_nothing_is_replaced() {
        let (mut health, start) = (Health::new(), Instant::now());
        health.heard(&statistics(1, 3, 0, 0), start);
        let silent = (1..60).find(|second| health.look(start + Duration::from_secs(*second)).is_some());
        assert_eq!(silent, Some(21));
        let (cause, _) = health.trouble(start + Duration::from_secs(12)).expect("trouble");
        assert_eq!(cause.code, "producer-silent");

        health.start_anew(start + Duration::from_secs(100));
        assert_eq!(health.look(start + Duration::from_secs(101)), None);
        assert_eq!(health.trouble(start + Duration::from_secs(101)), None);
    }
}
