//! What is seen when nothing is typed: where dead letters are open, of what most died, and what to type next.

use std::{collections::BTreeMap, sync::Arc};

use chrono::{DateTime, Utc};

use super::groups;
use crate::{
    act::Command,
    exit::{Exit, Problem},
    kafka::{Kafka, Start},
    output::{Column, Format, Ink, Out, Table, complain, warn_unreadable},
    snapshot::{Alike, Counts, Groups, Keep, Scope, Sort, State, read_ledger, scan, short_len},
    time::{age, now},
};

/// Groups that are shown.
const SHOWN: usize = 5;

/// Prints it.
///
/// # Errors
/// When Kafka does not answer, or a format is asked for that it does not have.
pub fn morning(kafka: &Kafka, out: &mut Out) -> anyhow::Result<Exit> {
    if matches!(out.format(), Format::Json | Format::Ids) {
        let what =
            "what is to be printed so? name a command, such as topics, groups or list; --help has them";
        return Err(Problem::Usage(what.into()).into());
    }
    let now = now();
    let scope = Scope::of(kafka, &[], &[])?;
    let (ledger, _) = read_ledger(kafka, Keep::Nothing, &Start::Oldest)?;
    warn_unreadable(&ledger);
    type Topics = BTreeMap<Arc<str>, Counts>;
    let nothing = || (Topics::new(), Groups::default());
    let ((topics, groups), folded) =
        scan(kafka, &scope, &ledger, nothing, |(topics, groups), letter, state| {
            topics.entry(letter.place.topic.clone()).or_default().add(&letter, state, now);
            groups.add(letter, state, &ledger, state == State::Open);
        })?;
    let all = groups.finish(Sort::Largest);
    let Some(largest) = all.first() else {
        let (count, unread) =
            (scope.topics().len(), if kafka.gaps().is_empty() { "" } else { " that can be read" });
        let topics = if count == 1 { "topic" } else { "topics" };
        out.line(format!("No dead letter is open{unread}, in {count} dead-letter {topics}."))?;
        out.flush()?;
        complain("`dlq-inspector topics` counts the others; --help has all commands");
        return Ok(Exit::Ok);
    };
    out.table(&table(&topics, now))?;
    let shown = &all[..all.len().min(SHOWN)];
    let title = if shown.len() < all.len() {
        format!("\nthe {SHOWN} largest of {} groups that died alike", all.len())
    } else {
        "\nof what they died".to_owned()
    };
    let title = out.ink(&title, Ink::Bold);
    out.line(title)?;
    let len = short_len(&folded.ids, shown.iter().map(|alike| alike.sample.id));
    let wide = out.format() == Format::Wide;
    out.table(&groups::table(shown, &ledger, now, len, true, wide))?;
    let title = out.ink("\nnext", Ink::Bold);
    out.line(title)?;
    next(largest, len, all.len() > SHOWN)
        .into_iter()
        .try_for_each(|(command, what)| out.line(format!("  {command}\n      {what}")))?;
    Ok(Exit::Ok)
}

fn table(topics: &BTreeMap<Arc<str>, Counts>, now: DateTime<Utc>) -> Table {
    let mut table = Table::new(vec![
        Column::whole("TOPIC"),
        Column::number("OPEN"),
        Column::number("OLDEST"),
        Column::number("RATE"),
    ]);
    for (topic, counts) in topics.iter().filter(|(_, counts)| counts.open > 0) {
        table.row(vec![
            topic.into(),
            counts.open.to_string().into(),
            counts.oldest_open.map_or_else(|| "-".to_owned(), |at| age(now, at)).into(),
            format!("{}/h", counts.last_hour).into(),
        ]);
    }
    table
}

/// What to type next, and what it does.
fn next(largest: &Alike, id_len: usize, more: bool) -> Vec<(String, &'static str)> {
    let letter = &largest.sample;
    let id = letter.id.to_string();
    let short = id.get(..id_len).unwrap_or(&id).to_owned();
    let meant = |command: &str| {
        let command = Command::new(command).option("--group", Some(letter.group()));
        command.option("--fingerprint", letter.fingerprint())
    };
    let groups = more.then(|| (Command::new("groups").text(), "all of them"));
    let rest = [
        (
            Command::new("show").ids([short]).text(),
            "the newest of the largest: error, headers, body, history",
        ),
        (meant("list").text(), "all of these"),
        (meant("requeue").text(), "what putting them back would do; nothing is written without --execute"),
        (
            meant("discard").option("--reason", Some("…")).text(),
            "what closing them would do, where they are not to run again",
        ),
    ];
    groups.into_iter().chain(rest).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        snapshot::{Ledger, tests::dead},
        time::from_ms,
    };

    #[test]
    fn what_to_type_next_is_exact() {
        let mut groups = Groups::default();
        groups.add(dead(9, 1), State::Open, &Ledger::default(), true);
        let all = groups.finish(Sort::Largest);
        let commands: Vec<_> = next(&all[0], 8, true).into_iter().map(|(command, _)| command).collect();
        let id = &dead(9, 1).id.to_string()[..8];
        let of = "--group g --fingerprint 00ff00ff00ff00ff";
        assert_eq!(
            commands,
            [
                "dlq-inspector groups".to_owned(),
                format!("dlq-inspector show {id}"),
                format!("dlq-inspector list {of}"),
                format!("dlq-inspector requeue {of}"),
                format!("dlq-inspector discard {of} --reason '…'"),
            ]
        );
    }

    #[test]
    fn only_topics_with_open_letters_are_shown() {
        let mut open = Counts::default();
        open.add(&dead(9, 1), State::Open, from_ms(69_000));
        let topics = BTreeMap::from([("a.dlq".into(), Counts::default()), ("b.dlq".into(), open)]);
        let lines = table(&topics, from_ms(69_000)).render(None, |text, _| text.to_owned());
        assert_eq!(lines.len(), 2);
        assert!(lines[1].starts_with("b.dlq") && lines[1].contains("60s"), "{}", lines[1]);
    }
}
