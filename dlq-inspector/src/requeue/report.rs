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
    tally::{Ending, Endings, Tally},
};
use crate::{
    act::{Command, End, NAMED, Voice, Which, ages, count, named},
    args::RequeueArgs,
    output::{
        Column, Format, Ink, Out, Table,
        json::{RequeueJson, time},
    },
    snapshot::State,
};

/// Tells an operator what is going on. A letter's ending is noted by saying it, so that what is counted is what was said.
#[derive(Debug)]
pub(super) struct Report<'a> {
    voice: Voice<'a>,
    endings: Endings,
}

impl<'a> Report<'a> {
    pub(super) fn new(out: &'a mut Out, id_len: usize) -> Self {
        Self { voice: Voice::new(out, id_len), endings: Endings::default() }
    }

    /// How the letters ended so far.
    pub(super) fn endings(&self) -> &Endings {
        &self.endings
    }

    /// The plan, and the command that does it.
    pub(super) fn plan(
        &mut self,
        plan: &Plan,
        which: &Which<'_>,
        args: &RequeueArgs,
        now: DateTime<Utc>,
    ) -> anyhow::Result<()> {
        self.endings = Endings::of(&plan.items);
        let command = self.command(plan, which, args, now);
        match self.voice.out().format() {
            Format::Ids => return self.voice.ids(plan.items.iter().map(|item| item.id), &plan.left_out),
            Format::Json => return self.plan_json(plan, args, command),
            Format::Table | Format::Wide => {}
        }
        let out = self.voice.out();
        out.line(format!("{} to requeue", count(plan.items.len())))?;
        if !plan.items.is_empty() {
            out.table(&groups(plan, now))?;
        }
        self.voice.left_out(&plan.left_out)?;
        let ids = |state| plan.in_state(state).map(|item| item.id).collect::<Vec<_>>();
        self.warn("already resolved, and would run once more: ", &ids(State::Resolved))?;
        self.warn("requeued before, with no outcome yet: ", &ids(State::Requeued))?;
        let overtaken = "order: an older record of the same key is still dead and would be overtaken by ";
        self.warn(overtaken, &plan.overtaking)?;
        let out = self.voice.out();
        if !args.execute && !plan.items.is_empty() {
            out.line(format!("\nNothing was written. To do it:\n  {command}"))?;
        }
        Ok(out.flush()?)
    }

    /// Something to know of these letters before they are put back.
    fn warn(&mut self, what: &str, ids: &[Uuid]) -> io::Result<()> {
        if ids.is_empty() {
            return Ok(());
        }
        let ids: Vec<_> = ids.iter().map(|id| self.voice.short(*id)).collect();
        self.voice.warn(&format!("{what}{}", named(&ids)))
    }

    fn plan_json(&mut self, plan: &Plan, args: &RequeueArgs, command: String) -> anyhow::Result<()> {
        let out = self.voice.out();
        for left in &plan.left_out {
            let why = left.why.clone();
            out.json(&RequeueJson::LeftOut { id: left.id, why, allowed_by: left.allowed_by })?;
        }
        if args.execute {
            return Ok(out.flush()?);
        }
        for item in &plan.items {
            let Item { id, group, class, generation, state, .. } = item;
            let (id, generation, state) = (*id, *generation, *state);
            out.json(&RequeueJson::Planned { id, group, class, generation, state })?;
        }
        let groups: BTreeSet<_> = plan.items.iter().map(|item| item.group.as_str()).collect();
        out.json(&RequeueJson::Plan {
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
        Ok(out.flush()?)
    }

    /// The command that does what was shown: a few letters by their ids, many by the selectors that meant them, as of
    /// now.
    fn command(&self, plan: &Plan, which: &Which<'_>, args: &RequeueArgs, now: DateTime<Utc>) -> String {
        let command = Command::new("requeue");
        let command = if plan.items.len() <= NAMED || !which.ids.is_empty() {
            command.ids(plan.items.iter().map(|item| self.voice.short(item.id)))
        } else {
            command.selectors(which, now)
        };
        let rate = args.rate.map(|rate| format!("{rate}/s"));
        command
            .flag("--force", args.force)
            .option("--rate", rate.as_deref())
            .option("--as", args.by.as_deref())
            .option("--reason", args.reason.as_deref())
            .flag("--execute", true)
            .text()
    }

    /// A letter that was not put back.
    pub(super) fn failed(&mut self, id: Uuid, why: &str) -> anyhow::Result<()> {
        self.endings.note(id, Ending::Failed);
        let text = format!("{}  not requeued: {why}", self.voice.short(id));
        self.voice.say(text, &RequeueJson::Failed { id, why: why.to_owned() })
    }

    /// The same, in the middle of a batch.
    pub(super) fn note_failed(&mut self, id: Uuid, why: &str) {
        self.endings.note(id, Ending::Failed);
        let text = format!("{}  not requeued: {why}", self.voice.short(id));
        self.voice.note(text, &RequeueJson::Failed { id, why: why.to_owned() });
    }

    /// A batch of which nobody says whether it is in Kafka.
    pub(super) fn note_unknown(&mut self, ids: impl IntoIterator<Item = Uuid>) {
        for id in ids {
            self.endings.note(id, Ending::Unknown);
            let text = format!("{}  not known whether it was requeued", self.voice.short(id));
            self.voice.note(text, &RequeueJson::Unknown { id });
        }
    }

    /// A batch that is in Kafka now.
    pub(super) fn note_requeued(&mut self, items: &[&Item], job: Uuid) {
        items.iter().for_each(|item| self.endings.note(item.id, Ending::Requeued));
        let tally = self.endings.tally();
        if !self.voice.out().is_json() && tally.all() > NAMED {
            if !items.is_empty() {
                let text = format!("requeued {} of {}", tally.requeued(), tally.all());
                let result = self.voice.out().line(text);
                self.voice.keep(result);
            }
            return;
        }
        for item in items {
            let Item { id, group, generation, .. } = item;
            let text = format!("{}  requeued to {group} as generation {generation}", self.voice.short(*id));
            self.voice.note(text, &RequeueJson::Requeued { id: *id, group, generation: *generation, job });
        }
    }

    /// What became of a letter.
    pub(super) fn outcome(&mut self, item: &Item, outcome: RequeueOutcome) -> anyhow::Result<()> {
        self.endings.note(item.id, Ending::Outcome(outcome));
        let dead_again_as = (!outcome.resolves()).then(|| item.dead_again_as());
        let ink = if outcome.resolves() { Ink::Good } else { Ink::Bad };
        let word = self.voice.out().ink(outcome.as_str(), ink);
        let new = dead_again_as.map(|id| format!(" as {id}")).unwrap_or_default();
        let text = format!("{}  {word}{new}", self.voice.short(item.id));
        self.voice.say(text, &RequeueJson::Outcome { id: item.id, outcome, dead_again_as })
    }

    /// A letter without an outcome in time.
    pub(super) fn outstanding(&mut self, id: Uuid) -> anyhow::Result<()> {
        self.endings.note(id, Ending::Outstanding);
        let text = format!("{}  no outcome yet", self.voice.short(id));
        self.voice.say(text, &RequeueJson::Outstanding { id })
    }

    /// The run ended with an error: how far it got.
    pub(super) fn stopped(&mut self) -> anyhow::Result<()> {
        let tally = self.endings.tally();
        let (text, json) = (so_far(tally), summary(tally));
        self.voice.say(text, &json)
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
        self.voice.say(parts.join("; "), &json)
    }
}

fn groups(plan: &Plan, now: DateTime<Utc>) -> Table {
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
        let [oldest, newest] = ages(now, items.iter().map(|item| item.failed_at));
        table.row(vec![
            group.into(),
            class.into(),
            items.len().to_string().into(),
            oldest.into(),
            newest.into(),
            requeue_topic(group).into(),
        ]);
    }
    table
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
