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
    /// Whether what `other` says of its partition is said with this.
    fn covers(&self, other: &Self) -> bool {
        let Unread { partition, from, upto, .. } = &self.unread;
        (&self.topic, partition) == (&other.topic, &other.unread.partition)
            && (*from == other.unread.from || (upto.is_none() && *from < other.unread.from))
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
            ]
        );
    }
}
