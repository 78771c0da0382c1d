//! One run of a command that writes: group by group, batch by batch, by the one writer that a group has.

use std::{
    collections::BTreeMap,
    thread,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use dead_letters::{ACTIONS_TOPIC, Action, Entry};
use uuid::Uuid;

use super::{
    gather::ledger_is_known,
    pace::Pace,
    stop::Stop,
    transaction::{NotWritten, TRANSACTION_TIMEOUT, Writer},
};
use crate::{
    kafka::{Kafka, Start},
    snapshot::{Keep, read_ledger},
    time::now,
};

/// Why a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// All batches were tried.
    Finished,
    /// A signal asked to stop.
    Stopped,
    /// Another operator took over.
    Fenced,
}

/// A letter that something is done with.
pub trait Target {
    /// Its id.
    fn id(&self) -> Uuid;
    /// The group whose writer does it.
    fn group(&self) -> &str;
}

/// What a command does with its letters, and how it says so.
pub trait Work<I> {
    /// Writes a batch; its letters' endings are said.
    ///
    /// # Errors
    /// What does not concern this batch alone.
    fn batch(
        &mut self,
        writer: &Writer,
        group: &str,
        batch: Vec<&I>,
    ) -> anyhow::Result<Result<(), NotWritten>>;

    /// Says why nothing is done with a letter.
    ///
    /// # Errors
    /// When it cannot be said.
    fn failed(&mut self, id: Uuid, why: &str) -> anyhow::Result<()>;
}

/// Who does what since when, and why.
#[derive(Debug)]
pub struct Session<'a> {
    /// The cluster.
    pub kafka: &'a Kafka,
    /// Where the ledger ended when the plan was made.
    pub positions: &'a BTreeMap<i32, i64>,
    /// Whether to stop.
    pub stop: &'a Stop,
    /// This run, as the ledger has it.
    pub id: Uuid,
    by: String,
    reason: Option<String>,
    /// Although the ledger cannot be read as a whole.
    force: bool,
}

impl<'a> Session<'a> {
    /// A run that begins now. Nobody named is `user@host`.
    pub fn new(
        kafka: &'a Kafka,
        positions: &'a BTreeMap<i32, i64>,
        stop: &'a Stop,
        by: Option<&str>,
        reason: Option<&str>,
        force: bool,
    ) -> Self {
        let by = by.map_or_else(operator, str::to_owned);
        let reason = reason.map(str::to_owned);
        Self { kafka, positions, stop, id: Uuid::now_v7(), by, reason, force }
    }

    /// The ledger's line for what is done with a letter.
    pub fn entry(&self, target: &impl Target, action: Action) -> Entry {
        Entry {
            dlq_id: target.id(),
            group: target.group().to_owned(),
            action,
            at: now(),
            by: self.by.clone(),
            job: Some(self.id),
            reason: self.reason.clone(),
        }
    }

    /// Refuses where a topic that would be written to is missing.
    ///
    /// # Errors
    /// Names the first.
    pub fn topics_exist(&self, requeue: impl IntoIterator<Item = String>) -> anyhow::Result<()> {
        let started = "a service creates it when it starts: is this the right cluster?";
        self.kafka
            .partitions(ACTIONS_TOPIC)
            .with_context(|| format!("the ledger {ACTIONS_TOPIC} does not exist; {started}"))?;
        for topic in requeue {
            self.kafka
                .partitions(&topic)
                .with_context(|| format!("topic {topic} does not exist; {started}"))?;
        }
        Ok(())
    }

    /// Drops what somebody did something with since the plan. Nobody else can write for the group any more, once its
    /// former writer's transactions, which may hide behind those of other groups, are decided.
    fn unchanged<'i, I: Target>(
        &self,
        items: Vec<&'i I>,
        work: &mut impl Work<I>,
    ) -> anyhow::Result<Vec<&'i I>> {
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
        let keep = Keep::Ids(items.iter().map(|item| item.id()).collect());
        let (ledger, _) = read_ledger(self.kafka, keep, &Start::At(self.positions.clone()))?;
        ledger_is_known(self.kafka, self.force)?;
        let mut kept = Vec::with_capacity(items.len());
        for item in items {
            match ledger.history(item.id()).last() {
                None => kept.push(item),
                Some(line) => {
                    work.failed(item.id(), &format!("{} changed it since the plan was made", line.entry.by))?;
                }
            }
        }
        Ok(kept)
    }
}

/// Does `work` with the items, as far as it gets: their endings are said by it.
///
/// # Errors
/// When it is not known how a batch ended, or Kafka does not answer.
pub fn run<I: Target>(
    session: &Session<'_>,
    pace: &mut Pace,
    items: &[I],
    work: &mut impl Work<I>,
) -> anyhow::Result<End> {
    let mut groups: BTreeMap<&str, Vec<&I>> = BTreeMap::new();
    for item in items {
        groups.entry(item.group()).or_default().push(item);
    }
    for (group, items) in groups {
        // Whoever stops takes no other group over.
        if session.stop.asked() {
            return Ok(End::Stopped);
        }
        let writer = Writer::take_over(session.kafka, group)?;
        let mut items = session.unchanged(items, work)?.into_iter();
        loop {
            let batch: Vec<_> = items.by_ref().take(pace.batch()).collect();
            if batch.is_empty() {
                break;
            }
            session.stop.sleep_until(pace.next());
            if session.stop.asked() {
                return Ok(End::Stopped);
            }
            pace.sent(batch.len());
            match work.batch(&writer, group, batch)? {
                Ok(()) => {}
                Err(NotWritten::Fenced) => return Ok(End::Fenced),
                Err(NotWritten::Refused(why) | NotWritten::Unknown(why)) => {
                    let why = format!(
                        "{why}; it is not known whether the last batch was written: `list --all` tells"
                    );
                    return Err(session.kafka.unreachable(why).into());
                }
            }
        }
    }
    Ok(End::Finished)
}

/// `user@host`, as far as the system tells.
pub fn operator() -> String {
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
