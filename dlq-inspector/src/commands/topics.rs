//! `topics`: every dead-letter topic and how it stands.

use std::{collections::BTreeMap, sync::Arc};

use chrono::{DateTime, TimeDelta, Utc};
use dead_letters::group_of;
use rdkafka::{
    admin::{AdminClient, AdminOptions, ResourceSpecifier},
    client::DefaultClientContext,
};

use crate::{
    args::TopicsArgs,
    exit::Exit,
    kafka::{Kafka, Start},
    output::{
        Cell, Column, Format, Ink, Out, Table, complain,
        json::{TopicJson, time},
        warn_unreadable,
    },
    snapshot::{Keep, Letter, Scope, State, read_ledger, scan},
    time::{age, from_ms, now, short},
};

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Counts {
    open: u64,
    requeued: u64,
    resolved: u64,
    dead_again: u64,
    discarded: u64,
    foreign: u64,
    last_hour: u64,
    oldest_open: Option<DateTime<Utc>>,
    /// The broker's timestamp of the open letter that retention deletes first, milliseconds since the epoch.
    first_deleted: Option<i64>,
}

impl Counts {
    fn add(&mut self, letter: &Letter, state: State, now: DateTime<Utc>) {
        let count = match state {
            State::Open => &mut self.open,
            State::Requeued => &mut self.requeued,
            State::Resolved => &mut self.resolved,
            State::DeadAgain => &mut self.dead_again,
            State::Discarded => &mut self.discarded,
            State::Foreign => &mut self.foreign,
        };
        *count += 1;
        let at = letter.failed_at();
        self.last_hour += u64::from(at > now - TimeDelta::hours(1));
        if state == State::Open {
            self.oldest_open = Some(self.oldest_open.map_or(at, |oldest| oldest.min(at)));
            let written = letter.timestamp_ms;
            self.first_deleted = Some(self.first_deleted.map_or(written, |first| first.min(written)));
        }
    }
}

/// Prints a line for each dead-letter topic.
pub fn topics(kafka: &Kafka, args: &TopicsArgs, out: &mut Out) -> anyhow::Result<Exit> {
    let now = now();
    let scope = Scope::of(kafka, &args.dlq, &args.group)?;
    if scope.topics().is_empty() {
        complain("there is no dead-letter topic; a service creates its own when it starts");
        return Ok(Exit::NothingMatched);
    }
    let (ledger, _) = read_ledger(kafka, Keep::Nothing, &Start::Oldest)?;
    warn_unreadable(&ledger);
    let none = || scope.topics().iter().map(|topic| (topic.clone(), Counts::default())).collect();
    let (counts, _) =
        scan(kafka, &scope, &ledger, none, |counts: &mut BTreeMap<Arc<str>, Counts>, letter, state| {
            counts.entry(letter.place.topic.clone()).or_default().add(&letter, state, now);
        })?;
    let retention = retention(kafka, counts.keys())?;
    let deleted_at = |topic: &str, counts: &Counts| {
        let keep = retention.get(topic).copied().filter(|ms| *ms >= 0)?;
        Some(from_ms(counts.first_deleted?.saturating_add(keep)))
    };
    if out.is_json() {
        for (topic, counts) in &counts {
            out.json(&TopicJson {
                topic,
                group: group_of(topic).unwrap_or(topic),
                open: counts.open,
                requeued: counts.requeued,
                resolved: counts.resolved,
                dead_again: counts.dead_again,
                discarded: counts.discarded,
                foreign: counts.foreign,
                oldest_open_at: time(counts.oldest_open),
                last_hour: counts.last_hour,
                retention_ms: retention.get(&**topic).copied(),
                oldest_open_deleted_at: time(deleted_at(topic, counts)),
            })?;
        }
        return Ok(Exit::Ok);
    }
    out.table(&table(&counts, now, &retention, deleted_at, out.format() == Format::Wide))?;
    Ok(Exit::Ok)
}

fn table(
    all: &BTreeMap<Arc<str>, Counts>,
    now: DateTime<Utc>,
    retention: &BTreeMap<String, i64>,
    deleted_at: impl Fn(&str, &Counts) -> Option<DateTime<Utc>>,
    wide: bool,
) -> Table {
    let mut columns = vec![
        Column::text("TOPIC", 12),
        Column::number("OPEN"),
        Column::number("REQUEUED"),
        Column::number("RESOLVED"),
        Column::number("DISCARDED"),
        Column::number("OLDEST"),
        Column::number("RATE"),
        Column::number("DELETED IN"),
    ];
    if wide {
        columns.extend([Column::number("DEAD-AGAIN"), Column::number("FOREIGN"), Column::number("KEPT FOR")]);
    }
    let mut table = Table::new(columns);
    for (topic, counts) in all {
        let dash = || "-".to_owned();
        let open = counts.open.to_string();
        let mut cells = vec![
            topic.into(),
            if counts.open > 0 { Cell::inked(open, Ink::Bad) } else { open.into() },
            counts.requeued.to_string().into(),
            counts.resolved.to_string().into(),
            counts.discarded.to_string().into(),
            counts.oldest_open.map_or_else(dash, |at| age(now, at)).into(),
            format!("{}/h", counts.last_hour).into(),
            deleted_at(topic, counts).map_or_else(dash, |at| short((at - now).num_milliseconds())).into(),
        ];
        if wide {
            let kept = match retention.get(&**topic) {
                None => dash(),
                Some(..0) => "ever".into(),
                Some(ms) => short(*ms),
            };
            cells.extend([
                counts.dead_again.to_string().into(),
                counts.foreign.to_string().into(),
                kept.into(),
            ]);
        }
        table.row(cells);
    }
    table
}

/// `retention.ms` of each topic; a topic whose settings may not be read is missing.
fn retention<'a>(
    kafka: &Kafka,
    topics: impl Iterator<Item = &'a Arc<str>>,
) -> anyhow::Result<BTreeMap<String, i64>> {
    let topics: Vec<_> = topics.collect();
    let resources: Vec<_> = topics.iter().map(|topic| ResourceSpecifier::Topic(topic)).collect();
    let admin: AdminClient<DefaultClientContext> = kafka.client(DefaultClientContext, &[])?;
    let options = AdminOptions::new().request_timeout(Some(kafka.timeout()));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let answers = match runtime.block_on(admin.describe_configs(&resources, &options)) {
        Ok(answers) => answers,
        Err(error) => {
            complain(&format!("warning: the brokers do not tell how long topics are kept: {error}"));
            return Ok(BTreeMap::new());
        }
    };
    let settings = topics.iter().zip(answers).filter_map(|(topic, answer)| {
        let answer = answer.ok()?;
        let value = answer.get("retention.ms")?.value.as_deref()?;
        Some((topic.to_string(), value.parse().ok()?))
    });
    Ok(settings.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::tests::dead;

    #[test]
    fn states_are_counted_and_the_oldest_open_one_is_known() {
        let mut counts = Counts::default();
        let now = from_ms(3_700_000);
        for (offset, state) in [
            (1, State::Resolved),
            (50, State::Open),
            (200, State::Open),
            (3, State::Requeued),
            (4, State::DeadAgain),
        ] {
            counts.add(&dead(offset, 1), state, now);
        }
        assert_eq!((counts.open, counts.requeued, counts.resolved, counts.dead_again), (2, 1, 1, 1));
        assert_eq!(counts.oldest_open, Some(from_ms(50_000)));
        assert_eq!(counts.last_hour, 1, "only the one that died within the hour");
    }
}
