//! The requeue lane: hands records back to the lanes they first came from.
//!
//! It runs nothing itself. In one transaction with its own lease it moves records into `parked` of their origin lane, due at
//! once, so that there is a single place where a key's records run.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use dead_letters::{Class, DeadLetter, RequeueOutcome, TopicPartition, own_headers};
use metrics::counter;
use uuid::Uuid;

use super::{
    fenced::{FencedTransaction, Passed},
    pipeline::{BatchError, Committed, letters, ours},
    shared::Shared,
};
use crate::{
    Cause,
    connection::Connection,
    handler::Handler,
    lane::Item,
    lease::{
        Claim, Counts,
        journal::{Mark, Runs},
    },
    metrics::RECORDS,
    outbox::{Row, Rows, Streams},
    record::Record,
    retry::{self, Requeued},
};

/// What a requeue batch runs against.
pub(crate) struct Context<'a, H: Handler> {
    pub(crate) shared: &'a Arc<Shared<H>>,
    pub(crate) source: &'a TopicPartition,
    pub(crate) outbox: &'a Streams,
    pub(crate) claim: Claim,
}

/// Put-back records of one lane that wait at the most: further ones stay in Kafka. They would keep nothing from running, and
/// only make the table long.
const REQUEUED_MAX: usize = 2_000;

/// How many of `taken`, from the first, there is room for where they belong.
pub(crate) async fn room<H: Handler>(context: &Context<'_, H>, taken: &[Item]) -> Result<usize, BatchError> {
    let settings = &context.shared.settings;
    // Where it belongs is asked alone, not what of it is kept.
    let (partitions, kept) = (partitions(context.shared).await?, HashSet::new());
    let origin =
        |item: &Item| Some(origin(&item.record, &settings.group, &partitions, &kept).ok()?.record.source);
    let origins: Vec<_> = taken.iter().map(origin).collect();
    let mut waiting: HashMap<&TopicPartition, usize> = HashMap::new();
    let connection = Connection::get(&context.shared.pool).await?;
    for source in origins.iter().flatten() {
        if waiting.contains_key(source) {
            continue;
        }
        let most = i64::try_from(REQUEUED_MAX).unwrap_or(i64::MAX);
        let count = retry::requeued_waiting(&*connection, &settings.group, source, most);
        let count = connection.read(&settings.limits, count).await?;
        waiting.insert(source, usize::try_from(count).unwrap_or(REQUEUED_MAX));
    }
    let full = |source: &Option<TopicPartition>| {
        // One that belongs nowhere becomes a dead letter.
        let Some(count) = source.as_ref().and_then(|source| waiting.get_mut(source)) else { return false };
        *count += 1;
        *count > REQUEUED_MAX
    };
    Ok(origins.iter().position(full).unwrap_or(taken.len()))
}

/// Moves a batch. A record that nobody can place becomes a dead letter again, with an entry in the ledger.
pub(crate) async fn run<H: Handler>(
    context: &Context<'_, H>,
    taken: &[Item],
) -> Result<Committed, BatchError> {
    let (shared, now) = (context.shared, context.shared.clock.now());
    let partitions = partitions(shared).await?;
    let kept = kept(shared, taken).await?;
    let (mut requeued, mut emits, mut lost) = (Vec::with_capacity(taken.len()), Vec::new(), Vec::new());
    let (mut claim, mut counts, mut journal) = (context.claim, Counts::default(), Runs::default());
    for Item { record, gap, diagnosis, .. } in taken {
        claim = claim.past(record);
        counts.gaps += gap;
        journal.push(Mark::Gap, *gap);
        if record.value.is_none() {
            counts.ignored += 1;
            journal.push(Mark::Ignored, 1);
            if let Some(put_back) = PutBack::of(record) {
                emits.push(letters::told(
                    shared,
                    put_back.id,
                    put_back.generation,
                    RequeueOutcome::Ignored,
                    None,
                    now,
                ));
            }
            continue;
        }
        let placed = match &diagnosis.dead {
            // It was tried, and PostgreSQL cannot store it, or actors died of it.
            Some((class, cause)) => Err((*class, cause.clone())),
            None => origin(record, &shared.settings.group, &partitions, &kept)
                .map_err(|cause| (Class::Poison, cause)),
        };
        match placed {
            Ok(back) => {
                counts.moved += 1;
                journal.push(Mark::Moved, 1);
                requeued.push(back);
            }
            Err((class, cause)) => {
                counts.dead += 1;
                journal.push(Mark::Dead, 1);
                let (first, generation) = as_it_was(record);
                let letter = letters::letter(shared, &first, generation, class, &cause, now);
                emits.push(letters::sent(&letter, &first));
                // Another group's letter was not put back here by its own ledger.
                let ours = cause.code != "requeue-group";
                if let Some(PutBack { id, generation }) = PutBack::of(record).filter(|_| ours) {
                    let reason = Some(cause.to_string());
                    emits.push(letters::told(
                        shared,
                        id,
                        generation,
                        RequeueOutcome::Unplaceable,
                        reason,
                        now,
                    ));
                }
                lost.push((first, generation, class, cause));
            }
        }
    }
    let numbered = (claim.letter_seq + 1..).zip(emits);
    let rows = Rows { letters: numbered.map(|(seq, emit)| Row { seq, emit }).collect(), ..Rows::default() };
    let restored: Vec<Uuid> =
        requeued.iter().map(|back| back.requeued_from).filter(|id| kept.contains(id)).collect();
    let passed = Passed { to: claim, counts, journal: journal.finish() };
    let transact = async |tx: FencedTransaction<'_>| {
        let moved = async {
            let group = &shared.settings.group;
            retry::insert_requeued(&*tx, group, &requeued, tx.now()).await?;
            retry::restore_bodies(&*tx, group, &restored).await
        };
        moved.await.map_err(|error| ours(&error))?;
        failpoint!(RequeueMoved);
        tx.finish(context.outbox, &rows, &passed).await
    };
    let (claim, deleted) = FencedTransaction::run(shared, context.source, &context.claim, transact).await?;
    failpoint!(RequeueCommitted);
    for (record, generation, class, cause) in &lost {
        let correlation_id = record.headers.text("correlation-id").unwrap_or_default();
        letters::died(shared, record, *generation, *class, cause, (None, correlation_id));
    }
    for (outcome, count) in [("moved", counts.moved), ("dead", counts.dead), ("ignored", counts.ignored)] {
        counter!(RECORDS, "group" => shared.settings.group.clone(), "topic" => context.source.topic.to_string(),
            "outcome" => outcome)
        .increment(u64::try_from(count).unwrap_or(0));
    }
    // Once a lane: each reads its chains anew.
    let lanes: HashSet<&TopicPartition> = requeued.iter().map(|back| &back.record.source).collect();
    lanes.into_iter().for_each(|source| shared.wake_requeued(source));
    Ok(Committed {
        claim,
        rows,
        deleted,
        done: Vec::new(),
        waiting: Vec::new(),
        observed: Vec::new(),
        unreachable: None,
        slow: Vec::new(),
        old: (0, 0),
        reached: false,
        all_ignored: false,
    })
}

/// How many partitions each topic of the group has, for as far as it is known.
async fn partitions<H: Handler>(shared: &Shared<H>) -> Result<HashMap<String, i32>, BatchError> {
    let counts = shared.topics.counts().await;
    counts.map_err(BatchError::Unreachable)
}

/// Of the letters in the batch, those whose whole contents the database keeps.
async fn kept<H: Handler>(shared: &Shared<H>, taken: &[Item]) -> Result<HashSet<Uuid>, BatchError> {
    let ids: Vec<Uuid> = taken.iter().filter_map(|one| Some(PutBack::of(&one.record)?.id)).collect();
    let connection = Connection::get(&shared.pool).await?;
    let kept = retry::kept_bodies(&*connection, &shared.settings.group, &ids);
    Ok(connection.read(&shared.settings.limits, kept).await?)
}

/// What a requeued record says of itself even where the rest cannot be read.
struct PutBack {
    /// The letter it was put back from.
    id: Uuid,
    generation: u32,
}

impl PutBack {
    fn of(record: &Record) -> Option<Self> {
        let id = record.headers.text("dlq.id")?.parse().ok()?;
        let generation = record.headers.text("dlq.generation").and_then(|text| text.parse().ok());
        Some(Self { id, generation: generation.unwrap_or(1) })
    }
}

/// The record as it first was, and the generation it was to run as, where its headers say so; else as it lies here.
fn as_it_was(record: &Record) -> (Record, u32) {
    let Ok(letter) = DeadLetter::from_headers(&record.headers) else { return (record.clone(), 1) };
    let first = Record {
        source: letter.origin,
        offset: letter.offset,
        timestamp_ms: letter.timestamp_ms,
        ..record.clone()
    };
    (first, letter.generation.max(1))
}

/// The record as it first was, from what its headers say.
fn origin(
    record: &Record,
    group: &str,
    partitions: &HashMap<String, i32>,
    kept: &HashSet<Uuid>,
) -> Result<Requeued, Cause> {
    let letter = DeadLetter::from_headers(&record.headers)
        .map_err(|error| Cause::from_error("requeue-headers", &error))?;
    if letter.group != group {
        let message = format!("it died in group {}, this is {group}", letter.group);
        return Err(Cause::new("requeue-group", message));
    }
    let TopicPartition { topic, partition } = &letter.origin;
    let Some(count) = partitions.get(&**topic) else {
        let message = format!("{group} does not read topic {topic}, where it first came from");
        return Err(Cause::new("requeue-topic", message));
    };
    if !(0..*count).contains(partition) {
        let message = format!("topic {topic} has {count} partitions, and it came from partition {partition}");
        return Err(Cause::new("requeue-partition", message));
    }
    if letter.generation < 2 {
        let message = format!("generation {} is not one of a requeued record", letter.generation);
        return Err(Cause::new("requeue-generation", message));
    }
    if let Some(truncated) = letter.truncated.filter(|_| !kept.contains(&letter.id)) {
        let message = format!(
            "only the beginning of its {} bytes was kept; the whole of it is in {} at offset {}, for as long as that topic \
             keeps it",
            truncated.bytes, letter.origin, letter.offset
        );
        return Err(Cause::new("requeue-body", message));
    }
    Ok(Requeued {
        record: Record {
            source: letter.origin,
            offset: letter.offset,
            timestamp_ms: letter.timestamp_ms,
            key: record.key.clone(),
            value: record.value.clone(),
            headers: own_headers(&record.headers),
        },
        event_id: letter.event_id,
        generation: i32::try_from(letter.generation).unwrap_or(i32::MAX),
        requeued_from: letter.id,
    })
}
