//! `note`: what the next person should know of dead letters alike.

use std::collections::BTreeMap;

use dead_letters::{Action, Entry, note_id};

use crate::{
    act::{append, operator},
    args::NoteArgs,
    exit::{Exit, Problem},
    kafka::{Kafka, Start},
    output::{Out, clean, complain, json::NoteJson, warn_unreadable},
    snapshot::{Keep, Scope, read_ledger, scan_letters},
    time::now,
};

/// Writes a note to the ledger, or takes it away.
///
/// # Errors
/// When the fingerprint is unknown or ambiguous, or Kafka does not take the note.
pub fn note(kafka: &Kafka, args: &NoteArgs, out: &mut Out) -> anyhow::Result<Exit> {
    let (ledger, _) = read_ledger(kafka, Keep::Nothing, &Start::Oldest)?;
    warn_unreadable(&ledger);
    // Each with a group it was seen in; failures whose letters are gone may still have a note.
    let mut known: BTreeMap<String, String> = BTreeMap::new();
    for (fingerprint, note) in ledger.notes() {
        known.insert(fingerprint.to_owned(), note.group.clone());
    }
    scan_letters(kafka, &Scope::of(kafka, &[], &[])?, |letter| {
        if let Some(fingerprint) = letter.fingerprint().filter(|known| known.starts_with(&args.fingerprint)) {
            known.insert(fingerprint.to_owned(), letter.group().to_owned());
        }
    })?;
    known.retain(|fingerprint, _| fingerprint.starts_with(&args.fingerprint));
    let (fingerprint, group) = one(&args.fingerprint, known)?;
    if args.text.is_empty() && ledger.note(&fingerprint).is_none() {
        complain(&format!("there is no note on {fingerprint}"));
        return Ok(Exit::NothingMatched);
    }
    let (at, by) = (now(), args.by.clone().unwrap_or_else(operator));
    let action = Action::Note { fingerprint: fingerprint.clone(), text: args.text.clone() };
    let entry = Entry { dlq_id: note_id(&fingerprint), group, action, at, by, job: None, reason: None };
    append(kafka, &entry)?;
    if out.is_json() {
        out.json(&NoteJson::new(&fingerprint, &args.text, &entry.by, at))?;
    } else if args.text.is_empty() {
        out.line(format!("{}: the note is taken away", clean(&fingerprint)))?;
    } else {
        out.line(format!("{}: noted: {}", clean(&fingerprint), clean(&args.text)))?;
    }
    Ok(Exit::Ok)
}

/// The one fingerprint meant, with its group.
fn one(prefix: &str, mut known: BTreeMap<String, String>) -> Result<(String, String), Problem> {
    match (known.len(), known.pop_first()) {
        (1, Some(one)) => Ok(one),
        (_, None) => Err(Problem::NothingMatched(format!(
            "no dead letter's fingerprint begins with {prefix}; `groups --all` shows them"
        ))),
        (more, Some((first, _))) => {
            let others = known.into_keys().map(|other| format!("\n  {}", clean(&other))).take(9);
            let listed = others.collect::<String>();
            let first = clean(&first);
            Err(Problem::Usage(format!(
                "{prefix} is the beginning of {more} fingerprints:\n  {first}{listed}"
            )))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_is_meant_alone_or_not_at_all() {
        let known = |all: &[&str]| all.iter().map(|f| (f.to_string(), "g".to_owned())).collect();
        assert_eq!(one("00", known(&["00ff"])).ok(), Some(("00ff".into(), "g".into())));
        assert!(matches!(one("00", known(&[])), Err(Problem::NothingMatched(_))));
        let Err(Problem::Usage(why)) = one("00", known(&["00ff", "00ee"])) else { panic!("two") };
        assert!(why.contains("2 fingerprints:\n  00ee\n  00ff"), "{why}");
    }
}
