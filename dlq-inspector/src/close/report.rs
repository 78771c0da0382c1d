//! What `discard` and `restore` say, for people and for scripts.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::plan::{Item, Plan, Turn};
use crate::{
    act::{Command, End, NAMED, Voice, Which, ages, count},
    args::CloseArgs,
    output::{
        Column, Format, Out, Table, clean,
        json::{CloseJson, time},
    },
};

/// Tells an operator what is going on, and counts what it said.
#[derive(Debug)]
pub(super) struct Report<'a> {
    voice: Voice<'a>,
    plan: &'a Plan,
    command: String,
    done: usize,
    unknown: usize,
}

impl<'a> Report<'a> {
    pub(super) fn new(out: &'a mut Out, plan: &'a Plan, id_len: usize) -> Self {
        Self { voice: Voice::new(out, id_len), plan, command: String::new(), done: 0, unknown: 0 }
    }

    /// Whether all that was planned was done.
    pub(super) fn all_done(&self) -> bool {
        self.done == self.plan.items.len()
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
        match self.voice.out().format() {
            Format::Ids => return self.voice.ids(plan.items.iter().map(|item| item.id), &plan.left_out),
            Format::Json => return self.plan_json(args),
            Format::Table | Format::Wide => {}
        }
        let out = self.voice.out();
        out.line(format!("{} to {}", count(plan.items.len()), plan.turn.command()))?;
        if !plan.items.is_empty() {
            out.table(&table(plan, now))?;
            out.line(format!("reason: {}", clean(&args.reason)))?;
        }
        self.voice.left_out(&plan.left_out)?;
        let out = self.voice.out();
        if !args.execute && !plan.items.is_empty() {
            out.line(format!("\nNothing was written. To do it:\n  {}", self.command))?;
        }
        Ok(out.flush()?)
    }

    fn plan_json(&mut self, args: &CloseArgs) -> anyhow::Result<()> {
        let (plan, out) = (self.plan, self.voice.out());
        for left in &plan.left_out {
            let why = left.why.clone();
            out.json(&CloseJson::LeftOut { id: left.id, why, allowed_by: left.allowed_by })?;
        }
        if args.execute {
            return Ok(out.flush()?);
        }
        for item in &plan.items {
            let Item { id, group, class, code, state, .. } = item;
            let (id, error_code, state) = (*id, code.as_deref(), *state);
            out.json(&CloseJson::Planned { id, group, class, error_code, state })?;
        }
        let groups: BTreeSet<_> = plan.items.iter().map(|item| item.group.as_str()).collect();
        out.json(&CloseJson::Plan {
            action: plan.turn.command(),
            letters: plan.items.len(),
            left_out: plan.left_out.len(),
            groups: groups.into_iter().collect(),
            oldest: time(plan.items.iter().map(|item| item.failed_at).min()),
            newest: time(plan.items.iter().map(|item| item.failed_at).max()),
            reason: &args.reason,
            command: self.command.clone(),
        })?;
        Ok(out.flush()?)
    }

    /// The command that does what was shown. Many letters are meant by the selectors, as of now; but no selector tells what was
    /// discarded before the plan from what was after it, so letters to restore are always named.
    fn command(&self, which: &Which<'_>, args: &CloseArgs, now: DateTime<Utc>) -> String {
        let plan = self.plan;
        let command = Command::new(plan.turn.command());
        let by_id = plan.items.len() <= NAMED || !which.ids.is_empty() || plan.turn == Turn::Restore;
        let command = if by_id {
            command.ids(plan.items.iter().map(|item| self.voice.short(item.id)))
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
        self.voice.heard()
    }

    /// The same, in the middle of a batch.
    pub(super) fn note_failed(&mut self, id: Uuid, why: &str) {
        let text = format!("{}  not {}: {}", self.voice.short(id), self.plan.turn.done(), clean(why));
        self.voice.note(text, &CloseJson::Failed { id, why: why.to_owned() });
    }

    /// A letter of a batch of which nobody says whether it is in Kafka.
    pub(super) fn note_unknown(&mut self, id: Uuid) {
        self.unknown += 1;
        let text = format!("{}  not known whether it was {}", self.voice.short(id), self.plan.turn.done());
        self.voice.note(text, &CloseJson::Unknown { id });
    }

    /// A batch that is in Kafka now.
    pub(super) fn note_done(&mut self, items: &[&Item], job: Uuid) {
        self.done += items.len();
        let (turn, all) = (self.plan.turn, self.plan.items.len());
        if !self.voice.out().is_json() && all > NAMED {
            if !items.is_empty() {
                let result = self.voice.out().line(format!("{} {} of {all}", turn.done(), self.done));
                self.voice.keep(result);
            }
            return;
        }
        for Item { id, group, .. } in items {
            let (id, text) = (*id, format!("{}  {}", self.voice.short(*id), turn.done()));
            match turn {
                Turn::Discard => self.voice.note(text, &CloseJson::Discarded { id, group, job }),
                Turn::Restore => self.voice.note(text, &CloseJson::Restored { id, group, job }),
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
        self.voice
            .note(parts.join("; "), &CloseJson::Summary { done: self.done, not_done, unknown: self.unknown });
        self.voice.heard()
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
        let [oldest, newest] = ages(now, items.iter().map(|item| item.failed_at));
        table.row(vec![
            group.into(),
            class.into(),
            code.into(),
            state.into(),
            items.len().to_string().into(),
            oldest.into(),
            newest.into(),
        ]);
    }
    table
}
