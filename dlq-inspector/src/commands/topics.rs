//! `topics`: every dead-letter topic and how it stands.

use std::{collections::BTreeMap, sync::Arc};

use chrono::{DateTime, Utc};
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
    snapshot::{Counts, Keep, Scope, count, read_ledger},
    time::{age, from_ms, now, short},
};

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
    let counts = count(kafka, &scope, &ledger, now)?;
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
