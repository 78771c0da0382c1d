//! Finds a consumer that has its partitions and does not read them.
//!
//! A partition that librdkafka fetches from nobody, since it has lost sight of the broker, looks like one in which nothing
//! happens. So of those where nothing happens Kafka is asked from the side whether that is so.

use std::collections::HashMap;

use super::{Consumers, Lane};
use crate::{log_ends::LogEnds, record::TopicPartition};

/// Partitions in one look; the others come next time.
const MOST: usize = 64;
/// Looks, four seconds apart, in which there was something to read and nothing came.
const LOOKS: u32 = 3;
/// Twice as many each time it was in vain, up to six minutes' worth.
const TIMES_MOST: u32 = 5;
const WHY: &str = "Kafka has records for it that it does not fetch";

/// What stands still, by partition: at which offset, and in how many looks there was more in Kafka.
#[derive(Debug, Default)]
pub(crate) struct Unread {
    still: HashMap<TopicPartition, Still>,
    turn: usize,
    /// For what a consumer was last replaced, and how often for just that: a record may be so large that it takes its time.
    given_up: Option<(TopicPartition, i64, u32)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Still {
    offset: i64,
    looks: u32,
}

impl Unread {
    /// Looks at partitions that wait for records, and has a consumer replaced that does not bring them.
    pub(crate) async fn look(&mut self, consumers: &Consumers, log_ends: &LogEnds) {
        let mut waiting: Vec<(TopicPartition, i64)> = consumers
            .lanes()
            .iter()
            .filter_map(|lane| Some((lane.source.clone(), waits_at(lane)?)))
            .collect();
        waiting.sort();
        self.still.retain(|place, still| waiting.binary_search(&(place.clone(), still.offset)).is_ok());
        if waiting.is_empty() {
            return;
        }
        let first = self.turn % waiting.len();
        self.turn = self.turn.wrapping_add(MOST);
        waiting.rotate_left(first);
        for (place, offset) in waiting.into_iter().take(MOST) {
            // One whose consumer has brought something since the last look is asked for in the next.
            let known = self.still.get(&place).copied();
            let end = match known {
                None => offset,
                // Who does not answer here does not answer the consumer either.
                Some(_) => match log_ends.watermarks(&place).await {
                    Ok(ends) => ends.high,
                    Err(_) => offset,
                },
            };
            let still = judge(known, offset, end);
            let before = self.given_up.as_ref().filter(|(there, at, _)| *there == place && *at == offset);
            let times = before.map_or(0, |(_, _, times)| *times);
            if still.looks >= LOOKS << times.min(TIMES_MOST) {
                self.still.clear();
                consumers.give_up(&place, WHY);
                self.given_up = Some((place, offset, times + 1));
                return;
            }
            self.still.insert(place, still);
        }
    }
}

/// The offset of the record a lane waits for, if it waits for one.
fn waits_at(lane: &Lane) -> Option<i64> {
    let open = !(lane.is_held() || lane.is_paused() || lane.is_closing() || lane.is_halted() || lane.rests());
    let position = lane.position().filter(|_| open && lane.is_empty())?;
    // What it has read to the end holds no record any more, and is about to be passed.
    (lane.trailing_gap().is_none() && lane.seek_target().is_none()).then_some(position.0)
}

/// How it stands with a partition that waits at `offset` and whose log ends at `end`.
fn judge(known: Option<Still>, offset: i64, end: i64) -> Still {
    match known {
        Some(known) if known.offset == offset && end > offset => Still { offset, looks: known.looks + 1 },
        _ => Still { offset, looks: 0 },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn looks(seen: &[(i64, i64)]) -> u32 {
        seen.iter().fold(None, |known, (offset, end)| Some(judge(known, *offset, *end))).expect("seen").looks
    }

    #[test]
    fn a_partition_that_stands_still_with_more_to_read_is_noticed() {
        assert_eq!(looks(&[(5, 9), (5, 9), (5, 12), (5, 12)]), LOOKS);
    }

    #[test]
    fn one_that_moves_is_idle_or_had_nothing_to_read_for_a_moment_is_not() {
        assert_eq!(looks(&[(5, 9), (6, 9), (7, 9), (8, 9)]), 0);
        assert_eq!(looks(&[(5, 5), (5, 5), (5, 5), (5, 5)]), 0);
        assert_eq!(looks(&[(5, 9), (5, 9), (5, 5), (5, 9)]), 1);
    }
}
