//! One partition alone, past what cannot be read: what the client says of several is not said of one.

use std::time::{Duration, Instant};

use rdkafka::{consumer::Consumer, message::BorrowedMessage};

use super::{
    Event, STALLED, TICK, TopicReader,
    client::{client, partitions},
    span::{Given, ReadError, Unread},
};
use crate::unreadable::end_of_batch;

/// The same as [`STALLED`], of one of several that are asked one by one.
const SILENT: Duration = Duration::from_secs(5);

impl TopicReader {
    /// Nothing came for too long: whose fault is it?
    pub(super) fn stalled(&mut self, visit: &mut impl FnMut(Given<'_>) -> bool) -> Result<bool, ReadError> {
        self.answers(&self.silence(STALLED))?;
        match self.unfinished.len() {
            1 => {
                let why = self.silence(STALLED);
                Ok(self.unfinished.pop_first().is_none_or(|partition| visit(self.unread(partition, why))))
            }
            _ => self.one_by_one(visit),
        }
    }

    /// Goes on with each partition alone, so that it is known which one cannot be read, and where.
    pub(super) fn one_by_one(
        &mut self,
        visit: &mut impl FnMut(Given<'_>) -> bool,
    ) -> Result<bool, ReadError> {
        let patience = if self.unfinished.len() > 1 { SILENT } else { STALLED };
        let mut wanted = true;
        while wanted && let Some(partition) = self.unfinished.pop_first() {
            if let Err(why) = self.alone(partition, patience, |given| {
                wanted = visit(given);
                wanted
            }) {
                // Is it this partition, or Kafka as a whole?
                self.answers(&why)?;
                wanted = visit(self.unread(partition, why));
            }
        }
        Ok(wanted)
    }

    /// Reads one partition to its end, past what cannot be read; an error is why nothing can be from some place on.
    fn alone(
        &mut self,
        partition: i32,
        patience: Duration,
        mut visit: impl FnMut(Given<'_>) -> bool,
    ) -> Result<(), String> {
        let (low, high) = self.extent(&self.topic, partition).map_err(|error| error.why())?;
        let end = self.upto.get(&partition).map_or(high, |upto| high.min(*upto));
        let first = self.next.entry(partition).or_insert(low);
        *first = low.max(*first);
        loop {
            let event = self.settled(partition, patience, |message| visit(Given::Record(message)))?;
            let Event::Unreadable(batch, why) = event else { return Ok(()) };
            let bad = self.position(partition).max(batch.unwrap_or_default());
            if self.upto.get(&partition).is_some_and(|upto| bad >= *upto) {
                // Up to there no offset has a record.
                return Ok(());
            }
            let past = end_of_batch::<String>(bad, end, |offset| {
                self.next.insert(partition, offset);
                Ok(match self.settled(partition, patience, |_| false)? {
                    Event::Unreadable(other, _) => other != batch,
                    _ => true,
                })
            });
            // Whatever was met while looking, up to here everything was handed over.
            self.next.insert(partition, bad);
            let past = past?;
            let unread = Unread { partition, from: Some(bad), upto: Some(past), why };
            self.next.insert(partition, past);
            if !visit(Given::Unread(unread)) || past >= end {
                return Ok(());
            }
        }
    }

    /// Reads a partition from where it is until `visit` has enough, the partition ends, or something cannot be read.
    fn settled(
        &mut self,
        partition: i32,
        patience: Duration,
        mut visit: impl FnMut(&BorrowedMessage<'_>) -> bool,
    ) -> Result<Event, String> {
        self.assign(std::iter::once(partition)).map_err(|error| error.why())?;
        let mut progress = Instant::now();
        loop {
            let mut wanted = true;
            match self.step(TICK, |message| wanted = visit(message)).map_err(|error| error.why())? {
                Event::Nothing if progress.elapsed() > patience => return Err(self.silence(patience)),
                Event::Nothing => {}
                Event::End(other) if other != partition => {}
                Event::Record if wanted => progress = Instant::now(),
                event => return Ok(event),
            }
        }
    }

    /// Whether anybody says what the topic is. A client that has lost its way is not the one to ask.
    fn answers(&self, why: &str) -> Result<(), ReadError> {
        let asked = client(&self.config).and_then(|client| partitions(&client, &self.topic, self.timeout));
        asked.map(drop).map_err(|_| ReadError::Unanswered {
            what: format!("reading {}", self.topic),
            why: why.to_owned(),
        })
    }

    fn unread(&self, partition: i32, why: String) -> Given<'static> {
        let (from, upto) = (self.next.get(&partition).copied(), self.upto.get(&partition).copied());
        Given::Unread(Unread { partition, from, upto, why })
    }

    fn silence(&self, patience: Duration) -> String {
        let said = self.consumer().ok().and_then(|consumer| consumer.context().last_ever());
        let why = said.unwrap_or_else(|| "nobody says why".into());
        format!("neither a record nor an end came for {} s: {why}", patience.as_secs())
    }

    fn position(&self, partition: i32) -> i64 {
        self.next.get(&partition).copied().unwrap_or_default()
    }
}
