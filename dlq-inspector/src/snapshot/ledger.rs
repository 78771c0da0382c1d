//! The ledger, folded: what was done last with each letter, and for some letters everything.

use std::collections::{HashMap, HashSet, hash_map::Entry as Slot};

use chrono::{DateTime, Utc};
use dead_letters::{Action, Entry, RequeueOutcome};
use uuid::Uuid;

use super::State;

/// Where and when a line was written. Lines of one partition are in the order of their offsets whatever the clocks
/// say; a letter's lines share a partition unless a writer partitions otherwise, and then their times decide.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// The ledger's partition.
    pub partition: i32,
    /// The offset there.
    pub offset: i64,
    /// The writer's clock, milliseconds since the epoch.
    pub at_ms: i64,
}

impl Mark {
    /// Whether this was written after `other`.
    pub fn after(&self, other: &Self) -> bool {
        if self.partition == other.partition { self.offset > other.offset } else { self.at_ms >= other.at_ms }
    }
}

/// What the ledger says last about one letter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    requeued: Option<(Mark, u32)>,
    outcome: Option<(Mark, RequeueOutcome)>,
    closed: Option<(Mark, bool)>,
}

impl Standing {
    fn add(&mut self, mark: Mark, action: &Action) {
        match action {
            Action::Requeue { generation } => last(&mut self.requeued, mark, *generation),
            Action::Outcome { outcome, .. } => last(&mut self.outcome, mark, *outcome),
            Action::Discard => last(&mut self.closed, mark, true),
            Action::Restore => last(&mut self.closed, mark, false),
            Action::Note { .. } | Action::Later => {}
        }
    }

    /// The state the ledger alone gives a letter.
    pub fn state(&self) -> State {
        if let Some((closed, true)) = self.closed {
            // What was still on its way when it was closed, and arrived: its group has the last word.
            let arrived = |(ended, outcome): (Mark, RequeueOutcome)| {
                ended.after(&closed) && outcome != RequeueOutcome::Unplaceable
            };
            if !self.outcome.is_some_and(arrived) {
                return State::Discarded;
            }
        }
        match (self.requeued, self.outcome) {
            (None, None) => State::Open,
            (Some(_), None) => State::Requeued,
            (Some((requeued, _)), Some((ended, _))) if requeued.after(&ended) => State::Requeued,
            (_, Some((_, outcome))) if outcome.resolves() => State::Resolved,
            // What it became supersedes it; where nothing did, it is still the one to look at.
            (_, Some((_, RequeueOutcome::Unplaceable))) => State::Open,
            (_, Some(_)) => State::DeadAgain,
        }
    }
}

/// When a letter was last put back, and what became of that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tried {
    /// When, milliseconds since the epoch.
    pub at_ms: i64,
    /// `None` as long as nothing is known.
    pub outcome: Option<RequeueOutcome>,
}

/// What people should know of failures alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    mark: Mark,
    /// What it says.
    pub text: String,
    /// A consumer group in which there is such a failure.
    pub group: String,
    /// Who wrote it.
    pub by: String,
    /// When.
    pub at: DateTime<Utc>,
}

impl Standing {
    fn tried(&self) -> Option<Tried> {
        let (requeued, _) = self.requeued?;
        let outcome = self.outcome.filter(|(ended, _)| !requeued.after(ended)).map(|(_, outcome)| outcome);
        Some(Tried { at_ms: requeued.at_ms, outcome })
    }
}

fn last<T>(slot: &mut Option<(Mark, T)>, mark: Mark, value: T) {
    if slot.as_ref().is_none_or(|(before, _)| mark.after(before)) {
        *slot = Some((mark, value));
    }
}

/// Which letters' lines are kept whole; of the others only the standing is, which bounds the memory.
#[derive(Clone, Debug, Default)]
pub enum Keep {
    /// None.
    #[default]
    Nothing,
    /// Of these ids.
    Ids(HashSet<Uuid>),
}

/// A line of the ledger with its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Where it stands.
    pub mark: Mark,
    /// What it says.
    pub entry: Entry,
}

/// Everything the ledger says about one letter, oldest first.
pub type History = Vec<Line>;

/// The ledger as far as it was read.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    standings: HashMap<Uuid, Standing>,
    histories: HashMap<Uuid, History>,
    /// By fingerprint; also those that were taken away, so that an older one does not come back.
    notes: HashMap<String, Note>,
    keep: Keep,
    unreadable: u64,
}

impl Ledger {
    /// An empty one.
    pub fn new(keep: Keep) -> Self {
        Self { keep, ..Self::default() }
    }

    /// Adds a record of the ledger's topic. One that is no entry is counted and otherwise ignored.
    pub fn read(&mut self, partition: i32, offset: i64, value: Option<&[u8]>) {
        // A tombstone deletes nothing here: the ledger is not compacted.
        let Some(value) = value else { return };
        match serde_json::from_slice::<Entry>(value) {
            Ok(entry) => self.add(partition, offset, entry),
            Err(_) => self.unreadable += 1,
        }
    }

    /// Adds an entry.
    pub fn add(&mut self, partition: i32, offset: i64, entry: Entry) {
        let mark = Mark { partition, offset, at_ms: entry.at.timestamp_millis() };
        match entry.action {
            Action::Note { fingerprint, text } => {
                let note = Note { mark, text, group: entry.group, by: entry.by, at: entry.at };
                match self.notes.entry(fingerprint) {
                    Slot::Occupied(mut slot) if mark.after(&slot.get().mark) => drop(slot.insert(note)),
                    Slot::Occupied(_) => {}
                    Slot::Vacant(slot) => drop(slot.insert(note)),
                }
                return;
            }
            Action::Later => return,
            _ => {}
        }
        self.standings.entry(entry.dlq_id).or_default().add(mark, &entry.action);
        if matches!(&self.keep, Keep::Ids(ids) if ids.contains(&entry.dlq_id)) {
            let history = self.histories.entry(entry.dlq_id).or_default();
            let at = history.partition_point(|line| !line.mark.after(&mark));
            history.insert(at, Line { mark, entry });
        }
    }

    /// The state of `id`, as far as the ledger knows.
    pub fn state(&self, id: Uuid) -> State {
        self.standings.get(&id).map_or(State::Open, Standing::state)
    }

    /// When `id` was last put back, if it was.
    pub fn tried(&self, id: Uuid) -> Option<Tried> {
        self.standings.get(&id)?.tried()
    }

    /// The note on failures of this fingerprint.
    pub fn note(&self, fingerprint: &str) -> Option<&Note> {
        self.notes.get(fingerprint).filter(|note| !note.text.is_empty())
    }

    /// All notes, by fingerprint.
    pub fn notes(&self) -> impl Iterator<Item = (&str, &Note)> {
        let kept = self.notes.iter().filter(|(_, note)| !note.text.is_empty());
        kept.map(|(fingerprint, note)| (fingerprint.as_str(), note))
    }

    /// The lines about `id`, when they were kept.
    pub fn history(&self, id: Uuid) -> &[Line] {
        self.histories.get(&id).map_or(&[], Vec::as_slice)
    }

    /// Records that were no entries.
    pub fn unreadable(&self) -> u64 {
        self.unreadable
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::from_ms;

    const REQUEUE: Action = Action::Requeue { generation: 2 };

    fn outcome(outcome: RequeueOutcome) -> Action {
        Action::Outcome { generation: 2, outcome }
    }

    fn entry(at_ms: i64, action: Action) -> Entry {
        Entry {
            dlq_id: Uuid::nil(),
            group: "g".into(),
            action,
            at: from_ms(at_ms),
            by: "me".into(),
            job: None,
            reason: None,
        }
    }

    #[test]
    fn the_last_word_decides_and_requeued_is_not_resolved() {
        let table: [(&[Action], State); 15] = [
            (&[], State::Open),
            (&[REQUEUE], State::Requeued),
            (&[REQUEUE, outcome(RequeueOutcome::Applied)], State::Resolved),
            (&[REQUEUE, outcome(RequeueOutcome::Ignored)], State::Resolved),
            (&[REQUEUE, outcome(RequeueOutcome::DeadAgain)], State::DeadAgain),
            (&[REQUEUE, outcome(RequeueOutcome::Unplaceable)], State::Open),
            (&[REQUEUE, outcome(RequeueOutcome::Applied), REQUEUE], State::Requeued),
            (
                &[
                    REQUEUE,
                    outcome(RequeueOutcome::Applied),
                    REQUEUE,
                    outcome(RequeueOutcome::AlreadyApplied),
                ],
                State::Resolved,
            ),
            (&[Action::Discard], State::Discarded),
            (&[Action::Discard, Action::Restore], State::Open),
            (&[Action::Discard, Action::Restore, Action::Discard], State::Discarded),
            (&[REQUEUE, Action::Discard], State::Discarded),
            (&[REQUEUE, Action::Discard, Action::Restore], State::Requeued),
            (&[REQUEUE, Action::Discard, outcome(RequeueOutcome::Applied)], State::Resolved),
            (&[REQUEUE, outcome(RequeueOutcome::Unplaceable), Action::Discard], State::Discarded),
        ];
        for (actions, state) in table {
            // One partition: offsets decide, even when the clocks run backwards.
            let mut ledger = Ledger::default();
            for (offset, action) in actions.iter().enumerate() {
                let offset = offset as i64;
                ledger.add(0, offset, entry(1_000 - offset, action.clone()));
            }
            assert_eq!(ledger.state(Uuid::nil()), state, "{actions:?}");
            // Two partitions, read in the wrong order: times decide.
            let mut ledger = Ledger::new(Keep::Ids([Uuid::nil()].into()));
            for (i, action) in actions.iter().enumerate().rev() {
                ledger.add(i as i32, 0, entry(i as i64, action.clone()));
            }
            assert_eq!(ledger.state(Uuid::nil()), state, "{actions:?} out of order");
            let kept: Vec<_> =
                ledger.history(Uuid::nil()).iter().map(|line| line.entry.action.clone()).collect();
            assert_eq!(kept, actions, "history is oldest first");
        }
    }

    #[test]
    fn the_last_note_counts_and_an_empty_one_takes_it_away() {
        let note = |text: &str| Action::Note { fingerprint: "f".into(), text: text.into() };
        let mut ledger = Ledger::default();
        ledger.add(0, 1, entry(1, note("raised on Monday")));
        ledger.add(0, 2, entry(0, note("raised on Tuesday")));
        assert_eq!(ledger.note("f").map(|note| note.text.as_str()), Some("raised on Tuesday"));
        assert_eq!(ledger.notes().map(|(fingerprint, _)| fingerprint).collect::<Vec<_>>(), ["f"]);
        assert_eq!((ledger.note("g"), ledger.state(Uuid::nil())), (None, State::Open));
        ledger.add(0, 3, entry(2, note("")));
        ledger.add(1, 0, entry(1, note("late")));
        assert_eq!((ledger.note("f"), ledger.notes().count()), (None, 0));
    }

    #[test]
    fn the_last_try_is_known_with_what_became_of_it() {
        let mut ledger = Ledger::default();
        assert_eq!(ledger.tried(Uuid::nil()), None);
        ledger.add(0, 0, entry(10, REQUEUE));
        assert_eq!(ledger.tried(Uuid::nil()), Some(Tried { at_ms: 10, outcome: None }));
        ledger.add(0, 1, entry(11, outcome(RequeueOutcome::Ignored)));
        let tried = Tried { at_ms: 10, outcome: Some(RequeueOutcome::Ignored) };
        assert_eq!(ledger.tried(Uuid::nil()), Some(tried));
        ledger.add(0, 2, entry(12, REQUEUE));
        assert_eq!(ledger.tried(Uuid::nil()), Some(Tried { at_ms: 12, outcome: None }));
    }

    #[test]
    fn what_is_no_entry_is_counted() {
        let mut ledger = Ledger::default();
        ledger.read(0, 0, Some(b"{"));
        ledger.read(0, 1, None);
        assert_eq!(ledger.unreadable(), 1);
    }
}
