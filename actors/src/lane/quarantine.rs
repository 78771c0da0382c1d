//! Who is held to be guilty of a failure, and how the guilty one is found.
//!
//! When a batch fails by one of its own records, or its actor dies, one of them is guilty. Half of them run next: if they fail
//! too, it is among them, else among the others. So one of 500 is found in about nine steps, and its neighbours still run in
//! batches. A record counts as alone only when nothing else was in flight.

use std::collections::{HashMap, HashSet};

use dead_letters::Offset;

use crate::lease::{Intent, Place};

/// After an unclean end records are tried so many at a time.
const CHUNK: usize = 25;

/// What is held against the records of a lane.
#[derive(Debug, Default)]
pub(super) struct Quarantine {
    /// One of the records below this offset made its batch fail.
    guilty_below: i64,
    /// One of these parked rows did.
    guilty_rows: HashSet<i64>,
    /// A process died while it tried those below this offset: each runs alone.
    alone_below: i64,
    /// The same of parked rows.
    alone_rows: HashSet<i64>,
    /// Unclean shutdown of the last owner: those below this offset run a few at a time, with their intent written first.
    careful_below: i64,
    /// So many parked rows likewise.
    careful_rows: usize,
    /// What processes were trying alone when they ended, and how many did.
    suspect: Option<(Place, u32)>,
    /// Actors killed, by offset; only of records in the window.
    crashes: HashMap<i64, u32>,
    /// Parked rows whose crash is not counted in the table yet.
    crashed_rows: Vec<CrashedRow>,
    last_panic: Option<String>,
}

/// A parked row that was in flight when its actor died.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CrashedRow {
    pub(crate) id: i64,
    /// Nothing else was in flight.
    pub(crate) alone: bool,
}

/// Parked rows that are to be run before others.
#[derive(Debug, Default)]
pub(crate) struct Questioned {
    pub(crate) rows: HashSet<i64>,
    /// Each alone; else half of them.
    pub(crate) alone: bool,
}

impl Questioned {
    /// How many of `due` rows run now.
    pub(crate) fn share(&self, due: usize) -> usize {
        if self.alone { 1 } else { (due / 2).max(1) }
    }
}

impl Quarantine {
    /// How many records may be taken where `front` is the first; `count` says how many there are below an offset.
    pub(super) fn most(&self, front: i64, count: impl FnOnce(i64) -> usize) -> usize {
        let careful = if front < self.careful_below { CHUNK } else { usize::MAX };
        if front < self.alone_below {
            1
        } else if front < self.guilty_below {
            (count(self.guilty_below) / 2).clamp(1, careful)
        } else {
            careful
        }
    }

    /// How many parked rows may be taken.
    pub(super) fn most_rows(&self) -> usize {
        if self.careful_rows > 0 { CHUNK } else { usize::MAX }
    }

    /// Whether something is held against the window's first record, or against rows that wait.
    pub(super) fn questions(&self, front: Option<Offset>) -> bool {
        front.is_some_and(|front| front.0 < self.guilty_below.max(self.alone_below))
            || !self.guilty_rows.is_empty()
            || !self.alone_rows.is_empty()
    }

    /// The rows it is held against.
    pub(super) fn questioned(&self) -> Questioned {
        let alone = !self.alone_rows.is_empty();
        Questioned { rows: if alone { &self.alone_rows } else { &self.guilty_rows }.clone(), alone }
    }

    /// One of the batch in flight is guilty: it held these rows, and the window's records below `below`.
    pub(super) fn blame(&mut self, below: Option<i64>, rows: Vec<i64>) {
        self.guilty_below = below.unwrap_or(i64::MIN);
        self.guilty_rows = rows.into_iter().collect();
    }

    /// An actor died with these in flight. In company nobody is held guilty more than once, and not so that it would die of it.
    pub(super) fn crashed(&mut self, offsets: &[i64], rows: &[i64], panic: &str, limit: u32) {
        let alone = offsets.len() + rows.len() == 1;
        for offset in offsets {
            let crashes = self.crashes.entry(*offset).or_default();
            *crashes = if alone { *crashes + 1 } else { (*crashes).max(limit.saturating_sub(1).min(1)) };
        }
        // In company a row's crash is noted as the window's are, if that may be.
        let counted = rows.iter().filter(|_| alone || limit > 1);
        self.crashed_rows.extend(counted.map(|id| CrashedRow { id: *id, alone }));
        self.last_panic = Some(panic.to_owned());
    }

    /// Actors that the record at `offset` has killed.
    pub(super) fn crashes(&self, offset: i64) -> u32 {
        if self.crashes.is_empty() { 0 } else { self.crashes.get(&offset).copied().unwrap_or(0) }
    }

    /// The record at `offset` has ended.
    pub(super) fn ended(&mut self, offset: i64) {
        if !self.crashes.is_empty() {
            self.crashes.remove(&offset);
        }
    }

    /// A batch with these rows is committed: whatever was suspected has ended otherwise.
    pub(super) fn committed(&mut self, rows: &[i64]) {
        for id in rows {
            self.guilty_rows.remove(id);
            self.alone_rows.remove(id);
        }
        self.careful_rows = self.careful_rows.saturating_sub(rows.len());
        self.suspect = None;
    }

    /// Nothing of the window counts any more.
    pub(super) fn forget(&mut self) {
        self.crashes.clear();
        self.guilty_below = i64::MIN;
    }

    /// Unclean shutdown of the last owner: records below `until` and `rows` that wait are tried a few at a time.
    pub(super) fn go_into_quarantine(&mut self, until: i64, rows: usize, intent: Option<(Intent, u32)>) {
        (self.careful_below, self.careful_rows) = (until, rows);
        match intent {
            None => {}
            Some((Intent::One(place), deaths)) => {
                self.suspect = Some((place, deaths));
                match place {
                    Place::Offset(offset) => self.alone_below = offset.next().0,
                    Place::Parked(id) => self.alone_rows = HashSet::from([id]),
                }
            }
            Some((Intent::Offsets { until, .. }, _)) => self.alone_below = until,
            Some((Intent::Rows(rows), _)) => self.alone_rows = rows.into_iter().collect(),
        }
    }

    /// Whether records of a window that is at `position` are tried a few at a time, with their intent written.
    pub(super) fn is_in_quarantine(&self, position: i64) -> bool {
        position < self.careful_below.max(self.alone_below)
    }

    /// The same of parked rows.
    pub(super) fn quarantines_rows(&self) -> bool {
        self.careful_rows > 0 || !self.alone_rows.is_empty()
    }

    pub(super) fn suspect(&self) -> Option<(Place, u32)> {
        self.suspect
    }

    /// Rows that do not wait any more are not held guilty.
    pub(super) fn keep_rows(&mut self, waiting: impl Fn(i64) -> bool) {
        self.guilty_rows.retain(|id| waiting(*id));
        self.alone_rows.retain(|id| waiting(*id));
    }

    pub(super) fn crashed_rows(&self) -> Vec<CrashedRow> {
        self.crashed_rows.clone()
    }

    pub(super) fn crash_counted(&mut self, counted: &[CrashedRow]) {
        self.crashed_rows.retain(|row| !counted.contains(row));
    }

    pub(super) fn last_panic(&self) -> Option<String> {
        self.last_panic.clone()
    }
}
