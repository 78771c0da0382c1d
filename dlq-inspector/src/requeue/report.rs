//! What `requeue` says, for people and for scripts.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
};

use chrono::{DateTime, Utc};
use dead_letters::{RequeueOutcome, requeue_topic};
use uuid::Uuid;

use super::{
    plan::{Item, Plan},
    tally::{End, Ending, Endings, Tally},
};
use crate::{
    args::RequeueArgs,
    output::{
        Column, Ink, Out, Table,
        json::{RequeueJson, time},
    },
    snapshot::State,
    time::age,
};

/// Letters up to which each is named; above, they are counted.
const NAMED: usize = 20;

/// Tells an operator what is going on. A letter's ending is noted by saying it, so that what is counted is what was said.
#[derive(Debug)]
pub(super) struct Report<'a> {
    out: &'a mut Out,
    id_len: usize,
    endings: Endings,
    /// A line that could not be written must not stop a transaction: it is told when there is time.
    error: Option<io::Error>,
}

impl<'a> Report<'a> {
    pub(super) fn new(out: &'a mut Out, id_len: usize) -> Self {
        Self { out, id_len, endings: Endings::default(), error: None }
    }

    /// How the letters ended so far.
    pub(super) fn endings(&self) -> &Endings {
        &self.endings
    }

    fn short(&self, id: Uuid) -> String {
        let text = id.to_string();
        text.get(..self.id_len).unwrap_or(&text).to_owned()
    }

    fn say(&mut self, text: String, json: &RequeueJson<'_>) -> anyhow::Result<()> {
        if let Some(error) = self.error.take() {
            return Err(error.into());
        }
        if self.out.is_json() { self.out.json(json) } else { self.out.line(text) }?;
        Ok(self.out.flush()?)
    }

    fn note(&mut self, text: String, json: &RequeueJson<'_>) {
        let result = if self.out.is_json() { self.out.json(json) } else { self.out.line(text) };
        self.keep(result);
    }

    fn keep(&mut self, result: io::Result<()>) {
        if let Err(error) = result.and_then(|()| self.out.flush()) {
            self.error.get_or_insert(error);
        }
    }

    /// The plan, and the command that does it.
    pub(super) fn plan(&mut self, plan: &Plan, args: &RequeueArgs, now: DateTime<Utc>) -> anyhow::Result<()> {
        self.endings = Endings::of(&plan.items);
        let command = self.command(plan, args, now);
        if self.out.is_json() {
            return self.plan_json(plan, args, command);
        }
        self.out.line(format!("{} to requeue", count(plan.items.len())))?;
        if !plan.items.is_empty() {
            self.out.table(&self.groups(plan, now))?;
        }
        let mut reasons: BTreeMap<(&str, Option<&str>), Vec<String>> = BTreeMap::new();
        for left in &plan.left_out {
            reasons.entry((&left.why, left.allowed_by)).or_default().push(self.short(left.id));
        }
        for ((why, flag), ids) in reasons {
            let flag = flag.map(|flag| format!(" ({flag} allows it)")).unwrap_or_default();
            let line = self.out.ink(&format!("left out: {}: {why}{flag}", named(&ids)), Ink::Warn);
            self.out.line(line)?;
        }
        let ids = |state| plan.in_state(state).map(|item| item.id).collect::<Vec<_>>();
        self.warn("already resolved, and would run once more: ", &ids(State::Resolved))?;
        self.warn("requeued before, with no outcome yet: ", &ids(State::Requeued))?;
        let overtaken = "order: an older record of the same key is still dead and would be overtaken by ";
        self.warn(overtaken, &plan.overtaking)?;
        if !args.execute && !plan.items.is_empty() {
            self.out.line(format!("\nNothing was written. To do it:\n  {command}"))?;
        }
        Ok(self.out.flush()?)
    }

    /// Something to know of these letters before they are put back.
    fn warn(&mut self, what: &str, ids: &[Uuid]) -> io::Result<()> {
        if ids.is_empty() {
            return Ok(());
        }
        let ids: Vec<_> = ids.iter().map(|id| self.short(*id)).collect();
        let line = self.out.ink(&format!("{what}{}", named(&ids)), Ink::Warn);
        self.out.line(line)
    }

    fn groups(&self, plan: &Plan, now: DateTime<Utc>) -> Table {
        let mut groups: BTreeMap<(&str, &str), Vec<&Item>> = BTreeMap::new();
        for item in &plan.items {
            groups.entry((&item.group, item.class)).or_default().push(item);
        }
        let mut table = Table::new(vec![
            Column::text("GROUP", 8),
            Column::whole("CLASS"),
            Column::number("LETTERS"),
            Column::number("OLDEST"),
            Column::number("NEWEST"),
            Column::text("TO", 8),
        ]);
        for ((group, class), items) in groups {
            let ages = |at: Option<DateTime<Utc>>| at.map(|at| age(now, at)).unwrap_or_default();
            table.row(vec![
                group.into(),
                class.into(),
                items.len().to_string().into(),
                ages(items.iter().map(|item| item.failed_at).min()).into(),
                ages(items.iter().map(|item| item.failed_at).max()).into(),
                requeue_topic(group).into(),
            ]);
        }
        table
    }

    fn plan_json(&mut self, plan: &Plan, args: &RequeueArgs, command: String) -> anyhow::Result<()> {
        for left in &plan.left_out {
            let why = left.why.clone();
            self.out.json(&RequeueJson::LeftOut { id: left.id, why, allowed_by: left.allowed_by })?;
        }
        if args.execute {
            return Ok(self.out.flush()?);
        }
        for item in &plan.items {
            let Item { id, group, class, generation, state, .. } = item;
            let (id, generation, state) = (*id, *generation, *state);
            self.out.json(&RequeueJson::Planned { id, group, class, generation, state })?;
        }
        let groups: BTreeSet<_> = plan.items.iter().map(|item| item.group.as_str()).collect();
        self.out.json(&RequeueJson::Plan {
            letters: plan.items.len(),
            left_out: plan.left_out.len(),
            groups: groups.into_iter().collect(),
            oldest: time(plan.items.iter().map(|item| item.failed_at).min()),
            newest: time(plan.items.iter().map(|item| item.failed_at).max()),
            open_predecessors: plan.overtaking.len(),
            already_resolved: plan.in_state(State::Resolved).count(),
            already_requeued: plan.in_state(State::Requeued).count(),
            command,
        })?;
        Ok(self.out.flush()?)
    }

    /// The command that does what was shown: a few letters by their ids, many by the selectors that meant them, as of
    /// now.
    fn command(&self, plan: &Plan, args: &RequeueArgs, now: DateTime<Utc>) -> String {
        let mut words = vec!["dlq-inspector".to_owned(), "requeue".to_owned()];
        if plan.items.len() <= NAMED || !args.ids.is_empty() {
            words.extend(plan.items.iter().map(|item| self.short(item.id)));
        } else {
            let selectors = &args.selectors;
            words.extend(selectors.flags(now));
            if selectors.until.is_none() {
                words.extend(["--until".into(), crate::time::rfc3339(now)]);
            }
            if selectors.is_empty() {
                words.extend(["--state".into(), "open".into()]);
            }
        }
        let option = |flag: &str, value: &Option<String>| {
            value.iter().flat_map(|value| [flag.to_owned(), value.clone()]).collect::<Vec<_>>()
        };
        words.extend(args.force.then(|| "--force".to_owned()));
        words.extend(option("--rate", &args.rate.map(|rate| format!("{rate}/s"))));
        words.extend(option("--as", &args.by));
        words.extend(option("--reason", &args.reason));
        words.push("--execute".into());
        words.iter().map(|word| quote(word)).collect::<Vec<_>>().join(" ")
    }

    /// A letter that was not put back.
    pub(super) fn failed(&mut self, id: Uuid, why: &str) -> anyhow::Result<()> {
        self.endings.note(id, Ending::Failed);
        let text = format!("{}  not requeued: {why}", self.short(id));
        self.say(text, &RequeueJson::Failed { id, why: why.to_owned() })
    }

    /// The same, in the middle of a batch.
    pub(super) fn note_failed(&mut self, id: Uuid, why: &str) {
        self.endings.note(id, Ending::Failed);
        let text = format!("{}  not requeued: {why}", self.short(id));
        self.note(text, &RequeueJson::Failed { id, why: why.to_owned() });
    }

    /// A batch of which nobody says whether it is in Kafka.
    pub(super) fn note_unknown(&mut self, ids: impl IntoIterator<Item = Uuid>) {
        for id in ids {
            self.endings.note(id, Ending::Unknown);
            let text = format!("{}  not known whether it was requeued", self.short(id));
            self.note(text, &RequeueJson::Unknown { id });
        }
    }

    /// A batch that is in Kafka now.
    pub(super) fn note_requeued(&mut self, items: &[&Item], job: Uuid) {
        items.iter().for_each(|item| self.endings.note(item.id, Ending::Requeued));
        let tally = self.endings.tally();
        if !self.out.is_json() && tally.all() > NAMED {
            if !items.is_empty() {
                let text = format!("requeued {} of {}", tally.requeued(), tally.all());
                let result = self.out.line(text);
                self.keep(result);
            }
            return;
        }
        for item in items {
            let Item { id, group, generation, .. } = item;
            let text = format!("{}  requeued to {group} as generation {generation}", self.short(*id));
            self.note(text, &RequeueJson::Requeued { id: *id, group, generation: *generation, job });
        }
    }

    /// What became of a letter.
    pub(super) fn outcome(&mut self, item: &Item, outcome: RequeueOutcome) -> anyhow::Result<()> {
        self.endings.note(item.id, Ending::Outcome(outcome));
        let dead_again_as = (!outcome.resolves()).then(|| item.dead_again_as());
        let ink = if outcome.resolves() { Ink::Good } else { Ink::Bad };
        let word = self.out.ink(outcome.as_str(), ink);
        let new = dead_again_as.map(|id| format!(" as {id}")).unwrap_or_default();
        let text = format!("{}  {word}{new}", self.short(item.id));
        self.say(text, &RequeueJson::Outcome { id: item.id, outcome, dead_again_as })
    }

    /// A letter without an outcome in time.
    pub(super) fn outstanding(&mut self, id: Uuid) -> anyhow::Result<()> {
        self.endings.note(id, Ending::Outstanding);
        let text = format!("{}  no outcome yet", self.short(id));
        self.say(text, &RequeueJson::Outstanding { id })
    }

    /// The run ended with an error: how far it got.
    pub(super) fn stopped(&mut self) -> anyhow::Result<()> {
        let tally = self.endings.tally();
        let (text, json) = (so_far(tally), summary(tally));
        self.say(text, &json)
    }

    /// The end.
    pub(super) fn summary(&mut self, waited: bool, end: End) -> anyhow::Result<()> {
        let tally = self.endings.tally();
        let mut parts = vec![so_far(tally)];
        if waited {
            parts.push(format!("{} resolved, {} dead again", tally.resolved, tally.dead_again));
        }
        if tally.outstanding > 0 {
            parts.push(format!(
                "{} without an outcome yet: the requeue stands, `list` will show it",
                tally.outstanding
            ));
        }
        match end {
            End::Finished => {}
            End::Stopped => parts.push("stopped; run it again to go on with the rest".into()),
            End::Fenced => parts.push("another operator took over; look again before going on".into()),
        }
        let json = summary(tally);
        self.say(parts.join("; "), &json)
    }
}

fn so_far(tally: &Tally) -> String {
    let unknown = match tally.unknown {
        0 => String::new(),
        letters => format!(", of {letters} more it is not known: `list --state requeued` tells"),
    };
    format!("requeued {} of {}{unknown}", tally.requeued(), count(tally.all()))
}

fn summary(tally: &Tally) -> RequeueJson<'static> {
    RequeueJson::Summary {
        requeued: tally.requeued(),
        not_requeued: tally.not_requeued(),
        unknown: tally.unknown,
        resolved: tally.resolved,
        dead_again: tally.dead_again,
        outstanding: tally.outstanding,
    }
}

fn count(letters: usize) -> String {
    if letters == 1 { "1 dead letter".into() } else { format!("{letters} dead letters") }
}

fn named(ids: &[String]) -> String {
    match ids.len() {
        0..=5 => ids.join(", "),
        more => format!("{} and {} more", ids[..5].join(", "), more - 5),
    }
}

/// A word as a shell reads it back.
fn quote(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:@=+,%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_survive_the_shell() {
        assert_eq!(quote("2026-01-01T00:00:00.000Z"), "2026-01-01T00:00:00.000Z");
        assert_eq!(quote("it's $HOME"), r"'it'\''s $HOME'");
        assert_eq!(quote(""), "''");
    }

    #[test]
    fn many_ids_are_counted() {
        let ids: Vec<_> = (0..7).map(|i| i.to_string()).collect();
        assert_eq!(named(&ids), "0, 1, 2, 3, 4 and 2 more");
        assert_eq!(named(&ids[..2]), "0, 1");
    }
}
