//! Which records run apart from the others, until it is known which of them makes its batch fail, kills its actor or ends its
//! process, and which are dead for it.
//!
//! - By halves: when the values of a batch are refused, or its actor dies, one of its records is guilty. Half of them run next:
//!   if they fail too, it is among them, else among the others. So one of 500 is found in about nine steps, and its neighbours
//!   still run in batches. A record counts as alone only when nothing else was in flight.
//! - In lots: after an unclean shutdown the first records run a few at a time, each lot with its intent written first.
//! - One by one: those of the lot in which a process died.

use std::collections::{HashMap, HashSet};

use dead_letters::{Class, NextOffset, Offset};
use parking_lot::Mutex;

use crate::{
    Cause,
    lease::{Intent, RecordAt},
    settings::GroupSettings,
};

/// The code of a record that ended as many processes as one may.
pub(crate) const PROCESS_DEATH: &str = "process-death";

/// Records in a lot.
const LOT: usize = 25;

/// What one record may end before it is dead.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CrashLimits {
    pub(crate) actors: u32,
    pub(crate) processes: u32,
}

impl From<&GroupSettings> for CrashLimits {
    fn from(settings: &GroupSettings) -> Self {
        Self { actors: settings.crash_limit, processes: settings.death_limit }
    }
}

/// The quarantine of a lane. It outlives the actor: whom a crash is put down to is not lost with it.
///
/// Its lock is taken under the window's, never the other way round.
#[derive(Debug)]
pub(crate) struct Quarantine(Mutex<Held>);

#[derive(Debug)]
struct Held {
    limits: CrashLimits,
    by_halves: Apart,
    one_by_one: Apart,
    /// Those of the window below this offset run in lots.
    lots_below: i64,
    /// So many parked rows likewise.
    lots_rows: usize,
    /// What processes tried alone when they died, and how many did.
    deadly: Option<(RecordAt, u32)>,
    /// The record that was alone when its values were refused, and why.
    refused: Option<(RecordAt, Cause)>,
    /// Actors killed, by offset; only of records in the window.
    crashes: HashMap<i64, u32>,
    /// Parked rows whose crash is not counted in the table yet.
    crashed_rows: Vec<CrashedRow>,
    last_panic: Option<String>,
}

/// Records of the window below an offset, and rows of `parked`.
#[derive(Debug, Default)]
struct Apart {
    below: i64,
    rows: HashSet<i64>,
}

/// What the quarantine says of a record that is about to run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Diagnosis {
    /// Actors that it has killed.
    pub(crate) crashes: u32,
    /// Why it is dead, and not tried again.
    pub(crate) dead: Option<(Class, Cause)>,
}

/// What refused values say of the records in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// There is none, or the one there is was dead already: no record's fault.
    OfNone,
    /// One of them is guilty: half of them run next.
    OfOne,
    /// The search for it goes on.
    Again,
}

/// A parked row that was in flight when its actor died.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CrashedRow {
    pub(crate) id: i64,
    /// Nothing else was in flight.
    pub(crate) alone: bool,
}

/// Parked rows that run before others, and apart from them.
#[derive(Debug, Default)]
pub(crate) struct RowsApart {
    pub(crate) rows: HashSet<i64>,
    /// Else by halves.
    pub(crate) one_by_one: bool,
}

impl RowsApart {
    /// How many of `due` rows run now.
    pub(crate) fn share(&self, due: usize) -> usize {
        if self.one_by_one { 1 } else { (due / 2).max(1) }
    }
}

impl Quarantine {
    /// Nothing runs apart.
    pub(super) fn new(limits: CrashLimits) -> Self {
        Self(Mutex::new(Held {
            limits,
            by_halves: Apart::default(),
            one_by_one: Apart::default(),
            lots_below: 0,
            lots_rows: 0,
            deadly: None,
            refused: None,
            crashes: HashMap::new(),
            crashed_rows: Vec::new(),
            last_panic: None,
        }))
    }

    // What runs next.

    /// How many records may be taken where `front` is the first; `count` says how many there are below an offset.
    pub(super) fn most(&self, front: Offset, count: impl FnOnce(i64) -> usize) -> usize {
        let held = self.0.lock();
        let lot = if front.0 < held.lots_below { LOT } else { usize::MAX };
        if front.0 < held.one_by_one.below {
            1
        } else if front.0 < held.by_halves.below {
            (count(held.by_halves.below) / 2).clamp(1, lot)
        } else {
            lot
        }
    }

    /// How many parked rows may be taken.
    pub(crate) fn most_rows(&self) -> usize {
        if self.0.lock().lots_rows > 0 { LOT } else { usize::MAX }
    }

    /// Parked rows that run before others.
    pub(crate) fn rows_apart(&self) -> RowsApart {
        let held = self.0.lock();
        let one_by_one = !held.one_by_one.rows.is_empty();
        RowsApart {
            rows: if one_by_one { &held.one_by_one } else { &held.by_halves }.rows.clone(),
            one_by_one,
        }
    }

    /// What processes tried alone when they died.
    pub(crate) fn deadly(&self) -> Option<RecordAt> {
        self.0.lock().deadly.map(|(place, _)| place)
    }

    /// Whether anything runs apart where the window is at `position` and `front` is its first record.
    pub(super) fn runs_apart(&self, position: Option<NextOffset>, front: Option<Offset>) -> bool {
        let held = self.0.lock();
        held.writes_intent(position) || held.writes_rows_intent() || held.searches(front)
    }

    /// Whether the intent to run records of a window that is at `position` is written first.
    pub(super) fn writes_intent(&self, position: Option<NextOffset>) -> bool {
        self.0.lock().writes_intent(position)
    }

    /// Whether that to run parked rows is.
    pub(crate) fn writes_rows_intent(&self) -> bool {
        self.0.lock().writes_rows_intent()
    }

    /// What it says of a record that had killed so many actors before it came here.
    pub(crate) fn diagnose(&self, place: RecordAt, crashes: u32) -> Diagnosis {
        self.0.lock().diagnose(place, crashes)
    }

    /// The same of records of the window, for many at once.
    pub(super) fn diagnose_window(&self) -> impl Fn(Offset) -> Diagnosis {
        let held = self.0.lock();
        move |offset| {
            let crashes = held.crashes.get(&offset.0).copied().unwrap_or(0);
            held.diagnose(RecordAt::Offset(offset), crashes)
        }
    }

    // What happened.

    /// Unclean shutdown of the last owner: records of the window below `until`, and so many `rows`, run in lots; those that it
    /// was trying one by one.
    pub(crate) fn begin(&self, until: i64, rows: usize, intent: Option<(Intent, u32)>) {
        let mut held = self.0.lock();
        (held.lots_below, held.lots_rows) = (until, rows);
        match intent {
            None => {}
            Some((Intent::One(place), deaths)) => {
                held.deadly = Some((place, deaths));
                match place {
                    RecordAt::Offset(offset) => held.one_by_one.below = offset.next().0,
                    RecordAt::Parked(id) => held.one_by_one.rows = HashSet::from([id]),
                }
            }
            Some((Intent::Offsets { until, .. }, _)) => held.one_by_one.below = until,
            Some((Intent::Rows(rows), _)) => held.one_by_one.rows = rows.into_iter().collect(),
        }
    }

    /// Values of the batch in flight were refused. `front` is the window's first record; `alone` the one in flight, if it is
    /// one, which is dead then.
    pub(super) fn values_refused(
        &self,
        front: Option<Offset>,
        alone: Option<RecordAt>,
        cause: &Cause,
    ) -> Refusal {
        let mut held = self.0.lock();
        if alone.is_some() && alone == held.refused.as_ref().map(|(place, _)| *place) {
            return Refusal::OfNone;
        }
        if let Some(place) = alone {
            held.refused = Some((place, cause.clone()));
        }
        if held.searches(front) { Refusal::Again } else { Refusal::OfOne }
    }

    /// An actor died with these in flight. In company nobody is held guilty more than once, and not so that it would die of it.
    pub(super) fn actor_died(&self, offsets: &[i64], rows: &[i64], panic: &str) {
        let mut held = self.0.lock();
        let (alone, limit) = (offsets.len() + rows.len() == 1, held.limits.actors);
        for offset in offsets {
            let crashes = held.crashes.entry(*offset).or_default();
            *crashes = if alone { *crashes + 1 } else { (*crashes).max(limit.saturating_sub(1).min(1)) };
        }
        // In company a row's crash is noted as the window's are, if that may be.
        let counted = rows.iter().filter(|_| alone || limit > 1);
        held.crashed_rows.extend(counted.map(|id| CrashedRow { id: *id, alone }));
        held.last_panic = Some(panic.to_owned());
        // Its successor tries it once more.
        held.refused = None;
    }

    /// One of the batch in flight is guilty: it held these rows, and the window's records below `below`.
    pub(super) fn halve(&self, below: Option<i64>, rows: Vec<i64>) {
        self.0.lock().by_halves = Apart { below: below.unwrap_or(0), rows: rows.into_iter().collect() };
    }

    /// A batch with these rows is committed: whatever was alone has ended otherwise.
    pub(super) fn committed(&self, rows: &[i64]) {
        let mut held = self.0.lock();
        for id in rows {
            held.by_halves.rows.remove(id);
            held.one_by_one.rows.remove(id);
        }
        held.lots_rows = held.lots_rows.saturating_sub(rows.len());
        held.deadly = None;
        // Other records' progress says nothing of it.
        held.refused.take_if(|(place, _)| matches!(place, RecordAt::Parked(id) if rows.contains(id)));
    }

    /// The window's records below `next` have ended.
    pub(super) fn passed(&self, next: NextOffset) {
        let mut held = self.0.lock();
        held.crashes.retain(|offset, _| *offset >= next.0);
        held.refused.take_if(|(place, _)| matches!(place, RecordAt::Offset(offset) if offset.0 < next.0));
    }

    /// Nothing of the window counts any more.
    pub(super) fn forget(&self) {
        let mut held = self.0.lock();
        held.crashes.clear();
        held.by_halves.below = 0;
        held.refused.take_if(|(place, _)| matches!(place, RecordAt::Offset(_)));
    }

    /// Rows that do not wait any more do not run apart.
    pub(crate) fn keep_rows(&self, waiting: impl Fn(i64) -> bool) {
        let mut held = self.0.lock();
        held.refused.take_if(|(place, _)| matches!(place, RecordAt::Parked(id) if !waiting(*id)));
        held.by_halves.rows.retain(|id| waiting(*id));
        held.one_by_one.rows.retain(|id| waiting(*id));
    }

    /// Parked rows that were in flight when an actor died, and whose crash is not counted in the table yet.
    pub(crate) fn crashed_rows(&self) -> Vec<CrashedRow> {
        self.0.lock().crashed_rows.clone()
    }

    /// Their crash is counted.
    pub(crate) fn crash_counted(&self, counted: &[CrashedRow]) {
        self.0.lock().crashed_rows.retain(|row| !counted.contains(row));
    }
}

impl Held {
    fn writes_intent(&self, position: Option<NextOffset>) -> bool {
        position.is_some_and(|position| position.0 < self.lots_below.max(self.one_by_one.below))
    }

    fn writes_rows_intent(&self) -> bool {
        self.lots_rows > 0 || !self.one_by_one.rows.is_empty()
    }

    /// Whether a guilty record is looked for, or is known to be among few.
    fn searches(&self, front: Option<Offset>) -> bool {
        front.is_some_and(|front| front.0 < self.by_halves.below.max(self.one_by_one.below))
            || !self.by_halves.rows.is_empty()
            || !self.one_by_one.rows.is_empty()
    }

    fn diagnose(&self, here: RecordAt, crashes: u32) -> Diagnosis {
        Diagnosis { crashes, dead: self.dead(here, crashes) }
    }

    /// Why a record is not tried again: its values were refused, or it has ended as many processes or actors as one may.
    fn dead(&self, here: RecordAt, crashes: u32) -> Option<(Class, Cause)> {
        if let Some((_, cause)) = self.refused.as_ref().filter(|(place, _)| *place == here) {
            return Some((Class::Permanent, cause.clone()));
        }
        let deadly = self.deadly.filter(|(place, _)| *place == here);
        if let Some((_, deaths)) = deadly.filter(|(_, deaths)| *deaths >= self.limits.processes) {
            let message =
                format!("{deaths} processes died (unclean shutdown) while they tried this record alone");
            return Some((Class::Crash, Cause::new(PROCESS_DEATH, message)));
        }
        (crashes >= self.limits.actors).then(|| {
            let panic = self.last_panic.as_deref().unwrap_or("an actor died on it");
            (Class::Crash, Cause::new("crash", panic))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_refused_is_dead_until_it_has_ended_itself_whatever_else_is_committed() {
        let quarantine = Quarantine::new(CrashLimits { actors: 3, processes: 5 });
        let dead = |place| quarantine.diagnose(place, 0).dead.is_some();
        let refuse = |place| quarantine.values_refused(None, place, &Cause::new("sql-23514", "no"));
        refuse(Some(RecordAt::Parked(7)));
        // Fresh records take turns with it, and one of them may be guilty too.
        quarantine.committed(&[]);
        quarantine.passed(NextOffset(100));
        refuse(None);
        assert!(dead(RecordAt::Parked(7)));
        quarantine.committed(&[7]);
        assert!(!dead(RecordAt::Parked(7)));
        refuse(Some(RecordAt::Offset(Offset(100))));
        quarantine.committed(&[8]);
        assert!(dead(RecordAt::Offset(Offset(100))));
        quarantine.passed(NextOffset(101));
        assert!(!dead(RecordAt::Offset(Offset(100))));
        refuse(Some(RecordAt::Parked(9)));
        quarantine.keep_rows(|_| false);
        assert!(!dead(RecordAt::Parked(9)));
    }
}
