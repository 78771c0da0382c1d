//! `list`: dead letters, newest first.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::{
    args::ListArgs,
    exit::Exit,
    kafka::{Kafka, Start},
    output::{Cell, Column, Format, Ink, Out, Table, bytes, complain, json::LetterJson, warn_unreadable},
    snapshot::{Keep, Letter, Scope, State, Tally, read_ledger, scan, short_len},
    time::{age, now},
};

/// The newest letters, so many at most.
#[derive(Debug, Default)]
struct Newest {
    kept: BTreeMap<(DateTime<Utc>, Uuid), (Letter, State)>,
    matched: u64,
}

impl Newest {
    fn add(&mut self, letter: Letter, state: State, limit: usize) {
        self.matched += 1;
        self.kept.insert((letter.failed_at(), letter.id), (letter, state));
        if self.kept.len() > limit {
            self.kept.pop_first();
        }
    }
}

/// Prints the newest letters that match.
///
/// # Errors
/// When Kafka does not answer.
pub fn list(kafka: &Kafka, args: &ListArgs, out: &mut Out) -> anyhow::Result<Exit> {
    let now = now();
    let limit = usize::try_from(args.limit)?;
    let scope = Scope::of(kafka, &args.selectors.dlq, &args.selectors.group)?;
    let (ledger, _) = read_ledger(kafka, Keep::Nothing, &Start::Oldest)?;
    warn_unreadable(&ledger);
    let nothing = || (Newest::default(), Tally::default());
    let ((newest, others), folded) =
        scan(kafka, &scope, &ledger, nothing, |(newest, others), letter, state| {
            if !args.selectors.matches(&letter, state, now) {
                return;
            }
            if args.all || args.selectors.means(&letter, state, State::Open, now) {
                newest.add(letter, state, limit);
            } else {
                others.add(state);
            }
        })?;
    if newest.matched == 0 {
        let beside = match (folded.ids.is_empty(), kafka.gaps().is_empty(), others.is_empty()) {
            (true, true, _) => "there are none".to_owned(),
            (true, false, _) => "there are none that can be read".to_owned(),
            (false, _, true) => "there are others: loosen the selectors".to_owned(),
            (false, _, false) => format!("{}; --all shows them", besides(&others)),
        };
        let open = if others.is_empty() { "" } else { "open " };
        complain(&format!("no {open}dead letter matches; {beside}"));
        return Ok(Exit::NothingMatched);
    }
    let shown = || newest.kept.values().rev();
    match out.format() {
        Format::Json => {
            shown().try_for_each(|(letter, state)| out.json(&LetterJson::new(letter, *state)))?;
        }
        Format::Ids => shown().try_for_each(|(letter, _)| out.line(letter.id.to_string()))?,
        Format::Table | Format::Wide => {
            let len = short_len(&folded.ids, shown().map(|(letter, _)| letter.id));
            out.table(&table(shown(), now, len, out.format() == Format::Wide))?;
        }
    }
    out.flush()?;
    if newest.matched > newest.kept.len() as u64 {
        complain(&format!("{} of {} shown; --limit N shows more", newest.kept.len(), newest.matched));
    }
    if !others.is_empty() {
        complain(&format!("{}; --all shows them", besides(&others)));
    }
    let table = matches!(out.format(), Format::Table | Format::Wide);
    if table && newest.kept.len() >= out.height() {
        complain("more than a screen: `dlq-inspector groups` shows them by cause");
    }
    Ok(Exit::Ok)
}

fn besides(others: &Tally) -> String {
    match others.total() {
        1 => format!("there is 1 other: {others}"),
        total => format!("there are {total} others: {others}"),
    }
}

fn table<'a>(
    letters: impl Iterator<Item = &'a (Letter, State)>,
    now: DateTime<Utc>,
    id_len: usize,
    wide: bool,
) -> Table {
    let mut columns = vec![
        Column::whole("ID"),
        Column::number("AGE"),
        Column::text("GROUP", 8),
        Column::whole("CLASS"),
        Column::text("CODE", 10),
        Column::text("KEY", 8),
        Column::text("EVENT", 8),
        Column::number("TRIES"),
        Column::text("SOURCE", 10),
        Column::whole("STATE"),
    ];
    if wide {
        columns.extend([Column::whole("CORRELATION"), Column::whole("FINGERPRINT"), Column::whole("ERROR")]);
    }
    let mut table = Table::new(columns);
    for (letter, state) in letters {
        let dead = letter.dead();
        let id = letter.id.to_string();
        let source = dead.map_or_else(
            || "-".to_owned(),
            |dead| format!("{}/{}/{}", dead.origin.topic, dead.origin.partition, dead.offset),
        );
        let mut cells = vec![
            id.get(..id_len).unwrap_or(&id).into(),
            age(now, letter.failed_at()).into(),
            letter.group().into(),
            letter.class().into(),
            letter.code().unwrap_or("-").into(),
            letter.key.as_deref().map_or_else(|| "-".to_owned(), bytes).into(),
            letter.event_type().unwrap_or("-").into(),
            dead.map_or_else(|| "-".to_owned(), |dead| dead.attempts.to_string()).into(),
            source.into(),
            state_cell(*state),
        ];
        if wide {
            cells.extend([
                letter.correlation_id().unwrap_or("-").into(),
                letter.fingerprint().unwrap_or("-").into(),
                letter.error().into(),
            ]);
        }
        table.row(cells);
    }
    table
}

/// A state in its colour.
fn state_cell(state: State) -> Cell {
    let ink = match state {
        State::Open | State::DeadAgain => Ink::Bad,
        State::Requeued | State::Foreign => Ink::Warn,
        State::Resolved => Ink::Good,
        State::Discarded => Ink::Dim,
    };
    Cell::inked(state.as_str(), ink)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{snapshot::tests::dead, time::from_ms};

    #[test]
    fn only_the_newest_are_kept_whatever_order_they_come_in() {
        let mut newest = Newest::default();
        for offset in [5, 1, 9, 3, 7] {
            newest.add(dead(offset, 1), State::Open, 2);
        }
        assert_eq!(newest.matched, 5);
        let offsets: Vec<_> =
            newest.kept.values().rev().filter_map(|(l, _)| Some(l.dead()?.offset.0)).collect();
        assert_eq!(offsets, [9, 7]);
    }

    #[test]
    fn a_row_says_what_died_where_and_why() {
        let letter = (dead(9, 1), State::Open);
        let lines =
            table([&letter].into_iter(), from_ms(69_000), 8, true).render(None, |text, _| text.to_owned());
        let id = letter.0.id.to_string();
        for word in [&id[..8], "60s", "permanent", "amount-over-limit", "orders/0/9", "open", "200 over 100"]
        {
            assert!(lines[1].contains(word), "{word} in {}", lines[1]);
        }
    }
}
