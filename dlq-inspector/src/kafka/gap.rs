//! What Kafka could not give: one record that cannot be read, or one partition without a leader, must not hide all others.

use std::{
    fmt,
    sync::{Mutex, PoisonError},
};

use dead_letters::batch_named;

/// Offsets that could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gap {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The first of them; `None` when nothing of the partition could be read.
    pub from: Option<i64>,
    /// The first offset after them that could be read; `None` when nothing could from there on.
    pub upto: Option<i64>,
    /// Why.
    pub why: String,
}

impl fmt::Display for Gap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { topic, partition, from, upto, why } = self;
        write!(f, "{topic}/{partition} ")?;
        match (from, upto) {
            (None, _) => f.write_str("cannot be read")?,
            (Some(from), None) => write!(f, "cannot be read from offset {from} on")?,
            (Some(from), Some(upto)) if *upto == from + 1 => write!(f, "offset {from} cannot be read")?,
            (Some(from), Some(upto)) => write!(f, "offsets {from} to {} cannot be read", upto - 1)?,
        }
        write!(f, ": {why}")
    }
}

/// The gaps that were met so far, each once however often it was met.
#[derive(Debug, Default)]
pub(super) struct Gaps(Mutex<Vec<Gap>>);

impl Gaps {
    pub(super) fn note(&self, gap: Gap) {
        let mut gaps = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let place = |gap: &Gap| (gap.topic.clone(), gap.partition, gap.from);
        if !gaps.iter().any(|known| place(known) == place(&gap)) {
            gaps.push(gap);
        }
    }

    pub(super) fn all(&self) -> Vec<Gap> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Where in a partition a batch was met that cannot be read, and why it cannot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Unreadable {
    /// The batch's first offset, where the client says it.
    pub(super) batch: Option<i64>,
    /// Why.
    pub(super) why: String,
}

impl Unreadable {
    /// From the client's own words.
    pub(super) fn new(why: String) -> Self {
        Self { batch: batch_named(&why), why }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_is_named_by_its_offsets_once() {
        let gap = |from, upto| Gap {
            topic: "g.dlq".into(),
            partition: 3,
            from,
            upto,
            why: "BadCompression".into(),
        };
        for (gap, said) in [
            (gap(Some(7), Some(8)), "g.dlq/3 offset 7 cannot be read: BadCompression"),
            (gap(Some(7), Some(10)), "g.dlq/3 offsets 7 to 9 cannot be read: BadCompression"),
            (gap(Some(7), None), "g.dlq/3 cannot be read from offset 7 on: BadCompression"),
            (gap(None, None), "g.dlq/3 cannot be read: BadCompression"),
        ] {
            assert_eq!(gap.to_string(), said);
        }
        let gaps = Gaps::default();
        gaps.note(gap(Some(7), Some(8)));
        gaps.note(gap(Some(7), Some(8)));
        gaps.note(gap(Some(9), Some(10)));
        assert_eq!(gaps.all().len(), 2);
    }
}
