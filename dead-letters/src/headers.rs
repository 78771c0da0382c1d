//! Record headers, kept in one buffer.
//!
//! A record's headers cross three borders: Kafka, a `bytea` column, a dead-letter topic. One encoding serves
//! them all and costs one allocation: for each header `u16` name length, name, `u32` value length (`u32::MAX`
//! for a null value), value; integers big-endian. A name that is longer than 65,535 bytes stands after a header without
//! a name whose value length is `u32::MAX - 1`, with a `u32` length of its own. Kafka allows a name to repeat and so
//! does this; names are bytes, since records hold such that are not UTF-8.

use rdkafka::message::OwnedHeaders;
use thiserror::Error;

const NULL: u32 = u32::MAX;
/// A long name follows.
const LONG: u32 = u32::MAX - 1;

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

    /// Adds a header at the end.
    pub fn push(&mut self, name: impl AsRef<[u8]>, value: Option<&[u8]>) {
        let name = name.as_ref();
        match u16::try_from(name.len()) {
            Ok(len) => self.0.extend_from_slice(&len.to_be_bytes()),
            Err(_) => {
                self.0.extend_from_slice(&0u16.to_be_bytes());
                self.0.extend_from_slice(&LONG.to_be_bytes());
                // No record holds 4 GiB.
                self.0.extend_from_slice(&u32::try_from(name.len()).unwrap_or(u32::MAX).to_be_bytes());
            }
        }
        self.0.extend_from_slice(name);
        match value.map(|v| (v, u32::try_from(v.len()))) {
            Some((v, Ok(len))) if len < LONG => {
                self.0.extend_from_slice(&len.to_be_bytes());
                self.0.extend_from_slice(v);
            }
            _ => self.0.extend_from_slice(&NULL.to_be_bytes()),
        }
    }

    /// Writes `value` over the last value of `name`, where that has the same length: what follows stays in its place. False where
    /// there is none of that length.
    pub fn replace(&mut self, name: &str, value: &[u8]) -> bool {
        let (mut at, mut found) = (0, None);
        while let Some((this, there, next)) = entry(&self.0, at) {
            at = next;
            if this == name.as_bytes() {
                found = there.map(|there| next - there.len()..next);
            }
        }
        match found.filter(|range| range.len() == value.len()) {
            Some(range) => {
                self.0[range].copy_from_slice(value);
                true
            }
            None => false,
        }
    }

    /// The headers in order.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], Option<&[u8]>)> {
        let mut at = 0;
        std::iter::from_fn(move || {
            let (name, value, next) = entry(&self.0, at)?;
            at = next;
            Some((name, value))
        })
    }

    /// The last value of `name`, as Kafka clients read a repeated header.
    pub fn last(&self, name: &str) -> Option<&[u8]> {
        self.iter().filter(|(n, _)| *n == name.as_bytes()).last().and_then(|(_, v)| v)
    }

    /// The last value of `name` as text; `None` when it is absent or not UTF-8.
    pub fn text(&self, name: &str) -> Option<&str> {
        std::str::from_utf8(self.last(name)?).ok()
    }
}

impl Headers {
    /// The headers of a record read from Kafka, byte for byte, as far as [`kafka_headers`] can read them.
    pub fn from_kafka<M: rdkafka::Message<Headers: kafka_headers::Readable>>(message: &M) -> Self {
        let mut read = Self::new();
        if let Some(headers) = message.headers() {
            kafka_headers::read(headers, |name, value| read.push(name, value));
        }
        read
    }

    /// The headers for a record to be written to Kafka.
    pub fn to_kafka(&self) -> OwnedHeaders {
        kafka_headers::write(self.iter())
    }
}

impl<'a, N: AsRef<[u8]>> FromIterator<(N, Option<&'a [u8]>)> for Headers {
    fn from_iter<I: IntoIterator<Item = (N, Option<&'a [u8]>)>>(iter: I) -> Self {
        let mut headers = Self::new();
        for (name, value) in iter {
            headers.push(name, value);
        }
        headers
    }
}

/// A header's name and value, and where the next one begins.
type RawHeader<'a> = (&'a [u8], Option<&'a [u8]>, usize);

fn entry(bytes: &[u8], at: usize) -> Option<RawHeader<'_>> {
    let name_len = usize::from(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?));
    let (name, at) = part(bytes, at + 2, name_len)?;
    let (len, at) = length(bytes, at)?;
    match len {
        LONG if name.is_empty() => {
            let (name_len, at) = length(bytes, at)?;
            let (name, at) = part(bytes, at, usize::try_from(name_len).ok()?)?;
            let (len, at) = length(bytes, at)?;
            value(bytes, name, at, len)
        }
        len => value(bytes, name, at, len),
    }
}

fn value<'a>(bytes: &'a [u8], name: &'a [u8], at: usize, len: u32) -> Option<RawHeader<'a>> {
    if len == NULL {
        return Some((name, None, at));
    }
    let (value, at) = part(bytes, at, usize::try_from(len).ok()?)?;
    Some((name, Some(value), at))
}

fn length(bytes: &[u8], at: usize) -> Option<(u32, usize)> {
    Some((u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?), at + 4))
}

fn part(bytes: &[u8], at: usize, len: usize) -> Option<(&[u8], usize)> {
    let end = at.checked_add(len)?;
    Some((bytes.get(at..end)?, end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_written_over_by_one_of_its_length_alone() {
        let mut headers =
            Headers::from_iter([("a", Some(&b"12"[..])), ("b", None), ("a", Some(b"34")), ("c", Some(b"5"))]);
        assert!(headers.replace("a", b"xy"));
        assert!(!headers.replace("a", b"long") && !headers.replace("b", b"") && !headers.replace("d", b""));
        let list: Vec<_> = headers.iter().map(|(_, value)| value).collect();
        assert_eq!(list, [Some(&b"12"[..]), None, Some(b"xy"), Some(b"5")]);
    }

    #[test]
    fn what_was_pushed_comes_back_in_order() {
        let mut headers = Headers::new();
        headers.push("a", Some(b"1"));
        headers.push("b", None);
        headers.push("a", Some(b""));
        headers.push([0xff, 0, 0xc3], Some(b"odd"));
        let long = vec![b'n'; 70_000];
        headers.push(&long, None);
        headers.push("", Some(b"no name"));
        let back = Headers::from_encoded(headers.encoded().to_vec()).expect("own encoding");
        let list: Vec<_> = back.iter().collect();
        let expected: [(&[u8], Option<&[u8]>); 6] = [
            (b"a", Some(b"1")),
            (b"b", None),
            (b"a", Some(b"")),
            (&[0xff, 0, 0xc3], Some(b"odd")),
            (&long, None),
            (b"", Some(b"no name")),
        ];
        assert_eq!(list, expected);
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
