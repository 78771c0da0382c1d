//! Record headers, kept in one buffer.
//!
//! A record's headers cross three borders: Kafka, a `bytea` column, a dead-letter topic. One encoding serves
//! them all and costs one allocation: for each header `u16` name length, name, `u32` value length (`u32::MAX`
//! for a null value), value; integers big-endian. Kafka allows a name to repeat and so does this.

use thiserror::Error;

const NULL: u32 = u32::MAX;

/// An ordered list of named values, a name may repeat.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Headers(Vec<u8>);

/// The stored bytes are no header list.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("stored headers are malformed at byte {at}")]
pub struct MalformedHeaders {
    /// Where reading stopped.
    pub at: usize,
}

impl Headers {
    /// No headers.
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// Reads what [`Headers::encoded`] gave.
    pub fn from_encoded(bytes: Vec<u8>) -> Result<Self, MalformedHeaders> {
        let mut at = 0;
        while at < bytes.len() {
            at = entry(&bytes, at).ok_or(MalformedHeaders { at })?.2;
        }
        Ok(Self(bytes))
    }

    /// The buffer to store.
    pub fn encoded(&self) -> &[u8] {
        &self.0
    }

    /// True when there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds a header at the end. A name longer than 65,535 bytes is cut at a character: Kafka's own limit is
    /// near, and a header must never cost the record.
    pub fn push(&mut self, name: &str, value: Option<&[u8]>) {
        let mut end = name.len().min(usize::from(u16::MAX));
        while !name.is_char_boundary(end) {
            end -= 1;
        }
        let name = &name.as_bytes()[..end];
        self.0.extend_from_slice(&u16::try_from(name.len()).unwrap_or(u16::MAX).to_be_bytes());
        self.0.extend_from_slice(name);
        match value.map(|v| (v, u32::try_from(v.len()))) {
            Some((v, Ok(len))) if len != NULL => {
                self.0.extend_from_slice(&len.to_be_bytes());
                self.0.extend_from_slice(v);
            }
            _ => self.0.extend_from_slice(&NULL.to_be_bytes()),
        }
    }

    /// The headers in order. A name that is not UTF-8 cannot be read from Kafka in the first place.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Option<&[u8]>)> {
        let mut at = 0;
        std::iter::from_fn(move || {
            let (name, value, next) = entry(&self.0, at)?;
            at = next;
            Some((name, value))
        })
    }

    /// The last value of `name`, as Kafka clients read a repeated header.
    pub fn last(&self, name: &str) -> Option<&[u8]> {
        self.iter().filter(|(n, _)| *n == name).last().and_then(|(_, v)| v)
    }

    /// The last value of `name` as text; `None` when it is absent or not UTF-8.
    pub fn text(&self, name: &str) -> Option<&str> {
        std::str::from_utf8(self.last(name)?).ok()
    }
}

impl<'a> FromIterator<(&'a str, Option<&'a [u8]>)> for Headers {
    fn from_iter<I: IntoIterator<Item = (&'a str, Option<&'a [u8]>)>>(iter: I) -> Self {
        let mut headers = Self::new();
        for (name, value) in iter {
            headers.push(name, value);
        }
        headers
    }
}

fn entry(bytes: &[u8], at: usize) -> Option<(&str, Option<&[u8]>, usize)> {
    let name_len = usize::from(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?));
    let at = at + 2;
    let name = std::str::from_utf8(bytes.get(at..at + name_len)?).ok()?;
    let at = at + name_len;
    let len = u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?);
    let at = at + 4;
    if len == NULL {
        return Some((name, None, at));
    }
    let end = at.checked_add(usize::try_from(len).ok()?)?;
    Some((name, Some(bytes.get(at..end)?), end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_pushed_comes_back_in_order() {
        let mut headers = Headers::new();
        headers.push("a", Some(b"1"));
        headers.push("b", None);
        headers.push("a", Some(b""));
        let back = Headers::from_encoded(headers.encoded().to_vec()).expect("own encoding");
        let list: Vec<_> = back.iter().collect();
        assert_eq!(list, [("a", Some(&b"1"[..])), ("b", None), ("a", Some(&b""[..]))]);
        assert_eq!(back.last("a"), Some(&b""[..]), "a repeated header reads as its last value");
        assert_eq!(back.last("b"), None);
    }

    #[test]
    fn a_cut_buffer_is_refused_wherever_it_is_cut() {
        let mut headers = Headers::new();
        headers.push("name", Some(b"value"));
        let whole = headers.encoded();
        for cut in 1..whole.len() {
            assert!(Headers::from_encoded(whole[..cut].to_vec()).is_err(), "cut at {cut}");
        }
    }
}
