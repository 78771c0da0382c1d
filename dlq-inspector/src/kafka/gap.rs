//! What Kafka could not give: one record that cannot be read, or one partition without a leader, must not hide all others.

use std::{
    fmt,
    sync::{Mutex, PoisonError},
};

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
    /// From the client's own words, such as `Decompression (codec 0x3) of message at 7 of 512 bytes failed: …`.
    pub(super) fn new(why: String) -> Self {
        let digits =
            why.split_once(" at ").map(|(_, rest)| rest.trim_start_matches("offset ").split(' ').next());
        Self { batch: digits.flatten().and_then(|digits| digits.parse().ok()), why }
    }
}

/// The first offset past the batch that `bad` lies in; `end` if there is none before. `beyond` says whether an offset lies past that
/// batch. Steps get longer and then shorter, so that a batch of any size takes few of them.
pub(super) fn end_of_batch(
    bad: i64,
    end: i64,
    mut beyond: impl FnMut(i64) -> anyhow::Result<bool>,
) -> anyhow::Result<i64> {
    let (mut bad, mut step) = (bad, 1);
    let mut past = loop {
        let tried = bad.saturating_add(step).min(end);
        if tried >= end || beyond(tried)? {
            break tried.max(bad + 1);
        }
        (bad, step) = (tried, step.saturating_mul(2));
    };
    while past - bad > 1 {
        let middle = bad + (past - bad) / 2;
        if beyond(middle)? {
            past = middle;
        } else {
            bad = middle;
        }
    }
    Ok(past)
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

    #[test]
    fn the_client_says_where_the_batch_begins() {
        for (why, batch) in [
            ("Decompression (codec 0x3) of message at 7 of 512 bytes failed: Local: Bad", Some(7)),
            ("MessageSet at offset 12 (77 bytes) failed CRC32C check", Some(12)),
            ("Local: Not implemented", None),
            ("nothing at all", None),
        ] {
            assert_eq!(Unreadable::new(why.into()).batch, batch, "{why}");
        }
    }

    #[test]
    fn the_end_of_a_batch_that_cannot_be_read_is_found_in_few_steps() {
        for (bad, good, end) in
            [(0, 1, 10), (5, 8, 8), (5, 8, 20), (100, 1_100, 50_000), (7, 8, 8), (3, 90, 90)]
        {
            let mut asked = 0;
            let found = end_of_batch(bad, end, |offset| {
                asked += 1;
                Ok(offset >= good)
            });
            assert_eq!(found.expect("answered"), good.min(end), "{bad} {good} {end}");
            assert!(asked <= 24, "{asked} for {} offsets", good - bad);
        }
    }
}
