//! The ids of spans, as functions of what they are about.
//!
//! They have to be the same in every process and every version, since one links to what another told: neither the words below nor the
//! way they are mixed may change. Within a trace of some dozen spans 64 well-mixed bits do not collide.

use uuid::Uuid;

/// The span in which `group` applied an event: one, whichever attempt and generation it took, so that what the event causes has the
/// same parent however it came to it.
pub(crate) fn applied(trace_id: u128, group: &str, event_id: Uuid) -> u64 {
    Mix::of(trace_id, "applied")
        .bytes(group.as_bytes())
        .word(event_id.as_u64_pair().0)
        .word(event_id.as_u64_pair().1)
        .end()
}

/// The span of an attempt that failed and was not the last: the `number`-th of its generation, from 1.
pub(crate) fn attempt(trace_id: u128, group: &str, event_id: Uuid, generation: u32, number: u32) -> u64 {
    let (high, low) = event_id.as_u64_pair();
    let mix = Mix::of(trace_id, "attempt").bytes(group.as_bytes()).word(high).word(low);
    mix.word(generation.into()).word(number.into()).end()
}

/// The span of a death. The dead letter's id names record, group and generation.
pub(crate) fn death(trace_id: u128, dead_letter_id: Uuid) -> u64 {
    let (high, low) = dead_letter_id.as_u64_pair();
    Mix::of(trace_id, "death").word(high).word(low).end()
}

/// The span of a record whose event had its outcome before: one for each place and generation it came in.
pub(crate) fn seen(trace_id: u128, group: &str, place: Uuid, generation: u32) -> u64 {
    let (high, low) = place.as_u64_pair();
    Mix::of(trace_id, "seen").bytes(group.as_bytes()).word(high).word(low).word(generation.into()).end()
}

/// The span of a try that found the domain not ready, at this time in milliseconds. Nothing links to it.
pub(crate) fn wait(trace_id: u128, group: &str, event_id: Uuid, at_ms: i64) -> u64 {
    let (high, low) = event_id.as_u64_pair();
    Mix::of(trace_id, "wait").bytes(group.as_bytes()).word(high).word(low).word(at_ms.cast_unsigned()).end()
}

/// What turns the id of a span into that of the span that sends what it emits, and back: see [`passing`](super::passing).
pub(super) fn sending(trace_id: u128, topic: &str, key: Option<&[u8]>, value: Option<&[u8]>) -> u64 {
    let mix = Mix::of(trace_id, "send").bytes(topic.as_bytes());
    mix.bytes(key.unwrap_or_default()).bytes(value.unwrap_or_default()).end()
}

/// Eight bytes at a time: an id is made for each record that is emitted.
struct Mix(u64);

impl Mix {
    fn of(trace_id: u128, what: &str) -> Self {
        let trace = trace_id.to_be_bytes();
        Self(0x9e37_79b9_7f4a_7c15).bytes(&trace).bytes(what.as_bytes())
    }

    fn word(self, word: u64) -> Self {
        let mixed = (self.0 ^ word).wrapping_mul(0xff51_afd7_ed55_8ccd);
        Self(mixed ^ (mixed >> 32))
    }

    /// With their length: what is joined differently is different.
    fn bytes(self, bytes: &[u8]) -> Self {
        let (words, rest) = bytes.as_chunks::<8>();
        let mixed = words.iter().fold(self, |mix, word| mix.word(u64::from_le_bytes(*word)));
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        mixed.word(u64::from_le_bytes(last)).word(u64::try_from(bytes.len()).unwrap_or(u64::MAX))
    }

    /// Never 0, which is no id.
    fn end(self) -> u64 {
        let mixed = (self.0 ^ (self.0 >> 29)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
        (mixed ^ (mixed >> 32)).max(1)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    const TRACE: u128 = 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736;
    const EVENT: Uuid = Uuid::from_u128(0x0192_5a3e_1111_7222_8333_4444_5555_6666);

    /// Versions that run side by side link to each other: these may never change.
    #[test]
    fn ids_are_what_they_were() {
        assert_eq!(
            [
                applied(TRACE, "payments-service", EVENT),
                attempt(TRACE, "payments-service", EVENT, 1, 2),
                death(TRACE, EVENT),
                seen(TRACE, "payments-service", EVENT, 1),
                wait(TRACE, "payments-service", EVENT, 1_790_000_000_000),
                sending(TRACE, "orders", Some(b"key"), Some(b"a value of some length")),
            ],
            [
                0xb579_21ab_363f_4b25,
                0x6cf3_1478_c877_1d8d,
                0x04f4_34f1_cd54_2ccc,
                0x77ee_084c_508d_cb5c,
                0xfc84_e555_95cf_2a68,
                0xac6d_837f_1657_61ed
            ]
        );
    }

    #[test]
    fn whatever_differs_gives_another_id() {
        let other = Uuid::from_u128(EVENT.as_u128() + 1);
        let mut ids = HashSet::new();
        let mut count = 0;
        for trace in [TRACE, TRACE + 1, TRACE ^ (1 << 127)] {
            for group in ["a", "b", "", "payments-service", "payments-servicf"] {
                for event in [EVENT, other] {
                    ids.extend([
                        applied(trace, group, event),
                        seen(trace, group, event, 1),
                        seen(trace, group, event, 2),
                    ]);
                    ids.extend((1..4).flat_map(|generation| {
                        (1..50).map(move |number| attempt(trace, group, event, generation, number))
                    }));
                    ids.extend([wait(trace, group, event, 5), wait(trace, group, event, 6)]);
                    count += 3 + 3 * 49 + 2;
                }
            }
            for value in [None, Some(&b"a"[..]), Some(b"a\0"), Some(b"aaaaaaaa"), Some(b"aaaaaaaaa")] {
                ids.extend([sending(trace, "t", value, None), sending(trace, "u", Some(b"k"), value)]);
                count += 2;
            }
            ids.extend([death(trace, EVENT), death(trace, other)]);
            count += 2;
        }
        assert_eq!(ids.len(), count);
        assert!(!ids.contains(&0));
    }
}
