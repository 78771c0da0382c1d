//! What alike failures have in common.

use sha2::{Digest, Sha256};

use crate::letter::Class;

/// Sixteen hex digits that are the same for failures that differ only in ids, numbers and addresses.
///
/// Every run of letters and digits that holds a digit, with the `-`, `:` and `.` inside it, counts as one variable
/// word: UUIDs, amounts, offsets, timestamps, `10.0.0.7:5432`, `0x7f3a`. Words without a digit are kept, so a different
/// sentence is a different failure.
pub fn fingerprint(class: Class, code: &str, message: &str) -> String {
    let mut hash = Sha256::new();
    hash.update(class.as_str());
    hash.update([0]);
    hash.update(code);
    hash.update([0]);
    hash.update(normalise(message));
    hash.finalize()[..8].iter().map(|byte| format!("{byte:02x}")).collect()
}

fn normalise(message: &str) -> String {
    let joins = |c: char| c.is_alphanumeric() || matches!(c, '-' | ':' | '.' | '_');
    let mut out = String::with_capacity(message.len());
    let mut rest = message;
    while let Some(first) = rest.chars().next() {
        if !joins(first) {
            out.push(first);
            rest = &rest[first.len_utf8()..];
            continue;
        }
        let end = rest.find(|c| !joins(c)).unwrap_or(rest.len());
        // The full stop or colon that ends a clause belongs to the sentence, not to the word.
        let word = rest[..end].trim_end_matches(['-', ':', '.', '_']);
        if word.chars().any(|c| c.is_ascii_digit()) {
            out.push('#');
        } else {
            out.push_str(word);
        }
        out.push_str(&rest[word.len()..end]);
        rest = &rest[end..];
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ids_numbers_and_addresses_do_not_matter() {
        let of = |message| fingerprint(Class::Permanent, "declined", message);
        let same = [
            "order 0196b7a2-7c1e-7d61-8a53-3ffb2e0e3f11: 120 cents at 10.0.0.7:5432, byte 0x7f3a.",
            "order f47ac10b-58cc-4372-a567-0e02b2c3d479: 7 cents at 192.168.1.1:80, byte 0x1.",
        ];
        assert_eq!(of(same[0]), of(same[1]));
        assert_ne!(of(same[0]), of("order is closed"));
    }

    proptest! {
        /// Whatever the ids, numbers and addresses in a sentence are, its fingerprint is the same; another word makes another.
        #[test]
        fn only_words_matter(
            ids in prop::array::uniform2(any::<u128>()),
            numbers in prop::array::uniform2(any::<i64>()),
            ports in prop::array::uniform2(any::<u16>()),
            word in "[a-z]{1,12}",
        ) {
            let sentence = |at: usize, word: &str| {
                let id = uuid::Uuid::from_u128(ids[at]);
                format!("order {id} was {word}: {} cents, from 10.0.0.7:{}, 0x{:x}.", numbers[at], ports[at], ports[at])
            };
            let of = |message: &str| fingerprint(Class::Exhausted, "code", message);
            prop_assert_eq!(of(&sentence(0, &word)), of(&sentence(1, &word)));
            prop_assert_ne!(of(&sentence(0, &word)), of(&sentence(0, &format!("{word}x"))));
        }

        #[test]
        fn any_text_has_one(message in ".{0,200}") {
            prop_assert_eq!(fingerprint(Class::Poison, "c", &message).len(), 16);
        }
    }

    #[test]
    fn another_class_or_code_is_another_failure() {
        let base = fingerprint(Class::Poison, "a", "m");
        assert_ne!(base, fingerprint(Class::Crash, "a", "m"));
        assert_ne!(base, fingerprint(Class::Poison, "b", "m"));
        assert_eq!(base.len(), 16);
    }
}
