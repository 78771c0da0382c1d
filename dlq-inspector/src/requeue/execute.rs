//! Does what was planned: group by group, batch by batch, each batch one transaction.

use std::{
    collections::BTreeMap,
    thread,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use dead_letters::{ACTIONS_TOPIC, Action, DeadLetter, Entry, Headers, requeue_topic};
use uuid::Uuid;

use super::{
    gather::ledger_is_known,
    pace::Pace,
    plan::Item,
    report::Report,
    stop::Stop,
    tally::End,
    transaction::{NotWritten, Put, TRANSACTION_TIMEOUT, Writer},
};
use crate::{
    args::RequeueArgs,
    kafka::{Kafka, Start},
    snapshot::{Fetched, Keep, Place, fetch, read_ledger},
    time::now,
};

/// One run of the command.
#[derive(Debug)]
pub(super) struct Job<'a> {
    pub(super) kafka: &'a Kafka,
    /// Where the ledger ended when the plan was made.
    pub(super) positions: &'a BTreeMap<i32, i64>,
    pub(super) stop: &'a Stop,
    pub(super) id: Uuid,
    by: String,
    reason: Option<String>,
    rate: Option<u32>,
    /// Also what may have been requeued before.
    force: bool,
}

/// A letter with what goes to Kafka.
#[derive(Debug)]
struct Ready<'i> {
    item: &'i Item,
    record: Fetched,
    headers: Headers,
    entry: Entry,
}

impl<'a> Job<'a> {
    pub(super) fn new(
        kafka: &'a Kafka,
        args: &RequeueArgs,
        positions: &'a BTreeMap<i32, i64>,
        stop: &'a Stop,
    ) -> Self {
        Self {
            kafka,
            positions,
            stop,
            id: Uuid::now_v7(),
            by: args.by.clone().unwrap_or_else(operator),
            reason: args.reason.clone(),
            rate: args.rate,
            force: args.force,
        }
    }

    /// Puts the items back, as far as it gets: their endings are the report's.
    pub(super) fn run(&self, items: &[Item], report: &mut Report<'_>) -> anyhow::Result<End> {
        let mut groups: BTreeMap<&str, Vec<&Item>> = BTreeMap::new();
        for item in items {
            groups.entry(&item.group).or_default().push(item);
        }
        let started = "a service creates it when it starts: is this the right cluster?";
        self.kafka
            .partitions(ACTIONS_TOPIC)
            .with_context(|| format!("the ledger {ACTIONS_TOPIC} does not exist; {started}"))?;
        for group in groups.keys() {
            let topic = requeue_topic(group);
            self.kafka
                .partitions(&topic)
                .with_context(|| format!("topic {topic} does not exist; {started}"))?;
        }
        let mut pace = Pace::new(self.rate);
        for (group, items) in groups {
            // Whoever stops takes no other group over.
            if self.stop.asked() {
                return Ok(End::Stopped);
            }
            let end = self.group(group, items, &mut pace, report)?;
            if end != End::Finished {
                return Ok(end);
            }
        }
        Ok(End::Finished)
    }

    fn group(
        &self,
        group: &str,
        items: Vec<&Item>,
        pace: &mut Pace,
        report: &mut Report<'_>,
    ) -> anyhow::Result<End> {
        let writer = Writer::take_over(self.kafka, group)?;
        let items = self.unchanged(items, report)?;
        let mut items = items.into_iter();
        loop {
            let batch: Vec<_> = items.by_ref().take(pace.batch()).collect();
            if batch.is_empty() {
                return Ok(End::Finished);
            }
            self.stop.sleep_until(pace.next());
            if self.stop.asked() {
                return Ok(End::Stopped);
            }
            pace.sent(batch.len());
            let ready = self.ready(batch, report)?;
            match self.write(&writer, group, ready, report) {
                Ok(()) => {}
                Err(NotWritten::Fenced) => return Ok(End::Fenced),
                Err(NotWritten::Refused(why) | NotWritten::Unknown(why)) => {
                    let why = format!(
                        "{why}; it is not known whether the last batch was written: `list --state requeued` tells"
                    );
                    return Err(self.kafka.unreachable(why).into());
                }
            }
        }
    }

    /// Drops what somebody did something with since the plan. Nobody else can write for the group any more, once its
    /// former writer's transactions, which may hide behind those of other groups, are decided.
    fn unchanged<'i>(&self, items: Vec<&'i Item>, report: &mut Report<'_>) -> anyhow::Result<Vec<&'i Item>> {
        let ends: BTreeMap<i32, i64> = self.kafka.high_watermarks(ACTIONS_TOPIC)?.into_iter().collect();
        let deadline = Instant::now() + 2 * TRANSACTION_TIMEOUT;
        loop {
            let stable = self.kafka.stable_offsets(ACTIONS_TOPIC)?;
            if stable.iter().all(|(partition, offset)| ends.get(partition).is_none_or(|end| offset >= end)) {
                break;
            }
            anyhow::ensure!(
                Instant::now() < deadline,
                "a transaction on {ACTIONS_TOPIC} stays open, so the ledger cannot be read to its end; try again"
            );
            thread::sleep(Duration::from_millis(100));
        }
        let keep = Keep::Ids(items.iter().map(|item| item.id).collect());
        let (ledger, _) = read_ledger(self.kafka, keep, &Start::At(self.positions.clone()))?;
        ledger_is_known(self.kafka, self.force)?;
        let mut kept = Vec::with_capacity(items.len());
        for item in items {
            match ledger.history(item.id).last() {
                None => kept.push(item),
                Some(line) => {
                    report
                        .failed(item.id, &format!("{} changed it since the plan was made", line.entry.by))?;
                }
            }
        }
        Ok(kept)
    }

    /// Fetches the bodies; a letter that is gone is left.
    fn ready<'i>(&self, batch: Vec<&'i Item>, report: &mut Report<'_>) -> anyhow::Result<Vec<Ready<'i>>> {
        let places: Vec<_> = batch.iter().map(|item| item.place.clone()).collect();
        let mut records = fetch(self.kafka, &places)?;
        let mut ready = Vec::with_capacity(batch.len());
        for item in batch {
            let record = records.remove(&item.place);
            let letter = record.as_ref().and_then(|record| DeadLetter::from_headers(&record.headers).ok());
            match (record, letter) {
                (Some(record), Some(letter)) if letter.id == item.id => {
                    let letter = DeadLetter { generation: item.generation, ..letter };
                    let headers = letter.to_headers(&record.headers);
                    let entry = self.entry(item);
                    ready.push(Ready { item, record, headers, entry });
                }
                (None, _) => report.failed(item.id, &self.why_gone(&item.place))?,
                (Some(_), _) => {
                    let why = "another record lies where its dead letter was: the topic was made anew";
                    report.failed(item.id, why)?;
                }
            }
        }
        Ok(ready)
    }

    /// Why there is no record at a place where one was.
    fn why_gone(&self, place: &Place) -> String {
        let Place { topic, partition, offset } = place;
        match self.kafka.gaps().iter().find(|gap| gap.holds(topic, *partition, *offset)) {
            Some(gap) => format!("its dead letter cannot be read any more: {gap}"),
            None => "its dead letter is gone: retention deleted it".to_owned(),
        }
    }

    fn entry(&self, item: &Item) -> Entry {
        Entry {
            dlq_id: item.id,
            group: item.group.clone(),
            action: Action::Requeue { generation: item.generation },
            at: now(),
            by: self.by.clone(),
            job: Some(self.id),
            reason: self.reason.clone(),
        }
    }

    /// Writes a batch. When the brokers refuse it, its letters are written one by one, so that only the one to blame,
    /// such as one that is too large, is left behind.
    fn write(
        &self,
        writer: &Writer,
        group: &str,
        ready: Vec<Ready<'_>>,
        report: &mut Report<'_>,
    ) -> Result<(), NotWritten> {
        let topic = requeue_topic(group);
        let partitions = self.kafka.partitions(&topic).unwrap_or(1).max(1);
        let put =
            |ready: &Ready<'_>| -> Result<(), NotWritten> { writer.write(&[ready.put(&topic, partitions)]) };
        let all: Vec<_> = ready.iter().map(|ready| ready.put(&topic, partitions)).collect();
        if all.is_empty() {
            return Ok(());
        }
        let results: Vec<Result<(), NotWritten>> = match writer.write(&all) {
            Ok(()) => ready.iter().map(|_| Ok(())).collect(),
            Err(NotWritten::Refused(why)) if ready.len() == 1 => vec![Err(NotWritten::Refused(why))],
            Err(NotWritten::Refused(_)) => {
                let mut results = Vec::new();
                for one in &ready {
                    let result = put(one);
                    let over = matches!(result, Err(NotWritten::Fenced | NotWritten::Unknown(_)));
                    results.push(result);
                    if over {
                        break;
                    }
                }
                results
            }
            Err(other) => {
                if let NotWritten::Unknown(_) = other {
                    report.note_unknown(ready.iter().map(|ready| ready.item.id));
                }
                return Err(other);
            }
        };
        let mut written = Vec::new();
        let mut end = Ok(());
        for (ready, result) in ready.into_iter().zip(results) {
            match result {
                Ok(()) => written.push(ready.item),
                Err(NotWritten::Refused(why)) => report.note_failed(ready.item.id, &why),
                Err(other) => {
                    if let NotWritten::Unknown(_) = other {
                        report.note_unknown([ready.item.id]);
                    }
                    end = Err(other);
                }
            }
        }
        report.note_requeued(&written, self.id);
        end
    }
}

impl Ready<'_> {
    fn put<'a>(&'a self, topic: &'a str, partitions: i32) -> Put<'a> {
        Put {
            topic,
            partition: self.item.origin.partition.rem_euclid(partitions),
            key: self.record.key.as_deref(),
            value: self.record.value.as_deref(),
            headers: &self.headers,
            entry: &self.entry,
        }
    }
}

/// `user@host`, as far as the system tells.
fn operator() -> String {
    let user =
        ["USER", "LOGNAME"].iter().find_map(|name| std::env::var(name).ok().filter(|user| !user.is_empty()));
    let host = ["/proc/sys/kernel/hostname", "/etc/hostname"]
        .iter()
        .find_map(|path| std::fs::read_to_string(path).ok())
        .map(|host| host.trim().to_owned())
        .or_else(|| std::env::var("HOSTNAME").ok())
        .filter(|host| !host.is_empty());
    format!("{}@{}", user.as_deref().unwrap_or("unknown"), host.as_deref().unwrap_or("localhost"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operator_has_a_name_and_a_host() {
        let who = operator();
        assert!(
            who.split_once('@').is_some_and(|(user, host)| !user.is_empty() && !host.is_empty()),
            "{who}"
        );
    }
}
