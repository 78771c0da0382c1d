//! What Kafka could not give: one record that cannot be read, or one partition without a leader, must not hide all others.

use std::{
    fmt,
    sync::{Mutex, PoisonError},
};

use dead_letters::Unread;

/// Offsets of a topic that could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gap {
    /// The topic.
    pub topic: String,
    /// Where in it, and why.
    pub unread: Unread,
}

impl Gap {
    /// Whether it is a part of this gap that an offset of a topic lies in.
    pub fn holds(&self, topic: &str, partition: i32, offset: i64) -> bool {
        let (from, upto) = self.range();
        (&*self.topic, self.unread.partition) == (topic, partition) && (from..upto).contains(&offset)
    }

    /// Whether what `other` says of its partition is said with this.
    fn covers(&self, other: &Self) -> bool {
        let ((from, upto), (other_from, other_upto)) = (self.range(), other.range());
        (&self.topic, self.unread.partition) == (&other.topic, other.unread.partition)
            && from <= other_from
            && other_upto <= upto
    }

    fn range(&self) -> (i64, i64) {
        (self.unread.from.unwrap_or(i64::MIN), self.unread.upto.unwrap_or(i64::MAX))
    }
}

impl fmt::Display for Gap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{} {}", self.topic, self.unread.partition, self.unread)
    }
}

/// The gaps that were met so far, each once however often it was met.
#[derive(Debug, Default)]
pub(super) struct Gaps(Mutex<Vec<Gap>>);

impl Gaps {
    pub(super) fn note(&self, gap: Gap) {
        let mut gaps = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !gaps.iter().any(|known| known.covers(&gap)) {
            gaps.retain(|known| !gap.covers(known));
            gaps.push(gap);
        }
    }

    pub(super) fn all(&self) -> Vec<Gap> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_is_told_once() {
        let gap = |partition, from, upto| Gap {
            topic: "g.dlq".into(),
            unread: Unread { partition, from, upto, why: "BadCompression".into() },
        };
        let gaps = Gaps::default();
        for one in [
            gap(3, Some(7), Some(8)),
            gap(3, Some(7), Some(8)),
            gap(3, Some(9), Some(10)),
            gap(4, None, None),
            gap(4, Some(5), None),
            gap(5, Some(7), Some(8)),
            gap(5, Some(7), Some(9)),
        ] {
            gaps.note(one);
        }
        let told: Vec<_> = gaps.all().iter().map(Gap::to_string).collect();
        assert_eq!(
            told,
            [
                "g.dlq/3 offset 7 cannot be read: BadCompression",
                "g.dlq/3 offset 9 cannot be read: BadCompression",
                "g.dlq/4 cannot be read: BadCompression",
                "g.dlq/5 offsets 7 to 8 cannot be read: BadCompression",
            ]
        );
        let holds = |partition, offset| gaps.all().iter().any(|gap| gap.holds("g.dlq", partition, offset));
        assert!(holds(3, 7) && holds(5, 8) && holds(4, 0));
        assert!(!holds(3, 8) && !holds(5, 9) && !holds(6, 7));
    }
}
