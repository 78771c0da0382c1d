//! What became of each offset, written down when its batch is committed.
//!
//! A batch is one row: runs of a letter and a count, in the order of the offsets, such as `a480d1a19`. Counts can agree
//! by accident; with this, an auditor can read a topic again and ask for every single offset.

/// What became of an offset in the batch that went past it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mark {
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
    /// The letter it is written as.
    pub(crate) fn letter(self) -> char {
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
#[derive(Debug, Default)]
pub(crate) struct Runs {
    text: String,
    last: Option<(Mark, i64)>,
}

impl Runs {
    /// The next `count` offsets; none when it is 0.
    pub(crate) fn push(&mut self, mark: Mark, count: i64) {
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
    pub(crate) fn finish(mut self) -> String {
        self.flush();
        self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
