//! `show`: all about one dead letter.

use std::collections::HashMap;

use anyhow::Context as _;
use dead_letters::{Action, DeadLetter, Headers, Truncated};
use uuid::Uuid;

use crate::{
    args::ShowArgs,
    exit::{Exit, Problem},
    kafka::{Kafka, Start},
    output::{
        Ink, Out,
        body::{self, Body},
        bytes, clean, hex,
        json::{EventJson, LetterJson, NoteJson, ShowJson},
        warn_unreadable,
    },
    snapshot::{
        Fetched, Keep, Ledger, Letter, Line, Note, Prefix, Resolved, Scope, State, ambiguous, fetch,
        read_ledger, resolve, scan_letters,
    },
    time::{age, now, rfc3339},
};

/// Earlier generations whose history is shown too; a letter past the limit was put back by force many times.
const GENERATIONS: u32 = 50;

/// Prints one letter.
pub fn show(kafka: &Kafka, args: &ShowArgs, out: &mut Out) -> anyhow::Result<Exit> {
    let scope = Scope::of(kafka, &args.dlq, &[])?;
    let (letter, superseded) = find(kafka, &scope, &args.id)?;
    let record = fetch(kafka, std::slice::from_ref(&letter.place))?
        .remove(&letter.place)
        .with_context(|| format!("{} was deleted by retention while it was read", letter.id))?;
    let value = record.value.as_deref().unwrap_or_default();

    if (args.raw || args.hex) && !args.reveal && body::read(value, true).1 {
        let which = if args.raw { "--raw" } else { "--hex" };
        let what =
            format!("the body holds fields that are masked, and {which} cannot mask them; add --reveal");
        return Err(Problem::Refused(what).into());
    }
    if args.raw {
        out.raw(value)?;
        return Ok(Exit::Ok);
    }

    // The letter first, the ledger after it: what was done in between is shown.
    let lineage = lineage(&letter);
    let (ledger, _) = read_ledger(kafka, Keep::Ids(lineage.iter().copied().collect()), &Start::Oldest)?;
    warn_unreadable(&ledger);
    let successor = letter.dead().map(|dead| successor(dead, dead.generation));
    let state = match ledger.state(letter.id) {
        State::Open if letter.dead().is_none() => State::Foreign,
        _ if superseded => State::DeadAgain,
        state => state,
    };
    let note = letter.fingerprint().and_then(|fingerprint| ledger.note(fingerprint));
    let history: Vec<&Line> = lineage.iter().flat_map(|id| ledger.history(*id)).collect();
    if out.is_json() {
        return json(out, args, &letter, state, &record, &history, note);
    }
    headline(out, &letter, state, successor)?;
    details(out, &letter, note)?;
    headers(out, &record.headers, args.reveal)?;
    show_body(out, &record, args)?;
    show_history(out, &ledger, &lineage)?;
    Ok(Exit::Ok)
}

/// The letter that `prefix` stands for, and whether one of the next generation replaced it.
fn find(kafka: &Kafka, scope: &Scope, prefix: &Prefix) -> anyhow::Result<(Letter, bool)> {
    let mut found = HashMap::<Uuid, Letter>::new();
    let folded = scan_letters(kafka, scope, |letter| {
        // Ambiguity needs a list of candidates, not all of them.
        if prefix.matches(letter.id) && found.len() < 100 {
            found.insert(letter.id, letter);
        }
    })?;
    match resolve(prefix, found.keys().copied()) {
        Resolved::One(id) => {
            let letter = found.remove(&id).context("a letter that was just found")?;
            Ok((letter, folded.superseded.contains(&id)))
        }
        Resolved::None => Err(Problem::NothingMatched(format!(
            "no dead letter's id begins with {prefix}; `list` shows them"
        ))
        .into()),
        Resolved::Many(ids) => Err(ambiguous(prefix, &ids).into()),
    }
}

/// The ids of the letter's earlier generations and its own, oldest first.
fn lineage(letter: &Letter) -> Vec<Uuid> {
    let Some(dead) = letter.dead() else { return vec![letter.id] };
    let first = dead.generation.saturating_sub(GENERATIONS).max(1);
    let mut ids: Vec<_> = (first..dead.generation).map(|generation| dead.id_in(generation)).collect();
    ids.push(letter.id);
    ids
}

/// The id a requeued letter has if it dies again.
fn successor(dead: &DeadLetter, generation: u32) -> Uuid {
    dead.id_in(generation.saturating_add(1))
}

fn headline(out: &mut Out, letter: &Letter, state: State, successor: Option<Uuid>) -> anyhow::Result<()> {
    let ink = if matches!(state, State::Resolved) { Ink::Good } else { Ink::Bad };
    let id = out.ink(&letter.id.to_string(), Ink::Bold);
    let word = out.ink(state.as_str(), ink);
    out.line(format!("{id}  {word}"))?;
    if let (State::DeadAgain, Some(id)) = (state, successor) {
        out.line(format!("died again as {id}: look at that one"))?;
    }
    Ok(())
}

fn details(out: &mut Out, letter: &Letter, note: Option<&Note>) -> anyhow::Result<()> {
    let now = now();
    let mut field = |name: &str, value: &str| out.line(format!("  {name:<12} {}", clean(value)));
    field("group", letter.group())?;
    field("class", letter.class())?;
    if let Some(code) = letter.code() {
        field("code", code)?;
    }
    if let Some(dead) = letter.dead() {
        field("source", &format!("{} offset {}", dead.origin, dead.offset))?;
        field("key", &letter.key.as_deref().map_or_else(|| "(none)".into(), bytes))?;
        field(
            "event",
            &format!(
                "{} {}",
                dead.event_type.as_deref().unwrap_or("(unknown type)"),
                dead.event_id.map_or_else(|| "(unknown id)".into(), |id| id.to_string())
            ),
        )?;
        field("correlation", dead.correlation_id.as_deref().unwrap_or("(none)"))?;
        field("attempts", &format!("{} in generation {}", dead.attempts, dead.generation))?;
        field(
            "failed",
            &format!(
                "{} ({} ago), first {}",
                rfc3339(dead.failed_at),
                age(now, dead.failed_at),
                rfc3339(dead.first_failed_at)
            ),
        )?;
        field("service", &format!("{} {} (handler {})", dead.service, dead.build, dead.handler))?;
        field("fingerprint", &dead.fingerprint)?;
        if let Some(note) = note {
            field("note", &format!("{} ({}, {} ago)", note.text, note.by, age(now, note.at)))?;
        }
        if let Some(Truncated { bytes, sha256 }) = &dead.truncated {
            field("truncated", &format!("only the beginning of its {bytes} bytes is here; sha256 {sha256}"))?;
        }
    } else {
        field("key", &letter.key.as_deref().map_or_else(|| "(none)".into(), bytes))?;
        field("written", &format!("{} ({} ago)", rfc3339(letter.failed_at()), age(now, letter.failed_at())))?;
    }
    let place = &letter.place;
    field("dead letter", &format!("{}/{} offset {}", place.topic, place.partition, place.offset))?;
    heading(out, "error")?;
    // A chain reads outermost first; each cause on a line of its own.
    for (depth, cause) in letter.error().split(": ").enumerate() {
        out.line(format!("  {}{}", "  ".repeat(depth.min(8)), clean(cause)))?;
    }
    Ok(())
}

fn heading(out: &mut Out, text: &str) -> anyhow::Result<()> {
    let text = out.ink(text, Ink::Bold);
    Ok(out.line(format!("\n{text}"))?)
}

/// A header's name as text: bytes that are none are escaped, such as `\xff`.
fn escaped(name: &[u8]) -> String {
    std::str::from_utf8(name).map_or_else(|_| name.escape_ascii().to_string(), str::to_owned)
}

fn header_text(name: &str, value: Option<&[u8]>, reveal: bool) -> Option<String> {
    match value {
        Some(_) if !reveal && body::is_masked(name) => Some("***".into()),
        Some(value) => Some(bytes(value)),
        None => None,
    }
}

fn headers(out: &mut Out, headers: &Headers, reveal: bool) -> anyhow::Result<()> {
    heading(out, "headers")?;
    let width = headers.iter().map(|(name, _)| escaped(name).chars().count()).max().unwrap_or(0).min(40);
    for (name, value) in headers.iter() {
        let name = escaped(name);
        let value = header_text(&name, value, reveal).unwrap_or_else(|| "(null)".into());
        out.line(format!("  {:<width$}  {value}", clean(&name)))?;
    }
    Ok(())
}

fn show_body(out: &mut Out, record: &Fetched, args: &ShowArgs) -> anyhow::Result<()> {
    let Some(value) = &record.value else {
        heading(out, "body")?;
        return Ok(out.line("  (null: a tombstone)")?);
    };
    heading(out, &format!("body, {} bytes", value.len()))?;
    let (body, masked) = body::read(value, !args.reveal);
    match body {
        _ if args.hex => body::hex_dump(value).iter().try_for_each(|line| out.line(format!("  {line}")))?,
        Body::Empty => out.line("  (empty)")?,
        Body::Json(text) => text.lines().try_for_each(|line| out.line(format!("  {line}")))?,
        Body::Text(text) => text.split('\n').try_for_each(|line| out.line(format!("  {}", clean(line))))?,
        Body::Binary => {
            out.line("  (no text)")?;
            body::hex_dump(&value[..value.len().min(512)])
                .iter()
                .try_for_each(|line| out.line(format!("  {line}")))?;
            if value.len() > 512 {
                out.line("  … --hex shows all, --raw writes the bytes")?;
            }
        }
    }
    if masked && !args.hex {
        out.line("  (*** is masked; --reveal shows it)")?;
    }
    Ok(())
}

fn show_history(out: &mut Out, ledger: &Ledger, lineage: &[Uuid]) -> anyhow::Result<()> {
    heading(out, "history")?;
    let mut any = false;
    for id in lineage {
        if lineage.len() > 1 && !ledger.history(*id).is_empty() {
            out.line(format!("  as {id}"))?;
        }
        for line in ledger.history(*id) {
            any = true;
            out.line(format!("  {}", sentence(line)))?;
        }
        if ledger.state(*id) == State::Requeued {
            out.line("  … no outcome yet")?;
        }
    }
    if !any {
        out.line("  nothing was done with it yet")?;
    }
    Ok(())
}

/// A line of the ledger in words: when, who, what, why.
fn sentence(line: &Line) -> String {
    let entry = &line.entry;
    let what = match &entry.action {
        Action::Requeue { generation } => format!("requeued as generation {generation}"),
        Action::Outcome { generation, outcome } => format!("generation {generation}: {}", outcome.as_str()),
        Action::Discard => "discarded".into(),
        Action::Restore => "restored".into(),
        Action::Note { text, .. } => format!("noted: {}", clean(text)),
        Action::Later => "something that this version does not know".into(),
    };
    let why = entry.reason.as_deref().map(|reason| format!(": {}", clean(reason))).unwrap_or_default();
    format!("{}  {}  {what}{why}", rfc3339(entry.at), clean(&entry.by))
}

fn json(
    out: &mut Out,
    args: &ShowArgs,
    letter: &Letter,
    state: State,
    record: &Fetched,
    history: &[&Line],
    note: Option<&Note>,
) -> anyhow::Result<Exit> {
    let value = record.value.as_deref();
    let (text, binary) = match value.map(|value| (body::read(value, !args.reveal), value)) {
        None => (None, None),
        // Without secrets the text is given as it is, byte for byte.
        Some(((Body::Binary, _), value)) => (None, Some(hex(value))),
        Some(((Body::Json(text) | Body::Text(text), true), _)) => (Some(text), None),
        Some((_, value)) => (std::str::from_utf8(value).ok().map(str::to_owned), None),
    };
    let headers = record.headers.iter();
    out.json(&ShowJson {
        letter: LetterJson::new(letter, state),
        headers: headers
            .map(|(name, value)| (escaped(name), value))
            .map(|(name, value)| (name.clone(), header_text(&name, value, args.reveal)))
            .collect(),
        body: text,
        body_hex: binary,
        note: letter
            .fingerprint()
            .zip(note)
            .map(|(fingerprint, note)| NoteJson::new(fingerprint, &note.text, &note.by, note.at)),
        history: history.iter().map(|line| EventJson::new(line)).collect(),
    })?;
    Ok(Exit::Ok)
}
