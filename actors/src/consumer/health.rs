//! How a consumer is: whether Kafka answers it, whether it has its place in its group, and whether anything of it stands still.
//!
//! librdkafka says every two seconds how it is. What it says last is not how it is: nothing may be said at all when its thread stands
//! still, and an idle connection that is closed is no trouble. So everything here is an age, measured when somebody asks.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use chrono::{DateTime, Utc};
use dead_letters::TopicPartition;
use rdkafka::Statistics;

use crate::{Cause, kafka::brokers};

/// Silence that is nothing yet. Kafka answers an idle consumer's long polls every 100 ms.
const SILENCE: Duration = Duration::from_secs(10);
/// Kafka answers a consumer whose counts of answers have grown within this.
const ANSWERS: Duration = Duration::from_secs(5);
/// A poll thread that has not come round for this long stands still, or its whole process did.
const ROUND: Duration = Duration::from_secs(1);
/// A consumer that owns nothing, asks for nothing and gets nowhere for this long, while Kafka answers, is replaced; twice as long
/// each time.
const IDLE: Duration = Duration::from_secs(4);
const IDLE_MAX: Duration = Duration::from_secs(40);
/// One that owns something has more to lose.
const OWNER: Duration = Duration::from_secs(25);
/// One that has asked for its place waits for the others, and for the sessions of those that are gone, to end: for so much
/// longer than a session.
const JOINING: Duration = Duration::from_secs(10);
/// And if it owns something, which it works on meanwhile, for as long as any rebalance may take.
const JOINING_OWNER: Duration = Duration::from_secs(300);

/// One that knows no broker for this long finds none any more; twice as long each time.
const LOST: Duration = Duration::from_secs(4);

/// A consumer without its place.
#[derive(Clone, Copy, Debug)]
struct Unsettled {
    since: Instant,
    /// It has asked for it.
    joining: bool,
}

/// What is known of a consumer.
#[derive(Debug)]
pub(super) struct Health {
    /// When the poll thread last came round.
    polled: Instant,
    /// When librdkafka last said how it is.
    heard: Instant,
    /// Answers of all brokers, and when they last became more.
    answers: u64,
    answered: Instant,
    /// Brokers that lead a partition of ours and have been silent for longer than [`SILENCE`]: how long, when that was heard.
    silent: HashMap<i32, Duration>,
    /// Since when it has not had its place in its group, while Kafka answered.
    unsettled: Option<Unsettled>,
    /// Since when it has known no broker.
    lost: Option<Instant>,
    /// How long its group waits for a member that says nothing.
    session: Duration,
    /// Replacements since it last had its place.
    replaced: u32,
    /// Somebody else has found it of no use.
    given_up: Option<&'static str>,
}

impl Health {
    /// Of a consumer that was made a moment ago, of a group whose members have such a session time-out.
    pub(super) fn new(session: Duration) -> Self {
        let now = Instant::now();
        Self {
            polled: now,
            heard: now,
            answers: 0,
            answered: now,
            silent: HashMap::new(),
            unsettled: Some(Unsettled { since: now, joining: false }),
            lost: None,
            session,
            replaced: 0,
            given_up: None,
        }
    }

    /// The poll thread comes round.
    pub(super) fn polled(&mut self, now: Instant) {
        if now.duration_since(self.polled) > ROUND {
            // It stood still, perhaps with all of its process: what was not heard meanwhile says nothing.
            self.start_anew(now);
        }
        self.polled = now;
    }

    fn start_anew(&mut self, now: Instant) {
        (self.heard, self.answered) = (now, now);
        self.unsettled = self.unsettled.map(|unsettled| Unsettled { since: now, ..unsettled });
        self.silent.clear();
        (self.lost, self.given_up) = (None, None);
    }

    /// Another consumer has taken its place.
    pub(super) fn replaced(&mut self, now: Instant) {
        self.start_anew(now);
        (self.answers, self.unsettled) = (0, Some(Unsettled { since: now, joining: false }));
        self.replaced = self.replaced.saturating_add(1);
    }

    /// It is of no use, as somebody else has found.
    pub(super) fn give_up(&mut self, why: &'static str) {
        self.given_up = Some(why);
    }

    /// librdkafka says how it is. Who leads a partition of `reads` is to answer.
    pub(super) fn heard(&mut self, statistics: &Statistics, reads: &[TopicPartition], now: Instant) {
        self.heard = now;
        if brokers::any_is_known(statistics) {
            self.lost = None;
        } else {
            self.lost.get_or_insert(now);
        }
        let answers = statistics.brokers.values().map(|broker| broker.rx).sum();
        if answers != self.answers {
            (self.answers, self.answered) = (answers, now);
        }
        self.silent = silent(statistics, reads);
        let group = statistics.cgrp.as_ref().filter(|group| group.state == "up");
        let join = group.map_or("", |group| group.join_state.as_str());
        let joining = matches!(join, "wait-join" | "wait-sync");
        let answering = now.duration_since(self.answered) < ANSWERS && self.silent.is_empty();
        self.unsettled = match self.unsettled {
            _ if join == "steady" => {
                self.replaced = 0;
                None
            }
            Some(known) if answering && known.joining == joining => Some(known),
            // Nobody could settle meanwhile, or it has come a step further.
            _ => Some(Unsettled { since: now, joining }),
        };
    }

    /// Why the consumer will not get anywhere any more, if so.
    pub(super) fn is_stuck(&self, owns: bool, now: Instant) -> Option<&'static str> {
        let idle = IDLE.saturating_mul(1 << self.replaced.min(8)).min(IDLE_MAX);
        let stuck = self.unsettled.is_some_and(|Unsettled { since, joining }| {
            let patience = match (joining, owns) {
                (false, false) => idle,
                (false, true) => OWNER,
                (true, false) => self.session + JOINING.max(idle),
                (true, true) => JOINING_OWNER,
            };
            now.duration_since(since) > patience
        });
        if stuck {
            return Some("Kafka answers it, and it does not get its place in its group");
        }
        // What it owns it cannot read: it has no more to lose than one that owns nothing.
        let patience = LOST.saturating_mul(1 << self.replaced.min(8)).min(IDLE_MAX);
        if self.lost.is_some_and(|since| now.duration_since(since) >= patience) {
            return Some("it knows no broker any more");
        }
        let unheard = now.duration_since(self.heard) > SILENCE * 2;
        self.given_up.or(unheard.then_some("it does not say how it is"))
    }

    /// What is wrong with it, and since when.
    pub(super) fn trouble(&self, group: &str, now: Instant) -> Vec<(Cause, DateTime<Utc>)> {
        let mut trouble = Vec::new();
        let mut say = |code: &'static str, ago: Duration, message: String| {
            let ago = chrono::Duration::from_std(ago).unwrap_or_default();
            trouble.push((Cause::new(code, message), Utc::now() - ago));
        };
        let stood = now.duration_since(self.polled);
        if stood > SILENCE {
            say(
                "poll-thread-stalled",
                stood,
                format!("the poll thread of group {group} stands still: nothing is read"),
            );
            return trouble;
        }
        let unheard = now.duration_since(self.heard);
        if unheard > SILENCE {
            let message = format!(
                "the Kafka consumer of group {group} does not say how it is; it is replaced in a moment"
            );
            say("consumer-stalled", unheard, message);
        }
        let unanswered = now.duration_since(self.answered);
        if unanswered > SILENCE {
            let message = format!(
                "no broker answers the consumer of group {group}: check that Kafka runs and can be reached"
            );
            say("kafka-unreachable", unanswered, message);
        }
        for (broker, silent) in &self.silent {
            let ago = *silent + unheard;
            let message = format!(
                "broker {broker} does not answer the consumer of group {group}: its partitions are not read"
            );
            say("broker-silent", ago, message);
        }
        if let Some(Unsettled { since, .. }) = self.unsettled.filter(|_| unanswered <= SILENCE) {
            let ago = now.duration_since(since);
            if ago > IDLE / 2 {
                say(
                    "not-in-group",
                    ago,
                    format!("the consumer of group {group} waits for its place in the group"),
                );
            }
        }
        trouble
    }
}

/// Who leads a partition that is read and has not answered for a while.
fn silent(statistics: &Statistics, reads: &[TopicPartition]) -> HashMap<i32, Duration> {
    let leader = |source: &TopicPartition| {
        let partition = statistics.topics.get(&*source.topic)?.partitions.get(&source.partition)?;
        Some(partition.leader)
    };
    let leaders: std::collections::HashSet<i32> = reads.iter().filter_map(leader).collect();
    let led = statistics.brokers.values().filter(|broker| leaders.contains(&broker.nodeid));
    let silence = |micros: i64| Duration::from_micros(u64::try_from(micros).unwrap_or(0));
    led.map(|broker| (broker.nodeid, silence(broker.rxidle)))
        .filter(|(_, silent)| *silent > SILENCE)
        .collect()
}

#[cfg(test)]
mod tests {
    use rdkafka::statistics::{Broker, ConsumerGroup, Partition, Topic};

    use super::*;

    const GROUP: &str = "g";

    fn statistics(answers: u64, join_state: &str, silent_s: i64) -> Statistics {
        let group =
            ConsumerGroup { state: "up".into(), join_state: join_state.into(), ..ConsumerGroup::default() };
        let source = "configured".into();
        let broker =
            Broker { nodeid: 1, source, rx: answers, rxidle: silent_s * 1_000_000, ..Broker::default() };
        let topic = Topic {
            partitions: [(0, Partition { leader: 1, ..Partition::default() })].into(),
            ..Topic::default()
        };
        Statistics {
            brokers: [("b".to_owned(), broker)].into(),
            topics: [("t".to_owned(), topic)].into(),
            cgrp: Some(group),
            ..Statistics::default()
        }
    }

    fn reads() -> [TopicPartition; 1] {
        [TopicPartition::new("t", 0)]
    }

    fn codes(health: &Health, now: Instant) -> Vec<String> {
        health.trouble(GROUP, now).into_iter().map(|(cause, _)| cause.code.into_owned()).collect()
    }

    /// Polls every half second for so long, and tells what `said` gives every two.
    fn pass(
        health: &mut Health,
        from: Instant,
        seconds: u64,
        said: impl Fn(u64) -> Option<Statistics>,
    ) -> Instant {
        for half in 1..=seconds * 2 {
            let now = from + Duration::from_millis(half * 500);
            health.polled(now);
            if half % 4 == 0
                && let Some(statistics) = said(half)
            {
                health.heard(&statistics, &reads(), now);
            }
        }
        from + Duration::from_secs(seconds)
    }

    #[test]
    fn one_that_is_well_says_nothing_and_is_kept() {
        let (mut health, start) = (Health::new(Duration::from_secs(10)), Instant::now());
        let now = pass(&mut health, start, 60, |half| Some(statistics(half, "steady", 0)));
        assert_eq!((codes(&health, now), health.is_stuck(false, now)), (vec![], None));
    }

    #[test]
    fn silence_shows_after_ten_seconds_and_is_nobodys_reason_to_be_replaced() {
        let (mut health, start) = (Health::new(Duration::from_secs(10)), Instant::now());
        let now = pass(&mut health, start, 4, |half| Some(statistics(half, "steady", 0)));
        let later = pass(&mut health, now, 8, |_| Some(statistics(8, "steady", 9)));
        assert_eq!(codes(&health, later), Vec::<String>::new());
        let later = pass(&mut health, later, 6, |_| Some(statistics(8, "wait-join", 14)));
        assert_eq!(codes(&health, later), ["kafka-unreachable", "broker-silent"]);
        assert_eq!(health.is_stuck(false, later), None, "another one would get no answer either");
        let later = pass(&mut health, later, 2, |_| Some(statistics(9, "steady", 0)));
        assert_eq!(codes(&health, later), Vec::<String>::new());
    }

    #[test]
    fn one_that_gets_no_place_though_kafka_answers_is_replaced_ever_more_rarely() {
        let (mut health, mut now) = (Health::new(Duration::from_secs(10)), Instant::now());
        for patience in [8, 12, 20, 36, 44, 44] {
            let nearly = pass(&mut health, now, patience - 5, |half| Some(statistics(half, "init", 0)));
            assert_eq!(health.is_stuck(false, nearly), None, "{patience}");
            now = pass(&mut health, nearly, 4, |half| Some(statistics(1_000 + half, "init", 0)));
            assert!(health.is_stuck(false, now).is_some(), "{patience}");
            assert_eq!(codes(&health, now), ["not-in-group"]);
            health.replaced(now);
        }
        now = pass(&mut health, now, 2, |half| Some(statistics(half, "steady", 0)));
        assert_eq!((codes(&health, now), health.replaced), (vec![], 0));
    }

    #[test]
    fn a_process_that_was_frozen_is_not_taken_for_one_that_gets_nowhere() {
        let (mut health, start) = (Health::new(Duration::from_secs(10)), Instant::now());
        let now = pass(&mut health, start, 4, |half| Some(statistics(half, "steady", 0)));
        let thawed = now + Duration::from_secs(300);
        assert_eq!(codes(&health, thawed), ["poll-thread-stalled"]);
        health.polled(thawed);
        assert_eq!((codes(&health, thawed), health.is_stuck(true, thawed)), (vec![], None));
    }

    #[test]
    fn one_that_knows_no_broker_is_replaced_whether_or_not_it_owns_something() {
        for owns in [false, true] {
            let (mut health, start) = (Health::new(Duration::from_secs(10)), Instant::now());
            let mut now = pass(&mut health, start, 4, |half| Some(statistics(half, "steady", 0)));
            let lost = |_| Some(Statistics { brokers: [].into(), ..statistics(9, "init", 0) });
            for patience in [4, 8, 16, 32, 40, 40] {
                let nearly = pass(&mut health, now, patience, lost);
                assert_eq!(health.is_stuck(owns, nearly), None, "{patience}");
                now = pass(&mut health, nearly, 2, lost);
                assert_eq!(health.is_stuck(owns, now), Some("it knows no broker any more"), "{patience}");
                health.replaced(now);
            }
        }
    }

    #[test]
    fn one_that_says_nothing_is_replaced() {
        let (mut health, start) = (Health::new(Duration::from_secs(10)), Instant::now());
        let now = pass(&mut health, start, 4, |half| Some(statistics(half, "steady", 0)));
        let now = pass(&mut health, now, 12, |_| None);
        assert_eq!(codes(&health, now)[0], "consumer-stalled");
        let now = pass(&mut health, now, 10, |_| None);
        assert!(health.is_stuck(true, now).is_some());
    }
}
