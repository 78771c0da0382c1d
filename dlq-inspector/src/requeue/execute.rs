//! Puts letters back: each with its line in the ledger, in one transaction.

use dead_letters::{Action, DeadLetter, Entry, Headers, requeue_topic};
use uuid::Uuid;

use super::{plan::Item, report::Report};
use crate::{
    act::{NotWritten, Put, Record, Session, Work, Writer},
    kafka::Kafka,
    snapshot::{Fetched, Place, fetch},
};

/// Puts batches back and tells the report.
#[derive(Debug)]
pub(super) struct Putting<'s, 'r, 'o> {
    pub(super) session: &'s Session<'s>,
    pub(super) report: &'r mut Report<'o>,
}

/// A letter with what goes to Kafka.
#[derive(Debug)]
struct Ready<'i> {
    item: &'i Item,
    record: Fetched,
    headers: Headers,
    entry: Entry,
}

impl Work<Item> for Putting<'_, '_, '_> {
    fn batch(
        &mut self,
        writer: &Writer,
        group: &str,
        batch: Vec<&Item>,
    ) -> anyhow::Result<Result<(), NotWritten>> {
        let ready = self.ready(batch)?;
        Ok(self.write(writer, group, &ready))
    }

    fn failed(&mut self, id: Uuid, why: &str) -> anyhow::Result<()> {
        self.report.failed(id, why)
    }
}

impl Putting<'_, '_, '_> {
    /// Fetches the bodies; a letter that is gone is left.
    fn ready<'i>(&mut self, batch: Vec<&'i Item>) -> anyhow::Result<Vec<Ready<'i>>> {
        let kafka = self.session.kafka;
        let places: Vec<_> = batch.iter().map(|item| item.place.clone()).collect();
        let mut records = fetch(kafka, &places)?;
        let mut ready = Vec::with_capacity(batch.len());
        for item in batch {
            let record = records.remove(&item.place);
            let letter = record.as_ref().and_then(|record| DeadLetter::from_headers(&record.headers).ok());
            match (record, letter) {
                (Some(record), Some(letter)) if letter.id == item.id => {
                    let letter = DeadLetter { generation: item.generation, ..letter };
                    let headers = letter.to_headers(&record.headers);
                    let entry = self.session.entry(item, Action::Requeue { generation: item.generation });
                    ready.push(Ready { item, record, headers, entry });
                }
                (None, _) => self.report.failed(item.id, &why_gone(kafka, &item.place))?,
                (Some(_), _) => {
                    let why = "another record lies where its dead letter was: the topic was made anew";
                    self.report.failed(item.id, why)?;
                }
            }
        }
        Ok(ready)
    }

    fn write(&mut self, writer: &Writer, group: &str, ready: &[Ready<'_>]) -> Result<(), NotWritten> {
        if ready.is_empty() {
            return Ok(());
        }
        let topic = requeue_topic(group);
        let partitions = self.session.kafka.partitions(&topic).unwrap_or(1).max(1);
        let puts: Vec<_> = ready.iter().map(|ready| ready.put(&topic, partitions)).collect();
        let mut written = Vec::new();
        let mut unknown = Vec::new();
        let mut end = Ok(());
        for (ready, result) in ready.iter().zip(writer.write(&puts)) {
            match result {
                Ok(()) => written.push(ready.item),
                Err(NotWritten::Refused(why)) => self.report.note_failed(ready.item.id, &why),
                Err(other) => {
                    if let NotWritten::Unknown(_) = other {
                        unknown.push(ready.item.id);
                    }
                    end = Err(other);
                }
            }
        }
        self.report.note_unknown(unknown);
        self.report.note_requeued(&written, self.session.id);
        end
    }
}

impl Ready<'_> {
    fn put<'a>(&'a self, topic: &'a str, partitions: i32) -> Put<'a> {
        let record = Record {
            topic,
            partition: self.item.origin.partition.rem_euclid(partitions),
            key: self.record.key.as_deref(),
            value: self.record.value.as_deref(),
            headers: &self.headers,
        };
        Put { record: Some(record), entry: &self.entry }
    }
}

/// Why there is no record at a place where one was.
fn why_gone(kafka: &Kafka, place: &Place) -> String {
    let Place { topic, partition, offset } = place;
    match kafka.gaps().iter().find(|gap| gap.holds(topic, *partition, *offset)) {
        Some(gap) => format!("its dead letter cannot be read any more: {gap}"),
        None => "its dead letter is gone: retention deleted it".to_owned(),
    }
}
