//! Order per key, seen from outside: of one order, what a group says because of the records of one topic stands in the order of those
//! records.
//!
//! A group works off one topic's records of a key one after the other, also where one of them is retried, and what it says of each goes
//! the same way out. So the causes of what it says never go back. An event that is told again, as after a crash, counts where it was
//! told first.

use std::collections::{BTreeMap, HashMap, HashSet};

use anyhow::Result;
use contracts::{
    Envelope, Parsed,
    topics::{DELIVERIES, ORDERS, PAYMENTS},
};
use dead_letters::{Span, TopicReader};
use rdkafka::Message as _;
use uuid::Uuid;

use super::garbage::Place;
use crate::clients::topics::{each, reader};

/// An event where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Told {
    topic: &'static str,
    offset: i64,
    order: Uuid,
    id: Uuid,
    cause: Option<Uuid>,
    what: &'static str,
}

/// What of all that was told stands in another order than its causes. Blocks.
///
/// # Errors
/// When the topics cannot be read.
pub(super) fn broken(brokers: &str, garbage: &HashSet<Place>) -> Result<Vec<String>> {
    let mut told = Vec::new();
    let mut reader = reader(brokers)?;
    for topic in [ORDERS, PAYMENTS, DELIVERIES] {
        read(&mut reader, topic, garbage, &mut told)?;
    }
    Ok(out_of_order(&told))
}

fn read(
    reader: &mut TopicReader,
    topic: &'static str,
    garbage: &HashSet<Place>,
    told: &mut Vec<Told>,
) -> Result<()> {
    let partitions: Vec<i32> = reader.partitions(topic)?.into_keys().collect();
    reader.open(topic, partitions.into_iter().map(Span::whole))?;
    each(reader, topic, |record| {
        let (partition, offset) = (record.partition(), record.offset());
        let event = record.payload().map(Envelope::parse);
        if let Some(Ok(Parsed::Event(envelope))) = event
            && !garbage.contains(&(topic.to_owned(), partition, offset))
        {
            told.push(Told {
                topic,
                offset,
                order: envelope.event.order_id(),
                id: envelope.event_id,
                cause: envelope.causation_id,
                what: envelope.event.event_type(),
            });
        }
    })
}

/// Those whose causes go back. Of one order all records of a topic are in one partition, in the order of their offsets.
fn out_of_order(told: &[Told]) -> Vec<String> {
    let mut first: HashMap<Uuid, &Told> = HashMap::new();
    let mut order: Vec<&Told> = told.iter().collect();
    order.sort_by_key(|told| told.offset);
    for one in &order {
        first.entry(one.id).or_insert(one);
    }
    let mut last: BTreeMap<(Uuid, &str, &str), (i64, &str)> = BTreeMap::new();
    let mut broken = Vec::new();
    let mut seen = HashSet::new();
    for one in order {
        if !seen.insert(one.id) {
            continue;
        }
        let Some(cause) = one.cause.and_then(|cause| first.get(&cause)) else { continue };
        let (offset, what) = (cause.offset, one.what);
        match last.insert((one.order, one.topic, cause.topic), (offset, what)) {
            Some((before, other)) if before > offset => broken.push(format!(
                "order {}: {what} at {} offset {}, of {} offset {offset}, comes after {other}, of offset {before}",
                one.order, one.topic, one.offset, cause.topic
            )),
            _ => {}
        }
    }
    broken
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(topic: &'static str, offset: i64, id: u128, cause: Option<u128>) -> Told {
        let (order, id, cause) = (Uuid::nil(), Uuid::from_u128(id), cause.map(Uuid::from_u128));
        Told { topic, offset, order, id, cause, what: "X" }
    }

    #[test]
    fn what_goes_back_is_found_and_what_is_told_again_is_not() {
        let causes = [told(ORDERS, 5, 1, None), told(ORDERS, 9, 2, None), told(PAYMENTS, 100, 3, None)];
        let answers = |of: &[(i64, u128, u128)]| {
            let answers = of.iter().map(|(offset, id, cause)| told(DELIVERIES, *offset, *id, Some(*cause)));
            causes.iter().cloned().chain(answers).collect::<Vec<_>>()
        };
        assert_eq!(out_of_order(&answers(&[(0, 11, 1), (1, 12, 2)])), Vec::<String>::new());
        // Published again by whoever came after a crash; and of another topic, with which there is no order.
        assert_eq!(
            out_of_order(&answers(&[(0, 11, 1), (1, 12, 2), (2, 11, 1), (3, 12, 2)])),
            Vec::<String>::new()
        );
        assert_eq!(out_of_order(&answers(&[(0, 13, 3), (1, 11, 1), (2, 12, 2)])), Vec::<String>::new());
        let found = out_of_order(&answers(&[(0, 12, 2), (1, 11, 1)]));
        assert!(
            found.len() == 1 && found[0].contains("offset 5") && found[0].contains("offset 9"),
            "{found:?}"
        );
        // Of another order.
        let mut other = answers(&[(0, 12, 2), (1, 11, 1)]);
        other[4].order = Uuid::max();
        assert_eq!(out_of_order(&other), Vec::<String>::new());
    }
}
