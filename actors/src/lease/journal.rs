//! The journal: what became of each offset, written down when its batch is committed.
//!
//! A batch is one row: runs of a letter and a count, in the order of the offsets, such as `a480d1a19`. Counts can agree
//! by accident; with this, an auditor can read a topic again and ask for every single offset.

use thiserror::Error;

/// What became of an offset in the batch that went past it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mark {
    /// Its effect was applied.
    Applied,
    /// Its event had an outcome before.
    Duplicate,
    /// It waits in `parked`; how it ends is in the inbox or in a dead letter.
    Parked,
    /// It became a dead letter.
    Dead,
    /// It is not for this consumer.
    Ignored,
    /// A requeued record that was handed to the lane it first came from.
    Moved,
    /// There is no record at that offset.
    Gap,
}

impl Mark {
    /// All of them, in the order in which they are shown.
    pub const ALL: [Self; 7] =
        [Self::Applied, Self::Duplicate, Self::Parked, Self::Dead, Self::Ignored, Self::Moved, Self::Gap];

    /// The outcome that is written as `letter`.
    pub fn from_letter(letter: char) -> Option<Self> {
        Self::ALL.into_iter().find(|mark| mark.letter() == letter)
    }

    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::Duplicate => "duplicate",
            Self::Parked => "parked",
            Self::Dead => "dead",
            Self::Ignored => "ignored",
            Self::Moved => "moved",
            Self::Gap => "gaps",
        }
    }

    /// The letter it is written as.
    pub fn letter(self) -> char {
        match self {
            Self::Applied => 'a',
            Self::Duplicate => 'u',
            Self::Parked => 'p',
            Self::Dead => 'd',
            Self::Ignored => 'i',
            Self::Moved => 'm',
            Self::Gap => 'g',
        }
    }
}

/// Runs in the making.
///
/// ```
/// use actors::journal::{Mark, Runs};
///
/// let mut runs = Runs::default();
/// runs.push(Mark::Applied, 479);
/// runs.push(Mark::Applied, 1);
/// runs.push(Mark::Dead, 1);
/// assert_eq!(runs.finish(), "a480d1");
/// ```
#[derive(Debug, Default)]
pub struct Runs {
    text: String,
    last: Option<(Mark, i64)>,
}

impl Runs {
    /// The next `count` offsets; none when it is 0.
    pub fn push(&mut self, mark: Mark, count: i64) {
        if count <= 0 {
            return;
        }
        match &mut self.last {
            Some((last, so_far)) if *last == mark => *so_far += count,
            _ => {
                self.flush();
                self.last = Some((mark, count));
            }
        }
    }

    fn flush(&mut self) {
        use std::fmt::Write;
        if let Some((mark, count)) = self.last.take() {
            // Writing to a string cannot fail.
            write!(self.text, "{}{count}", mark.letter()).unwrap_or_default();
        }
    }

    /// As it is stored.
    pub fn finish(mut self) -> String {
        self.flush();
        self.text
    }
}

/// Text that holds no runs.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Malformed {
    /// No outcome has this letter.
    #[error("no outcome is written {0:?}")]
    Letter(char),
    /// There is no number, or one that no number of offsets is.
    #[error("{0:?} is followed by no count")]
    Count(char),
}

/// Reads runs as they are stored: each outcome and its number of offsets, at least one. After an error there is nothing more.
///
/// ```
/// use actors::journal::{Mark, runs};
///
/// let read: Result<Vec<_>, _> = runs("a480d1").collect();
/// assert_eq!(read, Ok(vec![(Mark::Applied, 480), (Mark::Dead, 1)]));
/// assert!(runs("a480x1").any(|run| run.is_err()));
/// ```
pub fn runs(text: &str) -> impl Iterator<Item = Result<(Mark, i64), Malformed>> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let letter = rest.chars().next()?;
        let digits = &rest[letter.len_utf8()..];
        let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
        let count = digits[..end].parse().ok().filter(|count| *count > 0);
        let run = Mark::from_letter(letter).ok_or(Malformed::Letter(letter));
        let run = run.and_then(|mark| Ok((mark, count.ok_or(Malformed::Count(letter))?)));
        rest = if run.is_ok() { &digits[end..] } else { "" };
        Some(run)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_no_run_says_why() {
        for (text, expected) in [
            ("x3", Malformed::Letter('x')),
            ("é3", Malformed::Letter('é')),
            ("a", Malformed::Count('a')),
            ("g3a0", Malformed::Count('a')),
            ("a-3", Malformed::Count('a')),
            ("a99999999999999999999", Malformed::Count('a')),
        ] {
            assert_eq!(runs(text).last(), Some(Err(expected)), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(pushed in prop::collection::vec((0..7_usize, 1..9_i64), 0..20)) {
            let (mut written, mut expected) = (Runs::default(), Vec::<(Mark, i64)>::new());
            for (at, count) in pushed {
                let mark = Mark::ALL[at];
                written.push(mark, count);
                match expected.last_mut() {
                    Some((last, so_far)) if *last == mark => *so_far += count,
                    _ => expected.push((mark, count)),
                }
            }
            let read: Result<Vec<_>, _> = runs(&written.finish()).collect();
            prop_assert_eq!(read, Ok(expected));
        }

        #[test]
        fn no_text_breaks_it(text in "\\PC{0,20}") {
            runs(&text).for_each(drop);
        }
    }

    #[test]
    fn neighbours_with_one_outcome_are_one_run() {
        let mut runs = Runs::default();
        for (mark, count) in [
            (Mark::Applied, 479),
            (Mark::Applied, 1),
            (Mark::Gap, 0),
            (Mark::Dead, 1),
            (Mark::Gap, 1_000_000),
            (Mark::Applied, 19),
        ] {
            runs.push(mark, count);
        }
        assert_eq!(runs.finish(), "a480d1g1000000a19");
        assert_eq!(Runs::default().finish(), "");
    }
}
