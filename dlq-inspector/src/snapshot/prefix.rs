//! Ids as people type them: the beginning of one is enough while it is unique.

use std::{fmt, str::FromStr};

use uuid::Uuid;

use crate::exit::Problem;

/// The beginning of an id, with or without its hyphens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prefix {
    digits: String,
}

impl FromStr for Prefix {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let digits: String = text.chars().filter(|c| *c != '-').map(|c| c.to_ascii_lowercase()).collect();
        if digits.is_empty() || digits.len() > 32 || !digits.chars().all(|c| c.is_ascii_hexdigit()) {
            return Err(format!("{text:?} is no id and no beginning of one"));
        }
        Ok(Self { digits })
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.digits)
    }
}

impl Prefix {
    /// Whether `id` begins so.
    pub fn matches(&self, id: Uuid) -> bool {
        let mut buffer = [0; 32];
        id.as_simple().encode_lower(&mut buffer).starts_with(&self.digits)
    }
}

/// What a prefix stands for among the ids there are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resolved {
    /// One id.
    One(Uuid),
    /// No id.
    None,
    /// Several, in order.
    Many(Vec<Uuid>),
}

/// Finds what `prefix` stands for among `ids`, which may repeat.
pub fn resolve(prefix: &Prefix, ids: impl IntoIterator<Item = Uuid>) -> Resolved {
    let mut found: Vec<_> = ids.into_iter().filter(|id| prefix.matches(*id)).collect();
    found.sort_unstable();
    found.dedup();
    match found[..] {
        [] => Resolved::None,
        [one] => Resolved::One(one),
        _ => Resolved::Many(found),
    }
}

/// The error that lists what an ambiguous beginning may mean.
pub fn ambiguous(prefix: &Prefix, ids: &[Uuid]) -> Problem {
    let mut list: Vec<_> = ids.iter().take(10).map(Uuid::to_string).collect();
    if ids.len() > list.len() {
        list.push("…".into());
    }
    Problem::Usage(format!("{prefix} is the beginning of {} ids:\n  {}", ids.len(), list.join("\n  ")))
}

/// How many characters of an id, hyphens counted, tell each of `shown` apart from every one of `all`; 8 at least.
pub fn short_len(all: &[Uuid], shown: impl IntoIterator<Item = Uuid>) -> usize {
    let mut sorted = all.to_vec();
    sorted.sort_unstable();
    sorted.dedup();
    let mut digits = 8;
    for id in shown {
        let at = sorted.partition_point(|other| *other < id);
        let before = at.checked_sub(1).and_then(|i| sorted.get(i));
        let after = sorted[at..].iter().find(|other| **other != id);
        for other in before.into_iter().chain(after) {
            digits = digits.max(common_digits(id, *other) + 1);
        }
    }
    // Hyphens stand after digits 8, 12, 16 and 20.
    let digits = digits.min(32);
    digits + [8, 12, 16, 20].iter().filter(|at| digits > **at).count()
}

fn common_digits(a: Uuid, b: Uuid) -> usize {
    ((a.as_u128() ^ b.as_u128()).leading_zeros() / 4) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> Uuid {
        Uuid::parse_str(text).expect("a UUID")
    }

    const A: &str = "12345678-9abc-5def-8000-000000000001";
    const B: &str = "12345678-9abd-5def-8000-000000000002";
    const C: &str = "ff345678-9abd-5def-8000-000000000002";

    #[test]
    fn a_unique_beginning_is_enough() {
        let all = [id(A), id(B), id(C), id(C)];
        let of = |text: &str| resolve(&text.parse().expect("hex"), all);
        assert_eq!(of("ff"), Resolved::One(id(C)), "twins are one");
        assert_eq!(of("12345678-9ABC"), Resolved::One(id(A)));
        assert_eq!(of("123456789abd"), Resolved::One(id(B)));
        assert_eq!(of(A), Resolved::One(id(A)));
        assert_eq!(of("0"), Resolved::None);
        assert_eq!(of("1"), Resolved::Many(vec![id(A), id(B)]));
        for bad in ["", "-", "xyz", "123456789012345678901234567890123"] {
            assert!(bad.parse::<Prefix>().is_err(), "{bad}");
        }
    }

    #[test]
    fn shown_ids_are_long_enough_to_be_typed_back() {
        let all = [id(A), id(B), id(C)];
        assert_eq!(short_len(&all, [id(C)]), 8);
        let len = short_len(&all, [id(A)]);
        assert_eq!(&A[..len], "12345678-9abc");
        assert_eq!(short_len(&[], []), 8);
        let last = id("12345678-9abc-5def-8000-000000000002");
        assert_eq!(short_len(&[id(A), last], [last]), 36);
    }
}
