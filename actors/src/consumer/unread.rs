//! Finds a consumer that has its partitions and does not read them.
//!
//! A partition that librdkafka fetches from nobody, since it has lost sight of the broker, looks like one in which nothing
//! happens. So of those where nothing happens Kafka is asked from the side whether that is so.

use std::{collections::HashMap, sync::Arc};

use dead_letters::TopicPartition;

use super::ConsumerPair;
use crate::{
    condition::{Conditions, Found, Raised, Subject},
    kafka::LogEnds,
    lane::Lane,
};

/// Partitions in one look; the others come next time.
const MOST: usize = 64;
/// Partitions without an answer after which no further one is asked for.
const SILENT: usize = 2;
/// Looks, four seconds apart, in which there was something to read and nothing came, before it is said.
const SAID: u32 = 2;
/// And before the consumer is replaced.
const LOOKS: u32 = 3;
/// Twice as many each time it was in vain, up to six minutes' worth.
const TIMES_MOST: u32 = 5;
const WHY: &str = "Kafka has records for it that it does not fetch";
const NOT_FETCHED: &str = "not-fetched";

/// What stands still, by partition: at which offset, and in how many looks there was more in Kafka.
#[derive(Debug, Default)]
pub(crate) struct Unread {
    still: HashMap<TopicPartition, Still>,
    turn: usize,
    /// At which offset the consumer was replaced for a partition, and how often: a record may be so large that it takes its time.
    given_up: HashMap<TopicPartition, (i64, u32)>,
    raised: Raised,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Still {
    offset: i64,
    looks: u32,
}

impl Unread {
    /// Looks at partitions that wait for records, says which do so in vain, and has a consumer replaced that does not bring them.
    pub(crate) async fn look(
        &mut self,
        consumers: &ConsumerPair,
        lanes: &[Arc<Lane>],
        log_ends: &LogEnds,
        conditions: &Conditions,
    ) {
        let at = |place: &TopicPartition| {
            lanes.iter().find(|lane| lane.source == *place).map(|lane| lane.position())
        };
        // Where it was replaced, it is not over until the partition has moved, or is another's.
        self.given_up.retain(|place, (offset, _)| {
            at(place).is_some_and(|position| position.is_none_or(|position| position.0 == *offset))
        });
        let mut waiting: Vec<(i64, &Lane)> =
            lanes.iter().filter_map(|lane| Some((waits_at(lane)?, &**lane))).collect();
        waiting.sort_by(|(_, a), (_, b)| a.source.cmp(&b.source));
        self.still.retain(|place, still| {
            waiting.iter().any(|(offset, lane)| lane.source == *place && *offset == still.offset)
        });
        if !waiting.is_empty() {
            let first = self.turn % waiting.len();
            self.turn = first + MOST.min(waiting.len());
            waiting.rotate_left(first);
            waiting.truncate(MOST);
            self.compare(&waiting, consumers, log_ends).await;
        }
        let found = self.found();
        self.raised.say(conditions, found);
    }

    async fn compare(&mut self, waiting: &[(i64, &Lane)], consumers: &ConsumerPair, log_ends: &LogEnds) {
        let mut silent = 0;
        for (offset, lane) in waiting {
            // One whose consumer has brought something since the last look is asked for in the next.
            let known = self.still.get(&lane.source).copied();
            let end = match known {
                None => *offset,
                Some(_) => match log_ends.watermarks(&lane.source).await {
                    Ok(ends) => ends.high,
                    // Who does not answer here does not answer the consumer either. Where several do not, it is all of Kafka.
                    Err(_) if silent < SILENT => {
                        silent += 1;
                        continue;
                    }
                    Err(_) => return,
                },
            };
            lane.raise_log_end(end);
            let still = judge(known, *offset, end);
            let times = self.given_up.get(&lane.source).map_or(0, |(_, times)| *times);
            if still.looks >= LOOKS << times.min(TIMES_MOST) {
                self.given_up.insert(lane.source.clone(), (*offset, times + 1));
                self.still.clear();
                return consumers.give_up(&lane.source, WHY);
            }
            self.still.insert(lane.source.clone(), still);
        }
    }

    /// The partitions that wait in vain.
    fn found(&self) -> Found {
        let still = self.still.iter().filter(|(_, still)| still.looks >= SAID).map(|(place, _)| place);
        let said = |place: &TopicPartition| {
            let message = format!(
                "Kafka has records of {place} that do not come, though nothing holds them back; the consumer is replaced in a moment"
            );
            ((Subject::Partition(place.clone()), NOT_FETCHED), message)
        };
        still.chain(self.given_up.keys()).map(said).collect()
    }
}

/// The offset of the record a lane waits for, if it waits for one.
fn waits_at(lane: &Lane) -> Option<i64> {
    let open = !(lane.is_backpressured()
        || lane.is_paused()
        || lane.is_closing()
        || lane.is_halted()
        || lane.rests());
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
