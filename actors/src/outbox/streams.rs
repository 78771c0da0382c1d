//! The two streams of a partition's outbox.
//!
//! What events cause, and what becomes of the dead: each has its own numbers and its own order, so that a dead-letter topic
//! that refuses never holds events up.

use std::{sync::Arc, time::Duration};

use deadpool_postgres::GenericClient;
use tokio_postgres::Error;

use super::{
    publisher::Publisher,
    relay::Relay,
    rows::{Row, Span, delete, insert, last},
    track::Track,
};
use crate::{Backlog, Cause, lease::Claim};

/// Ends the name of the outbox lane that holds a partition's dead letters and entries of the ledger. No topic's name has it.
const LETTERS: &str = "!letters";

/// What is known of a partition's rows. Held by the lane, so that an actor may die.
#[derive(Clone, Debug)]
pub(crate) struct Tracks {
    events: Arc<Track>,
    letters: Arc<Track>,
}

impl Default for Tracks {
    fn default() -> Self {
        Self { events: Arc::new(Track::new(true)), letters: Arc::new(Track::new(false)) }
    }
}

impl Tracks {
    /// Why rows wait that Kafka refuses.
    pub(crate) fn refusals(&self, lane: &str) -> Vec<(Cause, chrono::DateTime<chrono::Utc>)> {
        let events = self.events.refused_as(lane);
        let letters = self.letters.refused_as(&format!("{lane}{LETTERS}"));
        events.into_iter().chain(letters).collect()
    }
}

/// Rows of one batch, numbered.
#[derive(Debug, Default)]
pub(crate) struct Rows {
    pub(crate) events: Vec<Row>,
    pub(crate) letters: Vec<Row>,
}

impl Rows {
    /// The claim once they are written.
    pub(crate) fn numbered(&self, claim: Claim) -> Claim {
        Claim {
            outbox_seq: self.events.last().map_or(claim.outbox_seq, |row| row.seq),
            letter_seq: self.letters.last().map_or(claim.letter_seq, |row| row.seq),
            ..claim
        }
    }
}

/// Rows of both streams.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Spans {
    events: Option<Span>,
    letters: Option<Span>,
}

/// The publishing side of a partition, held by its actor.
#[derive(Debug)]
pub(crate) struct Streams {
    events: Relay,
    letters: Relay,
}

impl Streams {
    /// The streams of the partition whose events go by the lane `name`.
    pub(crate) fn new(name: &str, publisher: &Publisher, tracks: &Tracks) -> Self {
        let letters = format!("{name}{LETTERS}");
        Self {
            events: Relay::new(name.to_owned(), publisher.clone(), tracks.events.clone()),
            letters: Relay::new(letters, publisher.clone(), tracks.letters.clone()),
        }
    }

    /// The claim with numbers that are not below those of any row in the table.
    pub(crate) async fn above_all<C: GenericClient>(&self, client: &C, claim: Claim) -> Result<Claim, Error> {
        let (events, letters) =
            (last(client, self.events.lane()).await?, last(client, self.letters.lane()).await?);
        Ok(Claim {
            outbox_seq: claim.outbox_seq.max(events),
            letter_seq: claim.letter_seq.max(letters),
            ..claim
        })
    }

    /// Whether there were rows of higher numbers than the claim knows of.
    pub(crate) fn is_ahead_of(&self, claim: &Claim) -> bool {
        claim.outbox_seq < self.events.highest() || claim.letter_seq < self.letters.highest()
    }

    /// The partition was claimed: what is in the table is looked at again.
    pub(crate) fn claimed(&mut self, claim: &Claim) {
        self.events.track().claimed(claim.epoch, claim.outbox_seq);
        self.letters.track().claimed(claim.epoch, claim.letter_seq);
        self.events.fall_behind();
        self.letters.fall_behind();
    }

    /// Writes a batch's rows, and deletes what Kafka has of earlier ones. Returns what is deleted.
    pub(crate) async fn write<C: GenericClient>(&self, client: &C, rows: &Rows) -> Result<Spans, Error> {
        insert(client, self.events.lane(), &rows.events).await?;
        insert(client, self.letters.lane(), &rows.letters).await?;
        self.delete(client).await
    }

    /// Deletes what Kafka has. Returns what is to be given to [`Streams::deleted`] once that is committed.
    pub(crate) async fn delete<C: GenericClient>(&self, client: &C) -> Result<Spans, Error> {
        let spans = self.deletable();
        if let Some(rows) = spans.events {
            delete(client, self.events.lane(), rows).await?;
        }
        if let Some(rows) = spans.letters {
            delete(client, self.letters.lane(), rows).await?;
        }
        Ok(spans)
    }

    fn deletable(&self) -> Spans {
        Spans { events: self.events.deletable(), letters: self.letters.deletable() }
    }

    /// Whether Kafka has rows that the table still holds.
    pub(crate) fn has_deletable(&self) -> bool {
        self.deletable() != Spans::default()
    }

    /// These rows are deleted, and that is committed.
    pub(crate) fn deleted(&self, spans: Spans) {
        if let Some(rows) = spans.events {
            self.events.deleted(rows);
        }
        if let Some(rows) = spans.letters {
            self.letters.deleted(rows);
        }
    }

    /// Publishes rows whose transaction has committed.
    pub(crate) fn publish(&mut self, rows: &Rows) {
        self.events.publish(&rows.events);
        self.letters.publish(&rows.letters);
    }

    /// True when rows wait that may go now: [`Streams::catch_up`] is due.
    pub(crate) fn is_behind(&mut self) -> bool {
        // Both are asked: each says what it has to.
        let (events, letters) = (self.events.is_behind(), self.letters.is_behind());
        events || letters
    }

    /// Publishes what the table holds and the producer was not given. False when the producer has no room for it.
    pub(crate) async fn catch_up<C: GenericClient>(&mut self, client: &C) -> Result<bool, Error> {
        Ok(self.events.catch_up(client).await? && self.letters.catch_up(client).await?)
    }

    /// What Kafka has not acknowledged.
    pub(crate) fn backlog(&self) -> Backlog {
        let (events, letters) = (self.events.backlog(), self.letters.backlog());
        Backlog { rows: events.rows + letters.rows, oldest: events.oldest.max(letters.oldest) }
    }

    /// Waits for Kafka to answer for what was sent; true when nothing is left but what it refuses.
    pub(crate) async fn settled(&self, limit: Duration) -> bool {
        self.events.settled(limit).await && self.letters.settled(limit).await
    }
}
