//! What `discard` and `restore` say, for people and for scripts.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
};

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::plan::{Item, Plan, Turn};
use crate::{
    act::{Command, End, Which, count, named},
    args::CloseArgs,
    output::{
        Column, Format, Ink, Out, Table, clean, complain,
        json::{CloseJson, time},
    },
    time::age,
};

/// Letters up to which each is named; above, they are counted.
const NAMED: usize = 20;

/// Tells an operator what is going on, and counts what it said.
#[derive(Debug)]
pub(super) struct Report<'a> {
    out: &'a mut Out,
    plan: &'a Plan,
    id_len: usize,
    command: String,
    done: usize,
    unknown: usize,
    /// A line that could not be written must not stop a transaction: it is told when there is time.
    error: Option<io::Error>,
}

impl<'a> Report<'a> {
    pub(super) fn new(out: &'a mut Out, plan: &'a Plan, id_len: usize) -> Self {
        Self { out, plan, id_len, command: String::new(), done: 0, unknown: 0, error: None }
    }

    /// Whether all that was planned was done.
    pub(super) fn all_done(&self) -> bool {
        self.done == self.plan.items.len()
    }

    fn short(&self, id: Uuid) -> String {
        let text = id.to_string();
        text.get(..self.id_len).unwrap_or(&text).to_owned()
    }

    /// The plan, and the command that does it.
    pub(super) fn plan(
        &mut self,
        which: &Which<'_>,
        args: &CloseArgs,
        now: DateTime<Utc>,
    ) -> anyhow::Result<()> {
        self.command = self.command(which, args, now);
        let plan = self.plan;
        match self.out.format() {
            Format::Ids => {
                plan.items.iter().try_for_each(|item| self.out.line(item.id.to_string()))?;
                self.out.flush()?;
                plan.left_out
                    .iter()
                    .for_each(|left| complain(&format!("left out: {}: {}", left.id, left.why)));
                return Ok(());
            }
            Format::Json => return self.plan_json(args),
            Format::Table | Format::Wide => {}
        }
        self.out.line(format!("{} to {}", count(plan.items.len()), plan.turn.command()))?;
        if !plan.items.is_empty() {
            self.out.table(&table(plan, now))?;
            self.out.line(format!("reason: {}", clean(&args.reason)))?;
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
        if !args.execute && !plan.items.is_empty() {
            self.out.line(format!("\nNothing was written. To do it:\n  {}", self.command))?;
        }
        Ok(self.out.flush()?)
    }

    fn plan_json(&mut self, args: &CloseArgs) -> anyhow::Result<()> {
        let plan = self.plan;
        for left in &plan.left_out {
            let why = left.why.clone();
            self.out.json(&CloseJson::LeftOut { id: left.id, why, allowed_by: left.allowed_by })?;
        }
        if args.execute {
            return Ok(self.out.flush()?);
        }
        for item in &plan.items {
            let Item { id, group, class, code, state, .. } = item;
            let (id, error_code, state) = (*id, code.as_deref(), *state);
            self.out.json(&CloseJson::Planned { id, group, class, error_code, state })?;
        }
        let groups: BTreeSet<_> = plan.items.iter().map(|item| item.group.as_str()).collect();
        self.out.json(&CloseJson::Plan {
            action: plan.turn.command(),
            letters: plan.items.len(),
            left_out: plan.left_out.len(),
            groups: groups.into_iter().collect(),
            oldest: time(plan.items.iter().map(|item| item.failed_at).min()),
            newest: time(plan.items.iter().map(|item| item.failed_at).max()),
            reason: &args.reason,
            command: self.command.clone(),
        })?;
        Ok(self.out.flush()?)
    }

    /// The command that does what was shown. Many letters are meant by the selectors, as of now; but no selector tells what was
    /// discarded before the plan from what was after it, so letters to restore are always named.
    fn command(&self, which: &Which<'_>, args: &CloseArgs, now: DateTime<Utc>) -> String {
        let plan = self.plan;
        let command = Command::new(plan.turn.command());
        let by_id = plan.items.len() <= NAMED || !which.ids.is_empty() || plan.turn == Turn::Restore;
        let command = if by_id {
            command.ids(plan.items.iter().map(|item| self.short(item.id)))
        } else {
            command.selectors(which, now)
        };
        command
            .flag("--force", args.force)
            .option("--as", args.by.as_deref())
            .option("--reason", Some(&args.reason))
            .flag("--execute", true)
            .text()
    }

    /// A letter with which nothing was done.
    pub(super) fn failed(&mut self, id: Uuid, why: &str) -> anyhow::Result<()> {
        self.note_failed(id, why);
        self.error.take().map_or(Ok(()), |error| Err(error.into()))
    }

    /// The same, in the middle of a batch.
    pub(super) fn note_failed(&mut self, id: Uuid, why: &str) {
        let text = format!("{}  not {}: {}", self.short(id), self.plan.turn.done(), clean(why));
        self.note(text, &CloseJson::Failed { id, why: why.to_owned() });
    }

    /// A letter of a batch of which nobody says whether it is in Kafka.
    pub(super) fn note_unknown(&mut self, id: Uuid) {
        self.unknown += 1;
        let text = format!("{}  not known whether it was {}", self.short(id), self.plan.turn.done());
        self.note(text, &CloseJson::Unknown { id });
    }

    /// A batch that is in Kafka now.
    pub(super) fn note_done(&mut self, items: &[&Item], job: Uuid) {
        self.done += items.len();
        let (turn, all) = (self.plan.turn, self.plan.items.len());
        if !self.out.is_json() && all > NAMED {
            if !items.is_empty() {
                let result = self.out.line(format!("{} {} of {all}", turn.done(), self.done));
                self.keep(result);
            }
            return;
        }
        for Item { id, group, .. } in items {
            let (id, text) = (*id, format!("{}  {}", self.short(*id), turn.done()));
            match turn {
                Turn::Discard => self.note(text, &CloseJson::Discarded { id, group, job }),
                Turn::Restore => self.note(text, &CloseJson::Restored { id, group, job }),
            }
        }
    }

    /// The end; `None` where it ended with an error.
    pub(super) fn summary(&mut self, end: Option<End>) -> anyhow::Result<()> {
        let (turn, all) = (self.plan.turn, self.plan.items.len());
        let mut parts = vec![format!("{} {} of {}", turn.done(), self.done, count(all))];
        if self.unknown > 0 {
            parts.push(format!("of {} more it is not known: `list --all` tells", self.unknown));
        }
        match end {
            None | Some(End::Finished) => {}
            Some(End::Stopped) => parts.push(format!("stopped; to go on with the rest: {}", self.command)),
            Some(End::Fenced) => parts.push("another operator took over; look again before going on".into()),
        }
        let not_done = all - self.done - self.unknown;
        self.note(parts.join("; "), &CloseJson::Summary { done: self.done, not_done, unknown: self.unknown });
        self.error.take().map_or(Ok(()), |error| Err(error.into()))
    }

    fn note(&mut self, text: String, json: &CloseJson<'_>) {
        let result = if self.out.is_json() { self.out.json(json) } else { self.out.line(text) };
        self.keep(result);
    }

    fn keep(&mut self, result: io::Result<()>) {
        if let Err(error) = result.and_then(|()| self.out.flush()) {
            self.error.get_or_insert(error);
        }
    }
}

fn table(plan: &Plan, now: DateTime<Utc>) -> Table {
    let mut rows: BTreeMap<(&str, &str, &str, &str), Vec<&Item>> = BTreeMap::new();
    for item in &plan.items {
        let code = item.code.as_deref().unwrap_or("-");
        rows.entry((&item.group, item.class, code, item.state.as_str())).or_default().push(item);
    }
    let mut table = Table::new(vec![
        Column::text("GROUP", 8),
        Column::whole("CLASS"),
        Column::whole("CODE"),
        Column::whole("STATE"),
        Column::number("LETTERS"),
        Column::number("OLDEST"),
        Column::number("NEWEST"),
    ]);
    for ((group, class, code, state), items) in rows {
        let ages = |at: Option<DateTime<Utc>>| at.map(|at| age(now, at)).unwrap_or_default();
        table.row(vec![
            group.into(),
            class.into(),
            code.into(),
            state.into(),
            items.len().to_string().into(),
            ages(items.iter().map(|item| item.failed_at).min()).into(),
            ages(items.iter().map(|item| item.failed_at).max()).into(),
        ]);
    }
    table
}
