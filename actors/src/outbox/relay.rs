//! Publishes a lane's rows in order.

use std::{sync::Arc, time::Duration};

use deadpool_postgres::GenericClient;

use super::{
    Track,
    rows::{Row, Span, page},
};
use crate::{
    Backlog,
    publisher::{NotEnqueued, Publisher},
};

const PAGE: i64 = 500;

/// The publishing side of one lane, held by its owner.
#[derive(Debug)]
pub(crate) struct Relay {
    lane: String,
    publisher: Publisher,
    track: Arc<Track>,
    /// The last row handed to the producer, as far as the producer still knows of it.
    sent: i64,
    /// The last row ever handed to a producer.
    highest: i64,
    /// The producer that was given them.
    generation: u64,
    /// Rows in the table that were not handed to the producer: read them before any newer one is sent.
    behind: bool,
}

impl Relay {
    /// A relay that knows nothing yet: its first [`Relay::catch_up`] publishes what the lane holds.
    pub(crate) fn new(lane: String, publisher: Publisher) -> Self {
        let generation = publisher.generation();
        Self { lane, publisher, track: Arc::default(), sent: 0, highest: 0, generation, behind: true }
    }

    /// A relay of a lane that has no rows yet.
    pub(crate) fn fresh(lane: String, publisher: Publisher) -> Self {
        Self { behind: false, ..Self::new(lane, publisher) }
    }

    /// What is sent and acknowledged, to be asked without holding the relay.
    pub(crate) fn track(&self) -> Arc<Track> {
        self.track.clone()
    }

    /// Rows were committed that this relay was not given.
    pub(crate) fn fall_behind(&mut self) {
        self.behind = true;
    }

    /// The lane's name.
    pub(crate) fn lane(&self) -> &str {
        &self.lane
    }

    /// Publishes rows whose transaction has committed.
    pub(crate) fn publish(&mut self, rows: &[Row]) {
        if !self.is_behind() {
            self.send(rows);
        }
    }

    /// The number of the last row that was ever sent.
    pub(crate) fn highest(&self) -> i64 {
        self.highest
    }

    /// True when rows wait in the table: [`Relay::catch_up`] is due.
    pub(crate) fn is_behind(&mut self) -> bool {
        if let Some(cause) = self.track.take_failure() {
            tracing::warn!(lane = self.lane, %cause, "Kafka refused a record; reading the outbox again");
            self.sent = 0;
            self.behind = true;
        }
        let generation = self.publisher.generation();
        if generation != self.generation {
            // What the former producer held may be gone: nothing newer may overtake it.
            self.generation = generation;
            self.track.forget();
            self.sent = 0;
            self.behind = true;
        }
        self.behind
    }

    /// Publishes what the table holds and the producer was not given. True when nothing is left behind.
    pub(crate) async fn catch_up<C: GenericClient>(
        &mut self,
        client: &C,
    ) -> Result<bool, tokio_postgres::Error> {
        self.behind = false;
        loop {
            // Set until the page is known and sent: a read that fails or is dropped leaves the lane behind.
            self.behind = true;
            let rows = page(client, &self.lane, self.sent, PAGE).await?;
            failpoint!(RelayRead);
            self.behind = false;
            if rows.is_empty() {
                return Ok(true);
            }
            self.send(&rows);
            if self.behind {
                return Ok(false);
            }
        }
    }

    fn send(&mut self, rows: &[Row]) {
        let publisher = self.publisher.clone();
        let Some(sender) = publisher.sender(self.generation) else {
            // What the former producer held has to go first.
            self.behind = true;
            return;
        };
        for row in rows {
            // Noted first: the acknowledgement may arrive before `enqueue` returns.
            self.track.sent(row.seq);
            match sender.enqueue(&row.emit, row.seq, &self.track) {
                Ok(()) => {
                    self.sent = row.seq;
                    self.highest = self.highest.max(row.seq);
                }
                Err(refused) => {
                    self.track.unsent(row.seq);
                    self.behind = true;
                    if let NotEnqueued::Refused(cause) = refused {
                        tracing::error!(lane = self.lane, seq = row.seq, topic = row.emit.topic, %cause,
                            "the Kafka producer refuses a record; trying again");
                    }
                    return;
                }
            }
        }
    }

    /// The rows that may be deleted.
    pub(crate) fn deletable(&self) -> Option<Span> {
        self.track.prefix()
    }

    /// The rows up to `seq` are deleted, and that is committed.
    pub(crate) fn deleted(&self, seq: i64) {
        self.track.deleted(seq);
    }

    /// What Kafka has not acknowledged.
    pub(crate) fn backlog(&self) -> Backlog {
        self.track.backlog()
    }

    /// Waits for Kafka to acknowledge what was sent; true when it has acknowledged all there is.
    pub(crate) async fn settled(&self, limit: Duration) -> bool {
        self.track.settled(limit).await && !self.behind
    }
}
