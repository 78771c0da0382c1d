//! Record headers as bytes.
//!
//! Kafka wants a header's name to be UTF-8 and takes any bytes for one; the client library's own functions panic on a name that
//! is not. A record must come back as it was, and a name must never take its reader down: here names are bytes.
//!
//! Three limits are librdkafka's. It gives a name as a C string: one that holds a NUL is read up to it. It reads at most
//! 100,000 headers of a record, and gives none of a record with more. A record's headers are within its own size limit.
//!
//! This is the only place with `unsafe` in the workspace: two calls of librdkafka's public functions, in [`raw`].

use rdkafka::message::{BorrowedHeaders, OwnedHeaders};

/// Headers that can be read.
pub trait Readable: rdkafka::message::Headers {
    /// As librdkafka knows them.
    fn borrowed(&self) -> &BorrowedHeaders;
}

impl Readable for BorrowedHeaders {
    fn borrowed(&self) -> &BorrowedHeaders {
        self
    }
}

impl Readable for OwnedHeaders {
    fn borrowed(&self) -> &BorrowedHeaders {
        self.as_borrowed()
    }
}

/// Gives each header to `each`, in order: its name, and its value if it is not null.
pub fn read<H: Readable>(headers: &H, mut each: impl FnMut(&[u8], Option<&[u8]>)) {
    let headers = headers.borrowed();
    let mut at = 0;
    while let Some((name, value)) = raw::get(headers, at) {
        each(name, value);
        at += 1;
    }
}

/// Headers to be written, in order.
pub fn write<'a>(headers: impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)>) -> OwnedHeaders {
    let mut owned = OwnedHeaders::new();
    for (name, value) in headers {
        raw::add(&mut owned, name, value);
    }
    owned
}

/// The two calls.
#[allow(unsafe_code, reason = "what the safe functions do only for names that are UTF-8")]
mod raw {
    use std::{
        ffi::{CStr, c_void},
        ptr::{from_ref, null, null_mut},
        slice,
    };

    use rdkafka::{
        bindings::{rd_kafka_header_add, rd_kafka_header_get_all},
        message::{BorrowedHeaders, OwnedHeaders},
        types::{RDKafkaErrorCode, RDKafkaHeaders},
    };

    /// The header at `at`; `None` past the last one.
    pub(super) fn get(headers: &BorrowedHeaders, at: usize) -> Option<(&[u8], Option<&[u8]>)> {
        let native = from_ref(headers).cast::<RDKafkaHeaders>();
        let (mut name, mut value, mut size) = (null(), null(), 0);
        // SAFETY: a reference to `BorrowedHeaders` has the address of librdkafka's header list, which is alive as long as the
        // reference: the client library makes it so and uses it like this in all of its own functions. The call reads the
        // list and writes the three places given, which are ours.
        let error = unsafe { rd_kafka_header_get_all(native, at, &mut name, &mut value, &mut size) };
        if RDKafkaErrorCode::from(error) != RDKafkaErrorCode::NoError {
            return None;
        }
        // SAFETY: after success `name` is a C string, and `value`, where it is not null, `size` bytes; both belong to the list
        // and are alive and unchanged as long as `headers` is borrowed.
        unsafe {
            let name = CStr::from_ptr(name).to_bytes();
            let value = (!value.is_null()).then(|| slice::from_raw_parts(value.cast::<u8>(), size));
            Some((name, value))
        }
    }

    /// Adds a header at the end.
    pub(super) fn add(headers: &mut OwnedHeaders, name: &[u8], value: Option<&[u8]>) {
        let native = from_ref(headers.as_borrowed()).cast::<RDKafkaHeaders>().cast_mut();
        let (value, size) = value.map_or((null_mut::<c_void>().cast_const(), 0), |value| {
            (value.as_ptr().cast::<c_void>(), value.len())
        });
        let signed = |length: usize| isize::try_from(length).unwrap_or(isize::MAX);
        // SAFETY: the address is that of librdkafka's list, as above, and nobody else has it while `headers` is borrowed for us
        // alone. The call copies `name` and `value`, whose lengths are given, and keeps neither pointer.
        let error = unsafe {
            rd_kafka_header_add(native, name.as_ptr().cast(), signed(name.len()), value, signed(size))
        };
        // Only a list that may not be written is refused, and this one is ours.
        debug_assert!(RDKafkaErrorCode::from(error) == RDKafkaErrorCode::NoError);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Pairs = Vec<(Vec<u8>, Option<Vec<u8>>)>;

    fn read_all(headers: &OwnedHeaders) -> Pairs {
        let mut all = Vec::new();
        read(headers, |name, value| all.push((name.to_vec(), value.map(<[u8]>::to_vec))));
        all
    }

    #[test]
    fn what_is_written_is_read_byte_for_byte() {
        let written: Pairs = vec![
            (b"plain".to_vec(), Some(b"value".to_vec())),
            (vec![0xff], Some(b"v".to_vec())),
            (vec![0xc3, 0x28], None),
            (b"plain".to_vec(), Some(Vec::new())),
            (Vec::new(), Some(vec![0, 1, 0])),
            ("ünïcode".into(), Some(vec![0xfe; 70_000])),
            (vec![b'n'; 70_000], None),
        ];
        let headers = write(written.iter().map(|(name, value)| (name.as_slice(), value.as_deref())));
        assert_eq!(read_all(&headers), written);
    }

    #[test]
    fn a_name_is_read_up_to_a_nul() {
        let headers = write([(&b"n\0ame"[..], Some(&b"v"[..]))].into_iter());
        assert_eq!(read_all(&headers), [(b"n".to_vec(), Some(b"v".to_vec()))]);
        assert_eq!(read_all(&OwnedHeaders::new()), []);
    }
}
