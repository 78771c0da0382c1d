//! The requeue lane: hands records back to the lanes they first came from.
//!
//! It runs nothing itself. In one transaction with its own lease it moves records into `parked` of their origin lane, due at
//! once, so that there is a single place where a key's records run.

use std::{collections::HashSet, sync::Arc};

use chrono::{DateTime, Utc};
use metrics::counter;

use super::{
    letters,
    pipeline::{BatchError, Committed, commit_error, fenced, no_connection, ours, unaccounted},
};
use crate::{
    Cause,
    consumer::Taken,
    dead_letter::{Class, DeadLetter, PREFIX},
    group::Shared,
    handler::Handler,
    headers::Headers,
    lease::{
        self, Advanced, Claim, Counts, RowAt,
        journal::{Mark, Runs},
    },
    metrics::RECORDS,
    outbox::{Row, Rows, Spans, Streams},
    record::{Record, TopicPartition},
    retry::{self, Requeued},
};

/// What a requeue batch runs against.
pub(crate) struct Context<'a, H: Handler> {
    pub(crate) shared: &'a Arc<Shared<H>>,
    pub(crate) source: &'a TopicPartition,
    pub(crate) outbox: &'a Streams,
    pub(crate) claim: Claim,
}

/// Moves a batch. A record that nobody can place becomes a dead letter of its own.
pub(crate) async fn run<H: Handler>(
    context: &Context<'_, H>,
    taken: &[Taken],
) -> Result<Committed, BatchError> {
    let (shared, now) = (context.shared, Utc::now());
    let (mut requeued, mut rows) = (Vec::with_capacity(taken.len()), Vec::new());
    let (mut claim, mut counts, mut journal) = (context.claim, Counts::default(), Runs::default());
    for Taken { record, gap, .. } in taken {
        claim = claim.past(record);
        counts.gaps += gap;
        journal.push(Mark::Gap, *gap);
        if record.value.is_none() {
            counts.ignored += 1;
            journal.push(Mark::Ignored, 1);
            continue;
        }
        match origin(record, &shared.settings.group, &shared.settings.topics) {
            Ok(back) => {
                counts.moved += 1;
                journal.push(Mark::Moved, 1);
                requeued.push(back);
            }
            Err(cause) => {
                counts.dead += 1;
                journal.push(Mark::Dead, 1);
                claim.letter_seq += 1;
                tracing::error!(topic = &*context.source.topic, partition = context.source.partition,
                    offset = record.offset.0, %cause, "a record of the requeue topic cannot be put back; dead letter");
                let letter = letters::letter(shared, record, 1, Class::Poison, &cause, now);
                rows.push(Row { seq: claim.letter_seq, emit: letters::sent(&letter, record) });
            }
        }
    }
    let rows = Rows { letters: rows, ..Rows::default() };
    let batch = Batch { claim, counts, journal: journal.finish(), requeued, rows };
    let (row, deleted) = commit(context, &batch, now).await?;
    failpoint!(RequeueCommitted);
    let Batch { requeued, rows, .. } = batch;
    counter!(RECORDS, "group" => shared.settings.group.clone(), "topic" => context.source.topic.to_string(),
        "outcome" => "moved")
    .increment(u64::try_from(counts.moved).unwrap_or(0));
    // Once a lane: each reads its chains anew.
    let lanes: HashSet<&TopicPartition> = requeued.iter().map(|back| &back.record.source).collect();
    lanes.into_iter().for_each(|source| shared.wake_requeued(source));
    Ok(Committed {
        claim: Claim { row, ..claim },
        rows,
        deleted,
        done: Vec::new(),
        waiting: Vec::new(),
        observed: Vec::new(),
        all_ignored: false,
    })
}

/// What one batch does.
struct Batch {
    claim: Claim,
    counts: Counts,
    journal: String,
    requeued: Vec<Requeued>,
    rows: Rows,
}

async fn commit<H: Handler>(
    context: &Context<'_, H>,
    batch: &Batch,
    now: DateTime<Utc>,
) -> Result<(RowAt, Spans), BatchError> {
    let (shared, source, from) = (context.shared, context.source, &context.claim);
    let group = shared.settings.group.as_str();
    let mut client = shared.pool.get().await.map_err(|error| no_connection(&error))?;
    let tx = client.transaction().await.map_err(|error| ours(&error))?;
    let held = lease::hold(&tx, group, source, from).await.map_err(|error| ours(&error))?;
    let from = &Claim { row: held.ok_or_else(fenced)?, ..*from };
    let written = async {
        retry::insert_requeued(&tx, group, &batch.requeued, now).await?;
        let deleted = context.outbox.write(&tx, &batch.rows).await?;
        let left = lease::advance(&tx, group, source, from, &batch.claim, &batch.counts, &batch.journal);
        Ok((left.await?, deleted))
    };
    let (advanced, deleted) = written.await.map_err(|error: tokio_postgres::Error| ours(&error))?;
    failpoint!(RequeueMoved);
    let moved = batch.claim.next_offset.0 - from.next_offset.0;
    match advanced {
        None => Err(fenced()),
        Some(Advanced { left: 0, row }) if batch.counts.sum() == moved => {
            tx.commit().await.map_err(|error| commit_error(&error)).map(|()| (row, deleted))
        }
        Some(Advanced { left, .. }) => Err(unaccounted(left, source, &batch.counts)),
    }
}

/// The record as it first was, from what its headers say.
fn origin(record: &Record, group: &str, topics: &[String]) -> Result<Requeued, Cause> {
    let letter = DeadLetter::from_headers(&record.headers)
        .map_err(|error| Cause::from_error("requeue-headers", &error))?;
    if letter.group != group {
        let message = format!("it died in group {}, this is {group}", letter.group);
        return Err(Cause::new("requeue-group", message));
    }
    if !topics.iter().any(|topic| **topic == *letter.origin.topic) {
        let message =
            format!("{group} does not read topic {}, where it first came from", letter.origin.topic);
        return Err(Cause::new("requeue-topic", message));
    }
    if letter.generation < 2 {
        let message = format!("generation {} is not one of a requeued record", letter.generation);
        return Err(Cause::new("requeue-generation", message));
    }
    let headers: Headers = record.headers.iter().filter(|(name, _)| !name.starts_with(PREFIX)).collect();
    Ok(Requeued {
        record: Record {
            source: letter.origin,
            offset: letter.offset,
            timestamp_ms: letter.timestamp_ms,
            key: record.key.clone(),
            value: record.value.clone(),
            headers,
        },
        event_id: letter.event_id,
        generation: i32::try_from(letter.generation).unwrap_or(i32::MAX),
        requeued_from: letter.id,
    })
}
