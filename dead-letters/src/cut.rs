//! What is kept of a record that is too large.

use sha2::{Digest, Sha256};

use crate::{
    codec::{SHA256, TRUNCATED},
    headers::Headers,
};

/// Bytes kept of a key or a value.
pub const KEPT: usize = 64 << 10;
/// Bytes of headers up to which they are kept.
const HEADERS_KEPT: usize = 256 << 10;

/// A record's contents.
#[derive(Clone, Copy, Debug)]
pub struct Whole<'a> {
    pub key: Option<&'a [u8]>,
    pub value: Option<&'a [u8]>,
    pub headers: &'a Headers,
}

/// What is left of it. Its headers say how long the value was, and what it hashed to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    pub key: Option<Box<[u8]>>,
    pub value: Option<Box<[u8]>>,
    pub headers: Headers,
}

impl Whole<'_> {
    /// Bytes of all of it.
    pub fn size(&self) -> usize {
        let len = |part: Option<&[u8]>| part.map_or(0, <[u8]>::len);
        len(self.key) + len(self.value) + self.headers.encoded().len()
    }

    /// What is kept of it where it has more than `limit` bytes.
    pub fn within(&self, limit: usize) -> Option<Cut> {
        (self.size() > limit).then(|| self.cut())
    }

    /// Whether a cut would make it smaller.
    pub fn is_large(&self) -> bool {
        let over = |part: Option<&[u8]>| part.is_some_and(|part| part.len() > KEPT);
        over(self.key) || over(self.value) || self.headers.encoded().len() > HEADERS_KEPT
    }

    /// The beginning of key and value, and the headers unless they are large themselves.
    pub fn cut(&self) -> Cut {
        let begin = |part: &[u8]| part[..part.len().min(KEPT)].into();
        let small = self.headers.encoded().len() <= HEADERS_KEPT;
        let mut headers = if small { self.headers.clone() } else { Headers::new() };
        let value = self.value.unwrap_or_default();
        headers.push(TRUNCATED, Some(value.len().to_string().as_bytes()));
        headers.push(SHA256, Some(sha256(value).as_bytes()));
        Cut { key: self.key.map(begin), value: self.value.map(begin), headers }
    }
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_cut_only_beyond_its_limit_and_says_what_it_was() {
        let headers: Headers = [("a", Some(&b"1"[..]))].into_iter().collect();
        let (key, value) = (vec![1; KEPT + 1], vec![2; KEPT + 7]);
        let whole = Whole { key: Some(&key), value: Some(&value), headers: &headers };
        assert_eq!(whole.within(whole.size()), None);
        let cut = whole.within(whole.size() - 1).expect("over the limit");
        let len = |part: &Option<Box<[u8]>>| part.as_deref().map(<[u8]>::len);
        assert_eq!((len(&cut.key), len(&cut.value)), (Some(KEPT), Some(KEPT)));
        assert_eq!((cut.headers.text("a"), cut.headers.text(TRUNCATED)), (Some("1"), Some("65543")));
        assert_eq!(cut.headers.text(SHA256).map(str::len), Some(64));
        let left = Whole { key: cut.key.as_deref(), value: cut.value.as_deref(), headers: &cut.headers };
        assert!(whole.is_large() && !left.is_large());
    }
}
