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
use rdkafka::Statistics;

use crate::{Cause, record::TopicPartition};

/// Kafka answers when its last answer is no older.
const ANSWERS: Duration = Duration::from_secs(8);
/// Records that no broker has answered for, this long while Kafka answers, will not get anywhere. Twice as long after each
/// replacement that did not help.
const PATIENCE: Duration = Duration::from_secs(10);
const PATIENCE_MAX: Duration = Duration::from_secs(80);
/// librdkafka says every two seconds how it is.
const SILENCE: Duration = Duration::from_secs(10);
/// Who looks every second and was away for this long was not alone in it: the process stood still.
const ROUND: Duration = Duration::from_secs(4);

/// A partition that has something to send.
#[derive(Debug)]
struct Waiting {
    /// The last of its records that Kafka has.
    acknowledged: u64,
    /// Since when it is that one.
    since: Instant,
}

/// What is known of the producer.
#[derive(Debug)]
pub(super) struct Health {
    /// When it was last looked at.
    looked: Instant,
    /// When librdkafka last said how it is.
    heard: Instant,
    /// Answers of all brokers to this producer.
    answers: u64,
    /// When Kafka last answered, and since when it has without a gap.
    answered: Instant,
    answering: Instant,
    waiting: HashMap<TopicPartition, Waiting>,
    /// Replacements since anything was last acknowledged.
    replaced: u32,
}

impl Health {
    pub(super) fn new() -> Self {
        let now = Instant::now();
        Self {
            looked: now,
            heard: now,
            answers: 0,
            answered: now,
            answering: now,
            waiting: HashMap::new(),
            replaced: 0,
        }
    }

    /// librdkafka says how it is.
    pub(super) fn heard(&mut self, statistics: &Statistics, now: Instant) {
        self.heard = now;
        let answers = statistics.brokers.values().map(|broker| broker.rx).sum();
        if answers != self.answers {
            self.answers = answers;
            self.answered(now);
        }
        let mut waiting = HashMap::new();
        for topic in statistics.topics.values() {
            // Whether one has a leader is not asked: what a stuck producer believes of that is a part of what is wrong with it.
            let sends = topic.partitions.values().filter(|partition| {
                partition.msgq_cnt + partition.xmit_msgq_cnt + partition.msgs_inflight > 0
            });
            for partition in sends {
                let place =
                    TopicPartition { topic: topic.topic.as_str().into(), partition: partition.partition };
                let acknowledged = partition.acked_msgid;
                let known = self.waiting.remove(&place);
                if known.as_ref().is_some_and(|known| known.acknowledged != acknowledged) {
                    self.replaced = 0;
                }
                let stands = known.filter(|known| known.acknowledged == acknowledged);
                waiting.insert(place, stands.unwrap_or(Waiting { acknowledged, since: now }));
            }
        }
        if self.waiting.is_empty() && waiting.is_empty() {
            self.replaced = 0;
        }
        self.waiting = waiting;
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

    /// Somebody looks, as it is done every second. Why the producer will not get anywhere any more, if so.
    pub(super) fn look(&mut self, now: Instant) -> Option<String> {
        let away = now.duration_since(self.looked) > ROUND;
        self.looked = now;
        if away {
            // What was not heard meanwhile says nothing.
            self.start_anew(now);
            return None;
        }
        if now.duration_since(self.heard) > SILENCE * 2 {
            return Some("it does not say how it is".to_owned());
        }
        let patience = PATIENCE.saturating_mul(1 << self.replaced.min(8)).min(PATIENCE_MAX);
        let stuck = |(place, waiting): &(&TopicPartition, &Waiting)| {
            // What has no partition yet waits for its topic to be found, or to be given up.
            self.stood(waiting, now) > if place.partition < 0 { PATIENCE_MAX } else { patience }
        };
        let (place, _) = self.waiting.iter().find(stuck)?;
        Some(format!("Kafka answers, and does not get the records for {place}"))
    }

    /// Another producer has taken its place.
    pub(super) fn replaced(&mut self, now: Instant) {
        self.start_anew(now);
        self.answers = 0;
        self.replaced = self.replaced.saturating_add(1);
    }

    fn start_anew(&mut self, now: Instant) {
        (self.heard, self.answered, self.answering) = (now, now, now);
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
        let stood = sent.map(|(place, waiting)| (place, self.stood(waiting, now)));
        let (place, stood) =
            stood.max_by_key(|(_, stood)| *stood).filter(|(_, stood)| *stood > PATIENCE / 2)?;
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
        let partition =
            Partition { partition, xmit_msgq_cnt: queued, acked_msgid: acked, ..Partition::default() };
        let partitions = [(partition.partition, partition)].into();
        let topic = Topic { topic: "t".into(), partitions, ..Topic::default() };
        Statistics {
            brokers: [("b".to_owned(), Broker { rx, ..Broker::default() })].into(),
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
                run(&mut health, now, 200, |second| statistics(second, 3, 5, 7)).expect("replaced");
            now += Duration::from_secs(after);
            health.replaced(now);
            waits.push(after);
        }
        assert_eq!(waits, [11, 21, 41, 81, 81]);
        let moved = run(&mut health, now, 30, |second| statistics(second, 3, 5, second));
        assert_eq!(moved, None);
        now += Duration::from_secs(30);
        let (after, _) = run(&mut health, now, 200, |second| statistics(second, 3, 5, 99)).expect("replaced");
        assert!(after < 14, "something was acknowledged since: {after}");
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

    #[test]
    fn a_producer_that_says_nothing_is_replaced_unless_all_of_the_process_stood_still() {
        let (mut health, start) = (Health::new(), Instant::now());
        health.heard(&statistics(1, 3, 0, 0), start);
        let silent = (1..60).find(|second| health.look(start + Duration::from_secs(*second)).is_some());
        assert_eq!(silent, Some(21));
        let (cause, _) = health.trouble(start + Duration::from_secs(12)).expect("trouble");
        assert_eq!(cause.code, "producer-silent");

        let mut health = Health::new();
        health.heard(&statistics(1, 3, 5, 7), start);
        assert_eq!(health.look(start + Duration::from_secs(100)), None);
        assert_eq!(health.look(start + Duration::from_secs(101)), None);
        assert_eq!(health.trouble(start + Duration::from_secs(101)), None);
    }
}
