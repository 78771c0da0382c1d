//! The audit of one consumer group.

use std::{
    collections::{BTreeSet, HashSet},
    fmt,
    time::{Duration, Instant},
};

use actors::journal::Mark;
use anyhow::{Context, Result, bail, ensure};
use chrono::{DateTime, Utc};
use dead_letters::{KafkaSettings, TopicPartition, Unread, requeue_topic};
use tokio_postgres::Client;

use crate::{
    bounds::Bounds,
    event::ReadEvent,
    journal::Cover,
    kind::Kind,
    lookup::{JournalPosition, Tables, moved},
    problem::Problem,
    read::{Cost, Part, Reader, Search},
    report::GroupAudit,
    topics::reach,
    walk::{Finding, Found, Lane, Pending, Walk},
};

/// Time given to what is on its way from one place to another.
const MOVING: Duration = Duration::from_secs(3);
const AGAIN: Duration = Duration::from_millis(200);
/// Rows are forgotten by another clock than the one that dated them.
const MARGIN: Duration = Duration::from_secs(60 * 60);

/// What is needed to audit a group.
#[derive(Clone)]
pub struct Scope {
    /// The consumer group.
    pub group: String,
    /// The topics it reads, its requeue topic aside.
    pub topics: Vec<String>,
    /// The Kafka it reads them from.
    pub kafka: KafkaSettings,
    /// How long it remembers outcomes (`INBOX_RETENTION_S`): what is older is not demanded.
    pub retention: Duration,
    /// What event a record holds.
    pub event: ReadEvent,
    /// How much it keeps in memory.
    pub bounds: Bounds,
}

impl fmt::Debug for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scope")
            .field("group", &self.group)
            .field("topics", &self.topics)
            .finish_non_exhaustive()
    }
}

/// Audits a group; `database` is a connection to its database.
///
/// # Errors
/// When Kafka or the database does not answer. What is wrong with an offset, also that its record cannot be read, is no error but a
/// [`Problem`].
pub async fn audit(scope: &Scope, database: Client) -> Result<GroupAudit> {
    let started = Instant::now();
    let bounds = scope.bounds.at_least_one();
    let mut auditor = Auditor {
        tables: Tables::new(database, &scope.group),
        reader: Reader::new(&scope.kafka, scope.event.clone(), bounds.records)?,
        bounds,
        audit: GroupAudit::new(&scope.group),
        open: Vec::new(),
        beside: Cost::default(),
    };
    // Where the leases are comes first: whatever moves on from there is not asked for.
    let (leases, now) = auditor.tables.leases().await?;
    check_scope(scope, leases.iter().map(|lane| &*lane.source.topic).collect())?;
    let cutoff = now - chrono::Duration::from_std(scope.retention.saturating_sub(MARGIN))?;
    let (lanes, unread) = lanes(scope, leases).await?;
    for (source, unread) in &unread {
        auditor.unread(source, unread);
    }
    for lane in lanes {
        auditor.lane(&lane, cutoff).await.with_context(|| format!("auditing {}", lane.source))?;
    }
    auditor.settle().await?;
    auditor.name_first().await?;
    let Auditor { mut audit, tables, beside, .. } = auditor;
    audit.journal_rows = tables.journal_rows;
    audit.looked_up = tables.looked_up;
    audit.waited(&tables.ended);
    audit.beside = beside;
    audit.seconds = started.elapsed().as_secs_f64();
    Ok(audit)
}

/// What nobody asked for is not proved, and what does not exist proves nothing: the topics named have to be those that the group has
/// leases on.
fn check_scope(scope: &Scope, leased: BTreeSet<&str>) -> Result<()> {
    let Scope { group, topics, .. } = scope;
    let requeue = requeue_topic(group);
    let read: BTreeSet<&str> = leased.into_iter().filter(|topic| *topic != requeue).collect();
    ensure!(
        !read.is_empty(),
        "group {group} has no lease in this database: is that the group's name, is this its database, and has it ever run?"
    );
    let read_by_it = || read.iter().copied().collect::<Vec<_>>().join(", ");
    if let Some(topic) = topics.iter().find(|topic| !read.contains(topic.as_str())) {
        bail!("group {group} has no lease on topic {topic}; it has leases on {}", read_by_it());
    }
    if let Some(topic) = read.iter().find(|topic| !topics.iter().any(|named| named == *topic)) {
        bail!(
            "group {group} has leases on topic {topic} too, which was not named; it has leases on {}",
            read_by_it()
        );
    }
    Ok(())
}

/// The leases of what the group reads, in order, each with what is left of its partition; and those whose partition does not answer.
async fn lanes(scope: &Scope, leases: Vec<Lane>) -> Result<(Vec<Lane>, Vec<(TopicPartition, Unread)>)> {
    let requeue = requeue_topic(&scope.group);
    let names: Vec<String> = scope.topics.iter().cloned().chain([requeue.clone()]).collect();
    let kafka = scope.kafka.clone();
    let reach = tokio::task::spawn_blocking(move || reach(&kafka, &names)).await??;
    let (mut lanes, mut unread) = (Vec::new(), Vec::new());
    for mut lane in leases {
        let answer = reach.get(&(lane.source.topic.to_string(), lane.source.partition));
        let answer = answer.with_context(|| {
            format!(
                "{} has a lease on {}, which this Kafka does not have: is it the Kafka these databases belong to?",
                scope.group, lane.source
            )
        })?;
        match answer {
            Ok((low, _)) => {
                lane.low = *low;
                lane.requeue = *lane.source.topic == *requeue;
                lanes.push(lane);
            }
            Err(error) => {
                let (from, upto) = (Some(lane.begin()), Some(lane.next));
                let (partition, why) = (lane.source.partition, error.why());
                unread.push((lane.source, Unread { partition, from, upto, why }));
            }
        }
    }
    lanes.sort_by(|one, other| one.source.cmp(&other.source));
    Ok((lanes, unread))
}

struct Auditor {
    tables: Tables,
    reader: Reader,
    bounds: Bounds,
    audit: GroupAudit,
    /// Outcomes that the tables do not confirm, or not yet.
    open: Vec<Pending>,
    /// What reading dead letters and the ledger took.
    beside: Cost,
}

impl Auditor {
    async fn lane(&mut self, lane: &Lane, cutoff: DateTime<Utc>) -> Result<()> {
        let start = lane.start();
        let mut journal = Journal { cover: Cover::new(lane.begin()), after: Some((i64::MIN, i64::MIN)) };
        let mut walk = Walk::new(lane, cutoff);
        self.load(lane, &mut journal, start).await?;
        walk.skip(&mut journal.cover, start);
        if start < lane.next {
            let (mut chunks, reading) = self.reader.partition(&lane.source, start, lane.next, lane.requeue);
            while let Some(part) = chunks.recv().await {
                let chunk = match part {
                    Part::Records(chunk) => chunk,
                    Part::Unread(unread) => {
                        let upto = unread.upto.map_or(lane.next, |upto| upto.min(lane.next));
                        self.load(lane, &mut journal, upto).await?;
                        walk.unread(&mut journal.cover, unread.from.unwrap_or(start), upto);
                        self.unread(&lane.source, &unread);
                        continue;
                    }
                };
                let Some(last) = chunk.last() else { continue };
                self.load(lane, &mut journal, last.offset + 1).await?;
                chunk.iter().for_each(|seen| walk.record(&mut journal.cover, seen));
                if walk.found.pending.len() >= self.bounds.outcomes {
                    self.ask(std::mem::take(&mut walk.found.pending)).await?;
                }
            }
            self.audit.read.add(reading.await??);
        }
        self.load(lane, &mut journal, lane.next).await?;
        let mut found = walk.finish(&mut journal.cover);
        if found.findings.iter().any(|finding| finding.kind == Kind::OutcomeWithoutRecord) {
            found.forget_below(self.reader.low(&lane.source).await?);
        }
        self.note(lane, &mut found);
        self.ask(found.pending).await
    }

    /// Reads the journal until all that is said of offsets below `upto` is known.
    async fn load(&mut self, lane: &Lane, journal: &mut Journal, upto: i64) -> Result<()> {
        while journal.cover.needs(upto) {
            let Some(after) = journal.after else { return Ok(()) };
            let page = self.tables.page(lane, after).await?;
            journal.after = page.next;
            // A row may begin where the page ends, under another epoch.
            journal.cover.extend(page.rows, page.next.map_or(i64::MAX, |(from, _)| from));
            for (from, upto, error) in page.unreadable {
                let finding = Finding { kind: Kind::UnreadableRow, from, upto, says: None };
                let mut problem = Problem::of_finding(&self.audit.group, &lane.source, finding);
                problem.detail = format!("{}: {error:#}", problem.detail);
                self.audit.problem(problem);
            }
        }
        Ok(())
    }

    fn unread(&mut self, source: &TopicPartition, unread: &Unread) {
        self.audit.problem(Problem::of_unread(&self.audit.group, source, unread));
    }

    /// Takes in what looking for something took, and where it could not be looked for.
    fn searched<T>(&mut self, search: Search<T>) -> HashSet<T> {
        self.beside.add(search.cost);
        for (source, unread) in search.unread {
            // A topic is looked through more than once.
            let known = |problem: &Problem| {
                (problem.kind, problem.topic.as_str(), problem.partition, problem.offset)
                    == (Kind::Unread, &*source.topic, source.partition, unread.from)
            };
            if !self.audit.problems.iter().any(known) {
                self.unread(&source, &unread);
            }
        }
        search.found
    }

    fn note(&mut self, lane: &Lane, found: &mut Found) {
        self.audit.unprovable += found.unprovable;
        for (mark, offsets) in &found.outcomes {
            self.audit.count(*mark, *offsets);
        }
        for finding in &found.findings {
            self.audit.problem(Problem::of_finding(&self.audit.group, &lane.source, *finding));
        }
    }

    /// Asks the tables for what has to confirm the journal.
    async fn ask(&mut self, pending: Vec<Pending>) -> Result<()> {
        if !pending.is_empty() {
            let left = self.tables.confirm(pending).await?;
            self.open.extend(left);
        }
        if self.open.len() >= self.bounds.open { self.settle().await } else { Ok(()) }
    }

    /// Settles what is open: dead letters and the ledger are read, and what is still missing is asked for again for a while,
    /// since it may be on its way from one place to another.
    async fn settle(&mut self) -> Result<()> {
        let mut open = std::mem::take(&mut self.open);
        open = self.topics(open).await?;
        let asked = Instant::now();
        while open.iter().any(|one| !one.aged) && asked.elapsed() < MOVING {
            tokio::time::sleep(AGAIN).await;
            let mut left = Vec::new();
            while !open.is_empty() {
                let chunk = open.split_off(open.len().saturating_sub(self.bounds.outcomes));
                left.extend(self.tables.confirm(chunk).await?);
            }
            open = self.topics(left).await?;
        }
        open.sort_by(|one, other| (&one.source, one.offset).cmp(&(&other.source, other.offset)));
        for one in open {
            self.audit.count(one.mark, -1);
            if one.aged {
                self.audit.unprovable += 1;
            } else {
                self.audit.problem(Problem::of_pending(&self.audit.group, &one));
            }
        }
        Ok(())
    }

    /// Looks for dead letters and for outcomes of requeued records: in the outbox, then in the topics it empties into.
    async fn topics(&mut self, mut open: Vec<Pending>) -> Result<Vec<Pending>> {
        let mut letters: HashSet<(TopicPartition, i64)> = open
            .iter()
            .filter(|one| matches!(one.mark, Mark::Dead | Mark::Parked))
            .map(|one| one.origin.clone())
            .collect();
        if !letters.is_empty() {
            let mut found = self.tables.letters_on_their_way(&letters).await?;
            letters.retain(|one| !found.contains(one));
            let search = self.reader.letters(&self.audit.group, letters).await?;
            found.extend(self.searched(search));
            open.retain(|one| {
                let died = matches!(one.mark, Mark::Dead | Mark::Parked) && found.contains(&one.origin);
                if died && one.mark == Mark::Parked {
                    *self.tables.ended.entry(Mark::Dead).or_default() += 1;
                }
                !died
            });
        }
        let mut outcomes: HashSet<_> = open.iter().filter_map(moved).collect();
        if !outcomes.is_empty() {
            let mut found = self.tables.outcomes_on_their_way(&outcomes).await?;
            outcomes.retain(|one| !found.contains(one));
            let search = self.reader.outcomes(outcomes).await?;
            found.extend(self.searched(search));
            open.retain(|one| !moved(one).is_some_and(|put_back| found.contains(&put_back)));
        }
        Ok(open)
    }

    /// Finds out which event the first problem of each kind is about.
    async fn name_first(&mut self) -> Result<()> {
        let mut named = HashSet::new();
        for problem in &mut self.audit.problems {
            // What cannot be read has no name.
            let readable = problem.kind != Kind::Unread;
            let first = problem.offset.filter(|_| readable && named.insert(problem.kind));
            let Some(offset) = first else { continue };
            let source = TopicPartition::new(problem.topic.as_str(), problem.partition);
            let (event_id, correlation_id) = self.reader.names(&source, offset).await?;
            problem.event_id = event_id.or(problem.event_id);
            problem.correlation_id = correlation_id;
        }
        Ok(())
    }
}

/// A lane's journal, on the way.
struct Journal {
    cover: Cover,
    /// Where the next page begins; nothing after the last one.
    after: Option<JournalPosition>,
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn an_audit_of_nothing_proves_nothing() {
        let scope = Scope {
            group: "g".into(),
            topics: vec!["a".into(), "b".into()],
            kafka: KafkaSettings::default(),
            retention: Duration::ZERO,
            event: Arc::new(|_| None),
            bounds: Bounds::default(),
        };
        let said = |leased: &[&str]| {
            check_scope(&scope, leased.iter().copied().collect()).err().map(|error| error.to_string())
        };
        assert_eq!(said(&["a", "b", "g.requeue"]), None);
        for (leased, why) in [
            (&[][..], "has no lease in this database"),
            (&["g.requeue"], "has no lease in this database"),
            (&["a"], "no lease on topic b; it has leases on a"),
            (&["a", "b", "c"], "leases on topic c too, which was not named"),
        ] {
            let said = said(leased).expect("refused");
            assert!(said.contains(why), "{leased:?}: {said}");
        }
    }
}
