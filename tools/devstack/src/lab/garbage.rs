//! Records that nobody can use, and of which every reader has to make a dead letter.

use anyhow::Result;
use contracts::topics::{DELIVERIES, ORDERS, PAYMENTS};
use futures_util::future::try_join_all;
use rand::{Rng as _, RngCore as _, SeedableRng as _, rngs::StdRng};
use uuid::Uuid;

use crate::clients::topics::{Produced, produce};

/// More than a record may be when it is unpacked (`RECORD_MAX_BYTES`, 16 MiB); packed it is small enough for any topic.
const OVERSIZED: usize = 17 << 20;

/// Where a record is.
pub(super) type Place = (String, i32, i64);

/// Publishes garbage of each kind to each topic, some of it under the key of `order`; where it all is.
///
/// # Errors
/// When Kafka does not take it.
pub(super) async fn publish(brokers: &str, seed: u64, order: Option<Uuid>) -> Result<Vec<Place>> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut bytes = vec![0; random.random_range(1..2_000)];
    random.fill_bytes(&mut bytes);
    // No JSON begins so, whatever is drawn.
    bytes[0] = 0xff;
    let stranger = uuid(&mut random);
    let broken = format!(r#"{{"event_id":"{stranger}","event_type":"ORDER_CREA"#).into_bytes();
    let key = || format!("garbage-{}", Uuid::new_v4());
    let mut records = vec![(ORDERS, key(), vec![b'x'; OVERSIZED], "gzip")];
    for topic in [ORDERS, PAYMENTS, DELIVERIES] {
        records.push((topic, key(), bytes.clone(), "none"));
        records.push((topic, order.map_or_else(key, |order| order.to_string()), broken.clone(), "none"));
        records.push((topic, key(), wrong_key(topic, uuid(&mut random)), "none"));
    }
    let put =
        records.iter().map(|(topic, key, value, compression)| put(brokers, topic, key, value, compression));
    try_join_all(put).await
}

async fn put(brokers: &str, topic: &str, key: &str, value: &[u8], compression: &str) -> Result<Place> {
    let record = Produced { key: Some(key), value: Some(value), compression, ..Produced::default() };
    let (partition, offset) = produce(brokers, topic, &record).await?;
    Ok((topic.to_owned(), partition, offset))
}

fn uuid(random: &mut StdRng) -> Uuid {
    uuid::Builder::from_random_bytes(random.random()).into_uuid()
}

/// An event as it should be, of an order that there is not, under a key that is not its order's.
fn wrong_key(topic: &str, order: Uuid) -> Vec<u8> {
    let (event_type, fields) = match topic {
        ORDERS => ("ORDER_CREATED", r#""customer_id":"c","item":"pizza","quantity":1,"amount_cents":5"#),
        PAYMENTS => ("PAYMENT_SUCCESS", r#""amount_cents":5,"provider_reference":"ch_x""#),
        _ => ("DELIVERY_FAILED", r#""reason":"nobody""#),
    };
    format!(
        r#"{{"event_id":"{}","event_type":"{event_type}","version":1,"occurred_at":"2026-09-21T14:13:20Z","correlation_id":"garbage",
            "causation_id":null,"payload":{{"order_id":"{order}","order_version":1,{fields}}}}}"#,
        Uuid::new_v4()
    )
    .into_bytes()
}

#[cfg(test)]
mod tests {
    use contracts::{Envelope, Parsed};

    use super::*;

    #[test]
    fn under_a_wrong_key_stands_an_event_that_is_well_formed() {
        for topic in [ORDERS, PAYMENTS, DELIVERIES] {
            let order = Uuid::new_v4();
            match Envelope::parse(&wrong_key(topic, order)) {
                Ok(Parsed::Event(event)) => {
                    assert_eq!((event.event.topic(), event.event.order_id()), (topic, order));
                }
                other => panic!("{topic}: {other:?}"),
            }
        }
    }
}
