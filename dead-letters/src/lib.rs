//! The wire between consumers, inspector and audit. It knows Kafka alone.
//!
//! A dead letter's key and value are the original bytes; everything else is in `dlq.*` headers, so that any Kafka tool can read
//! one. This is the codec that both sides share: consumers write dead letters, the inspector reads them, and neither needs to know
//! the other. What was done with them stands in a ledger, the topic [`ACTIONS_TOPIC`].

mod client;
mod codec;
mod complaints;
mod cut;
mod errors;
mod fingerprint;
mod headers;
mod ledger;
mod letter;
mod place;
mod reader;
mod unreadable;

pub use self::{
    client::{KafkaSettings, PropertyError, client_config},
    codec::{BadDeadLetter, DeadLetter, Truncated, own_headers},
    cut::{Cut, KEPT, Whole},
    errors::one_line,
    fingerprint::fingerprint,
    headers::{Headers, MalformedHeaders},
    ledger::{Action, Entry, RequeueOutcome, note_id},
    letter::{ACTIONS_TOPIC, Class, LETTER_MAX, MAX_ERROR, dlq_topic, group_of, letter_id, requeue_topic},
    place::{NextOffset, Offset, TopicPartition},
    reader::{Given, ReadError, Span, TopicReader, Unread},
    unreadable::is_unreadable,
};
