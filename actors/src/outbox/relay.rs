//! Publishes a lane's rows in order.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use deadpool_postgres::GenericClient;

use super::{
    publisher::{NotEnqueued, Publisher},
    refusal::Refusal,
    rows::{Row, Span, list, page},
    shorten::shorten,
    track::Track,
};
use crate::Backlog;

/// Rows read at once.
const PAGE: usize = 500;
/// A row that goes on being refused is spoken of this often.
const REPEATED: Duration = Duration::from_secs(60);

/// The publishing side of one lane, held by its owner.
#[derive(Debug)]
pub(crate) struct Relay {
    lane: String,
    publisher: Publisher,
    track: Arc<Track>,
    /// The table may hold rows that the track does not know of.
    unlisted: bool,
    /// What was last said of a refused row, and when.
    said: Option<(Refusal, Instant)>,
}

impl Relay {
    /// A relay of a lane that may have rows which `track` does not know of: its first [`Relay::catch_up`] finds them.
    pub(crate) fn new(lane: String, publisher: Publisher, track: Arc<Track>) -> Self {
        Self { lane, publisher, track, unlisted: true, said: None }
    }

    /// A relay of a lane that has no rows yet.
    pub(crate) fn fresh(lane: String, publisher: Publisher, track: Arc<Track>) -> Self {
        Self { unlisted: false, ..Self::new(lane, publisher, track) }
    }

    /// What is sent and acknowledged, to be asked without holding the relay.
    pub(crate) fn track(&self) -> &Track {
        &self.track
    }

    /// Rows may have been committed that this relay was not given.
    pub(crate) fn fall_behind(&mut self) {
        self.unlisted = true;
    }

    /// The lane's name.
    pub(crate) fn lane(&self) -> &str {
        &self.lane
    }

    /// Publishes rows whose transaction has committed.
    pub(crate) fn publish(&mut self, rows: &[Row]) {
        let Some(first) = rows.first() else { return };
        self.track.written(rows.iter().map(|row| (row.seq, row.emit.topic.as_str())));
        self.track.uses(self.publisher.generation());
        if !self.unlisted && !self.track.is_due_before(first.seq) {
            self.send(rows);
        }
    }

    /// True when rows wait that may go now: [`Relay::catch_up`] is due.
    pub(crate) fn is_behind(&mut self) -> bool {
        self.say();
        self.track.uses(self.publisher.generation());
        self.unlisted || self.track.is_due_before(i64::MAX)
    }

    /// Publishes what the table holds and the producer was not given, as far as it is not refused. False when the producer
    /// has no room.
    pub(crate) async fn catch_up<C: GenericClient>(
        &mut self,
        client: &C,
    ) -> Result<bool, tokio_postgres::Error> {
        if self.unlisted {
            let listed = list(client, &self.lane).await?;
            failpoint!(RelayRead);
            self.track.listed(listed);
            self.unlisted = false;
        }
        for seq in self.track.oversized() {
            if shorten(client, &self.lane, seq).await? {
                self.track.rewritten(seq);
            }
        }
        loop {
            self.track.uses(self.publisher.generation());
            let due = self.track.due(PAGE);
            if due.is_empty() {
                return Ok(true);
            }
            let rows = page(client, &self.lane, &due).await?;
            failpoint!(RelayRead);
            let last = rows.last().map_or(i64::MAX, |row| row.seq);
            let found: Vec<i64> = rows.iter().map(|row| row.seq).collect();
            let asked = due.into_iter().take_while(|seq| *seq <= last);
            self.track.gone(&asked.filter(|seq| found.binary_search(seq).is_err()).collect::<Vec<_>>());
            if !self.send(&rows) {
                return Ok(false);
            }
        }
    }

    /// Hands rows to the producer, in order. False when it has no room for all of them.
    fn send(&mut self, rows: &[Row]) -> bool {
        let publisher = self.publisher.clone();
        let sender = publisher.sender();
        for row in rows {
            let Some(sending) = self.track.sending(row.seq) else { continue };
            match sender.enqueue(&row.emit, sending, &self.track) {
                Ok(()) => {}
                Err(NotEnqueued::Full) => {
                    self.track.unsent(sending);
                    return false;
                }
                Err(NotEnqueued::Replaced) => {
                    // What the former producer held goes first: the next look finds it.
                    self.track.unsent(sending);
                    return true;
                }
                Err(NotEnqueued::Refused(refused)) => self.track.refused(sending, refused),
            }
        }
        true
    }

    /// Says that a row is refused, for as long as it is and not too often, and that it is no more.
    fn say(&mut self) {
        let refusal = self.track.refusal();
        match (&self.said, refusal) {
            (None, None) => {}
            (Some((refusal, _)), None) => {
                tracing::info!(lane = self.lane, to = &*refusal.topic, "Kafka refuses nothing any more");
                self.said = None;
            }
            (Some((_, at)), Some(_)) if at.elapsed() < REPEATED => {}
            (_, Some((refusal, waiting))) => {
                tracing::warn!(
                    lane = self.lane,
                    seq = refusal.seq,
                    to = &*refusal.topic,
                    cause = %refusal.refused.cause,
                    waiting,
                    "Kafka refuses a record; it waits and is tried again"
                );
                self.said = Some((refusal, Instant::now()));
            }
        }
    }

    /// Rows that may be deleted.
    pub(crate) fn deletable(&self) -> Option<Span> {
        self.track.deletable()
    }

    /// They are deleted, and that is committed.
    pub(crate) fn deleted(&self, rows: Span) {
        self.track.deleted(rows);
    }

    /// The number of the last row that ever was.
    pub(crate) fn highest(&self) -> i64 {
        self.track.highest()
    }

    /// What Kafka has not acknowledged.
    pub(crate) fn backlog(&self) -> Backlog {
        self.track.backlog()
    }

    /// Waits for Kafka to answer for what was sent; true when nothing is left but what it refuses.
    pub(crate) async fn settled(&self, limit: Duration) -> bool {
        self.track.settled(limit).await && !self.unlisted && !self.track.is_unfinished()
    }
}
