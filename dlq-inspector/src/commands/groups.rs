//! `groups`: dead letters that died alike.

use chrono::{DateTime, Utc};

use crate::{
    args::GroupsArgs,
    exit::Exit,
    kafka::{Kafka, Start},
    output::{Column, Format, Out, Table, complain, json::GroupJson, warn_unreadable},
    snapshot::{Alike, Groups, Keep, Ledger, Scope, State, Tally, read_ledger, scan, short_len},
    time::{age, from_ms, now},
};

/// Prints a line for each group of letters that died alike.
///
/// # Errors
/// When Kafka does not answer.
pub fn groups(kafka: &Kafka, args: &GroupsArgs, out: &mut Out) -> anyhow::Result<Exit> {
    let now = now();
    let selectors = &args.selectors;
    let scope = Scope::of(kafka, &selectors.dlq, &selectors.group)?;
    let (ledger, _) = read_ledger(kafka, Keep::Nothing, &Start::Oldest)?;
    warn_unreadable(&ledger);
    let nothing = || (Groups::default(), Tally::default());
    let ((groups, others), folded) =
        scan(kafka, &scope, &ledger, nothing, |(groups, others), letter, state| {
            let matches = selectors.matches(&letter, state, now);
            let counted = matches && (args.all || selectors.means(&letter, state, State::Open, now));
            if matches && !counted {
                others.add(state);
            }
            groups.add(letter, state, &ledger, counted);
        })?;
    let all = groups.finish(args.sort);
    let beside = match others.is_empty() {
        true => String::new(),
        false => format!("; not counted: {others}; --all counts them"),
    };
    if all.is_empty() {
        complain(&format!("no dead letter matches{beside}"));
        return Ok(Exit::NothingMatched);
    }
    let shown = &all[..all.len().min(usize::try_from(args.limit)?)];
    if out.is_json() {
        shown.iter().try_for_each(|alike| out.json(&GroupJson::new(alike, &ledger)))?;
    } else {
        let len = short_len(&folded.ids, shown.iter().map(|alike| alike.sample.id));
        let open = !args.all && selectors.state.is_empty();
        out.table(&table(shown, &ledger, now, len, open, out.format() == Format::Wide))?;
    }
    if shown.len() < all.len() {
        out.flush()?;
        complain(&format!("{} of {} groups shown; --limit N shows more", shown.len(), all.len()));
    }
    Ok(Exit::Ok)
}

/// A row for each, and below it the error, what else is known, and the note.
pub(super) fn table(
    all: &[Alike],
    ledger: &Ledger,
    now: DateTime<Utc>,
    id_len: usize,
    open: bool,
    wide: bool,
) -> Table {
    let letters = if open { "OPEN" } else { "LETTERS" };
    let mut columns = vec![
        Column::number(letters),
        Column::whole("CODE"),
        Column::whole("CLASS"),
        Column::text("GROUP", 8),
        Column::number("FIRST"),
        Column::number("LAST"),
        Column::whole("FINGERPRINT"),
    ];
    if wide {
        columns.extend([
            Column::whole("SAMPLE"),
            Column::number("KEYS"),
            Column::whole("BUILD"),
            Column::whole("REQUEUED"),
            Column::whole("ERROR"),
            Column::whole("NOTE"),
        ]);
    }
    let mut table = Table::new(columns);
    for alike in all {
        let letter = &alike.sample;
        let id = letter.id.to_string();
        let id = id.get(..id_len).unwrap_or(&id);
        let build = letter.dead().map_or("-", |dead| dead.build.as_str());
        let tried = alike.tried.map(|tried| {
            let became = tried.outcome.map_or("no outcome yet", |outcome| outcome.as_str());
            format!("{} ago: {became}", age(now, from_ms(tried.at_ms)))
        });
        let note = letter.fingerprint().and_then(|fingerprint| ledger.note(fingerprint));
        let note = note.map(|note| format!("{}, {} ago: {}", note.by, age(now, note.at), note.text));
        let mut cells = vec![
            alike.letters.to_string().into(),
            letter.code().unwrap_or("-").into(),
            letter.class().into(),
            letter.group().into(),
            age(now, alike.first).into(),
            age(now, alike.last).into(),
            letter.fingerprint().unwrap_or("-").into(),
        ];
        if wide {
            cells.extend([
                id.into(),
                alike.keys.to_string().into(),
                build.into(),
                tried.as_deref().unwrap_or("-").into(),
                letter.error().into(),
                note.as_deref().unwrap_or("-").into(),
            ]);
            table.row(cells);
            continue;
        }
        table.row(cells);
        table.under(letter.error().to_owned());
        let keys = if alike.keys == 1 { "1 key".to_owned() } else { format!("{} keys", alike.keys) };
        let tried = tried.map(|tried| format!(", requeued {tried}")).unwrap_or_default();
        table.under(format!("such as {id}, build {build}, {keys}{tried}"));
        if let Some(note) = note {
            table.under(format!("note of {note}"));
        }
    }
    table
}

#[cfg(test)]
mod tests {
    use dead_letters::{Action, Entry, note_id};

    use super::*;
    use crate::{
        snapshot::{Sort, tests::dead},
        time::from_ms,
    };

    #[test]
    fn what_one_types_from_is_whole_on_eighty_columns() {
        let mut ledger = Ledger::default();
        let fingerprint = "00ff00ff00ff00ff";
        let text =
            "the limit is raised on Monday, until then nothing is to be requeued: the ticket says more";
        let entry = Entry {
            dlq_id: note_id(fingerprint),
            group: "g".into(),
            action: Action::Note { fingerprint: fingerprint.into(), text: text.into() },
            at: from_ms(9_000),
            by: "kim@desk".into(),
            job: None,
            reason: None,
        };
        ledger.add(0, 0, entry);
        let mut groups = Groups::default();
        groups.add(dead(9, 1), State::Open, &ledger, true);
        let all = groups.finish(Sort::Largest);
        let id = dead(9, 1).id.to_string();
        let render = |wide, width| {
            table(&all, &ledger, from_ms(69_000), 8, true, wide).render(width, |text, _| text.to_owned())
        };
        let lines = render(false, Some(80));
        assert!(lines.iter().all(|line| line.chars().count() <= 80), "{lines:#?}");
        for word in ["1", "amount-over-limit", "permanent", "g", "60s", fingerprint] {
            assert!(lines[1].contains(word), "{word} in {}", lines[1]);
        }
        assert_eq!(lines[2].trim(), "200 over 100");
        assert!(lines[3].contains(&id[..8]) && lines[3].contains("1 key"), "{}", lines[3]);
        assert!(lines[4].contains("kim@desk, 60s ago: the limit is raised") && lines[4].ends_with('…'));
        let wide = render(true, None);
        assert!(wide.len() == 2 && wide[1].contains(text) && wide[1].contains(&id[..8]), "{wide:#?}");
    }
}
