//! What does not work as it should, for as long as it does not.
//!
//! Status by presence: whoever meets trouble raises a condition, whoever sees it over clears it, and everything an operator looks
//! at (`/readyz`, the metrics, the log) is made from what is held here at that moment. Nothing is remembered that is not so any
//! more, and the time at which it began is that of its first raising.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use chrono::{DateTime, Utc};
use dead_letters::TopicPartition;
use parking_lot::Mutex;
use serde::Serialize;

use crate::Cause;

/// Something that does not work as it should.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Condition {
    /// The topic it is about, if it is about one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub topic: Option<String>,
    /// The partition, if it is about one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub partition: Option<i32>,
    /// The partition's state where it has one, else `degraded`.
    pub state: &'static str,
    /// Stable, kebab-case: what alerts and run books name.
    pub code: Cow<'static, str>,
    /// What is wrong and what to do, for people.
    pub message: String,
    /// Since when, UTC.
    pub since: DateTime<Utc>,
}

/// What a condition is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Subject {
    /// The process, or a server it needs.
    Process,
    /// A topic.
    Topic(Arc<str>),
    /// A partition.
    Partition(TopicPartition),
}

/// The conditions that hold now. Cheap to clone; all clones are one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Conditions(Arc<Mutex<BTreeMap<Name, Held>>>);

/// Names a condition: one of a subject and code is held once.
type Name = (Subject, Cow<'static, str>);

#[derive(Clone, Debug)]
struct Held {
    message: String,
    since: DateTime<Utc>,
}

impl Conditions {
    /// It is so. One that was held already keeps its beginning and gets the newer words.
    pub(crate) fn raise(&self, subject: Subject, cause: Cause) {
        let Cause { code, message } = cause;
        let mut held = self.0.lock();
        let since = held.get(&(subject.clone(), code.clone())).map_or_else(Utc::now, |held| held.since);
        held.insert((subject, code), Held { message, since });
    }

    /// It is not so any more.
    pub(crate) fn clear(&self, subject: &Subject, code: &'static str) {
        self.0.lock().remove(&(subject.clone(), Cow::Borrowed(code)));
    }

    /// All that hold, in order of subject and code.
    pub(crate) fn list(&self) -> Vec<Condition> {
        let held = self.0.lock();
        held.iter().map(|(name, held)| condition(name, held)).collect()
    }
}

/// What somebody finds wrong in one look, in words.
pub(crate) type Found = BTreeMap<(Subject, &'static str), String>;

/// What somebody who looks now and then has raised, so that what is over can be taken back.
#[derive(Debug, Default)]
pub(crate) struct Raised(BTreeSet<(Subject, &'static str)>);

impl Raised {
    /// This was found, and nothing else: raises it, and clears what is over.
    pub(crate) fn say(&mut self, conditions: &Conditions, found: Found) {
        for (subject, code) in self.0.iter().filter(|raised| !found.contains_key(*raised)) {
            conditions.clear(subject, code);
        }
        self.0 = found.keys().cloned().collect();
        for ((subject, code), message) in found {
            conditions.raise(subject, Cause::new(code, message));
        }
    }

    /// This is so as well; of the rest nothing is known.
    pub(crate) fn add(
        &mut self,
        conditions: &Conditions,
        subject: Subject,
        code: &'static str,
        message: String,
    ) {
        self.0.insert((subject.clone(), code));
        conditions.raise(subject, Cause::new(code, message));
    }
}

impl Condition {
    /// Something of the process that does not work, and since when.
    pub(crate) fn of_process((cause, since): (Cause, DateTime<Utc>)) -> Self {
        let Cause { code, message } = cause;
        Self { topic: None, partition: None, state: "degraded", code, message, since }
    }
}

/// Those of `code` that are about the same are one: in the words of the first, since the earliest. For what several clients of
/// this process find at the same time, such as a Kafka that does not answer.
pub(crate) fn once(all: Vec<Condition>, code: &str) -> Vec<Condition> {
    let mut kept: Vec<Condition> = Vec::with_capacity(all.len());
    for condition in all {
        let same = |other: &&mut Condition| {
            (&other.code, &other.topic, other.partition)
                == (&condition.code, &condition.topic, condition.partition)
        };
        match kept.iter_mut().find(|other| condition.code == code && same(other)) {
            Some(first) => first.since = first.since.min(condition.since),
            None => kept.push(condition),
        }
    }
    kept
}

fn condition((subject, code): &Name, held: &Held) -> Condition {
    let (topic, partition) = match subject {
        Subject::Process => (None, None),
        Subject::Topic(topic) => (Some(topic.to_string()), None),
        Subject::Partition(source) => (Some(source.topic.to_string()), Some(source.partition)),
    };
    let (message, since) = (held.message.clone(), held.since);
    Condition { topic, partition, state: "degraded", code: code.clone(), message, since }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_keeps_its_beginning_until_it_is_over() {
        let (conditions, orders) = (Conditions::default(), Subject::Topic("orders".into()));
        conditions.raise(orders.clone(), Cause::new("topic-missing", "first"));
        let since = conditions.list()[0].since;
        conditions.raise(orders.clone(), Cause::new("topic-missing", "second"));
        let held = conditions.list();
        assert_eq!((held.len(), held[0].since, held[0].message.as_str()), (1, since, "second"));
        assert_eq!((held[0].topic.as_deref(), held[0].partition), (Some("orders"), None));
        conditions.clear(&Subject::Process, "topic-missing");
        assert_eq!(conditions.list().len(), 1, "another subject's");
        conditions.clear(&orders, "topic-missing");
        assert_eq!(conditions.list(), []);
    }

    #[test]
    fn what_several_clients_find_is_said_once_of_each_subject() {
        let at = |seconds| DateTime::from_timestamp(seconds, 0).expect("in range");
        let said = |code: &'static str, message: &str, since| {
            Condition::of_process((Cause::new(code, message), at(since)))
        };
        let elsewhere = Condition { topic: Some("orders".into()), ..said("gone", "there", 9) };
        let all = vec![
            said("gone", "the first", 5),
            said("silent", "broker 1", 3),
            said("gone", "the second", 2),
            said("silent", "broker 2", 4),
            elsewhere.clone(),
        ];
        let expected = [
            said("gone", "the first", 2),
            said("silent", "broker 1", 3),
            said("silent", "broker 2", 4),
            elsewhere,
        ];
        assert_eq!(once(all, "gone"), expected);
    }
}
