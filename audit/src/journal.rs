//! What the journal says of each offset: rows of runs, laid over each other where a reset went over offsets again.

use std::collections::VecDeque;

use actors::journal::{self, Mark};
use anyhow::{Context, Result, ensure};
use chrono::{DateTime, Utc};

/// When, and under which claim, an outcome was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Written {
    pub(crate) epoch: i64,
    pub(crate) at: DateTime<Utc>,
}

/// One batch.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    from: i64,
    next: i64,
    written: Written,
    /// Each run's outcome, and one past its last offset.
    runs: Vec<(Mark, i64)>,
}

impl Row {
    /// A row as it is stored.
    ///
    /// # Errors
    /// When its runs cannot be read, or are not as long as the row says it is.
    pub(crate) fn new(from: i64, next: i64, outcomes: &str, written: Written) -> Result<Self> {
        let mut runs = Vec::new();
        let mut end = from;
        for run in journal::runs(outcomes) {
            let (mark, count) = run?;
            end = end.checked_add(count).context("a count is beyond all offsets")?;
            runs.push((mark, end));
        }
        ensure!(
            end == next && next > from,
            "its outcomes stand for {} offsets, and it goes past {}",
            end - from,
            next - from
        );
        Ok(Self { from, next, written, runs })
    }

    /// What it says of `offset`, which is one of its own, and up to where it says the same.
    fn at(&self, offset: i64) -> Option<(Mark, i64)> {
        self.runs.get(self.runs.partition_point(|(_, end)| *end <= offset)).copied()
    }
}

/// Offsets of which the journal says one thing; nothing where it has no row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    pub(crate) from: i64,
    pub(crate) upto: i64,
    pub(crate) says: Option<(Mark, Written)>,
}

/// A partition's journal, gone through from low to high offsets with few rows in memory.
#[derive(Debug)]
pub(crate) struct Cover {
    position: i64,
    /// Rows that begin further on, in order.
    ahead: VecDeque<Row>,
    /// Rows that the position is in: more than one where a reset went back.
    here: Vec<Row>,
    /// Rows that begin below this are known.
    known: i64,
}

impl Cover {
    /// Begins at offset `from`, without any row.
    pub(crate) fn new(from: i64) -> Self {
        Self { position: from, ahead: VecDeque::new(), here: Vec::new(), known: i64::MIN }
    }

    /// Takes the next rows, in order of their first offset. `known` says that no other row begins below it.
    pub(crate) fn extend(&mut self, rows: impl IntoIterator<Item = Row>, known: i64) {
        self.ahead.extend(rows);
        self.known = known;
    }

    /// Whether rows are missing before offsets up to `upto` can be gone through.
    pub(crate) fn needs(&self, upto: i64) -> bool {
        self.known < upto
    }

    /// The next offsets of which one thing is said, none of them at or past `upto`; nothing once it is there.
    pub(crate) fn take(&mut self, upto: i64) -> Option<Piece> {
        let from = self.position;
        if from >= upto {
            return None;
        }
        while let Some(row) = self.ahead.pop_front_if(|row| row.from <= from) {
            self.here.push(row);
        }
        self.here.retain(|row| row.next > from);
        let next_row = self.ahead.front().map_or(upto, |row| row.from);
        let last = self.here.iter().max_by_key(|row| row.written.epoch);
        let said = last.and_then(|row| Some((row.written, row.at(from)?)));
        let end = said.map_or(upto, |(_, (_, end))| end).min(next_row).min(upto);
        self.position = end;
        Some(Piece { from, upto: end, says: said.map(|(written, (mark, _))| (mark, written)) })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(epoch: i64) -> Written {
        Written { epoch, at: DateTime::UNIX_EPOCH }
    }

    fn row(from: i64, next: i64, outcomes: &str, epoch: i64) -> Row {
        Row::new(from, next, outcomes, written(epoch)).expect("a sound row")
    }

    /// What is said of each offset of `from..upto`, taken in steps.
    fn marks(mut rows: Vec<Row>, from: i64, upto: i64, step: i64) -> Vec<Option<Mark>> {
        rows.sort_by_key(|row| (row.from, row.written.epoch));
        let mut cover = Cover::new(from);
        cover.extend(rows, upto);
        let mut marks = Vec::new();
        let mut until = from;
        while until < upto {
            until = (until + step).min(upto);
            while let Some(piece) = cover.take(until) {
                assert!(piece.from < piece.upto && piece.upto <= until);
                let count = usize::try_from(piece.upto - piece.from).expect("positive");
                marks.extend(std::iter::repeat_n(piece.says.map(|(mark, _)| mark), count));
            }
        }
        marks
    }

    #[test]
    fn runs_read_back_and_what_is_none_says_why() {
        let row = row(10, 510, "a480d1a19", 1);
        assert_eq!(row.runs, [(Mark::Applied, 490), (Mark::Dead, 491), (Mark::Applied, 510)]);
        for (outcomes, why) in [
            ("", "stand for 0 offsets"),
            ("a2", "stand for 2 offsets"),
            ("x3", "no outcome is written 'x'"),
            ("a9223372036854775807", "beyond all offsets"),
        ] {
            let error = Row::new(10, 13, outcomes, written(1)).expect_err(outcomes);
            assert!(error.to_string().contains(why), "{outcomes}: {error}");
        }
    }

    #[test]
    fn a_hole_is_seen_and_the_highest_epoch_has_the_last_word() {
        use Mark::{Applied as A, Duplicate as U, Gap as G};
        let rows = vec![row(0, 4, "a3g1", 1), row(6, 8, "a2", 1), row(2, 3, "u1", 3)];
        let expected = [Some(A), Some(A), Some(U), Some(G), None, None, Some(A), Some(A), None];
        assert_eq!(marks(rows, 0, 9, 9), expected);
    }

    #[test]
    fn rows_are_asked_for_until_enough_are_known() {
        let mut cover = Cover::new(0);
        assert!(cover.needs(1));
        cover.extend([row(0, 2, "a2", 1)], 1);
        assert!(!cover.needs(1) && cover.needs(2));
        cover.extend([], i64::MAX);
        assert!(!cover.needs(2));
    }

    proptest! {
        #[test]
        fn every_offset_has_the_word_of_the_highest_epoch_that_covers_it(
            rows in prop::collection::vec((0..60_i64, prop::collection::vec((0..7_usize, 1..9_i64), 1..5)), 0..12),
            step in 1..70_i64,
        ) {
            let mut expected: Vec<Option<Mark>> = vec![None; 64];
            let mut stored = Vec::new();
            for (epoch, (from, runs)) in (1..).zip(rows) {
                let outcomes: String =
                    runs.iter().map(|(at, count)| format!("{}{count}", Mark::ALL[*at].letter())).collect();
                let mut offset = from;
                for (letter, count) in runs {
                    for _ in 0..count {
                        if let Some(mark) = expected.get_mut(usize::try_from(offset).expect("positive")) {
                            *mark = Some(Mark::ALL[letter]);
                        }
                        offset += 1;
                    }
                }
                stored.push(row(from, offset, &outcomes, epoch));
            }
            prop_assert_eq!(marks(stored, 0, 64, step), expected);
        }

        #[test]
        fn no_text_breaks_it(text in "\\PC{0,20}") {
            let _ = Row::new(0, 3, &text, written(1));
        }
    }
}
