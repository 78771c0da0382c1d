//! The invariant of a lease in SQL, for everybody who asks for it: every offset that was passed has an outcome.
//!
//! Both are sums over a row of `partition_lease`, whose columns stand in them by their plain names.

macro_rules! passed {
    () => {
        "(next_offset - first_offset + replayed - lost)"
    };
}

/// Offsets that a lease has passed: those that a reset went back over count again, those that were lost before they were read do
/// not count.
pub const PASSED: &str = passed!();

/// Those of them that have no outcome: anything but 0 is a bug.
///
/// ```
/// let query = format!("SELECT topic, partition FROM partition_lease WHERE {} <> 0", actors::accounts::UNACCOUNTED);
/// ```
pub const UNACCOUNTED: &str =
    concat!("(", passed!(), " - (applied + duplicate + parked + dead + ignored + moved + gaps))");

#[cfg(test)]
mod tests {
    use super::{super::journal::Mark, *};

    #[test]
    fn every_outcome_that_the_journal_knows_is_counted_once() {
        let counted: Vec<&str> = UNACCOUNTED.split(|c: char| !c.is_ascii_lowercase() && c != '_').collect();
        for mark in Mark::ALL {
            assert_eq!(counted.iter().filter(|word| **word == mark.word()).count(), 1, "{mark:?}");
        }
    }
}
