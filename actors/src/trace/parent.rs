//! The W3C header `traceparent`.

use std::{fmt, ops::Range};

use dead_letters::Headers;

/// The name of the header, of records and of HTTP requests alike.
pub const HEADER: &str = "traceparent";

/// Bytes of the header.
const LENGTH: usize = 55;
/// Where the span's id is in it.
const SPAN: Range<usize> = 36..52;

/// The lowest bit of the flags: whoever began the trace wants its spans kept.
const SAMPLED: u8 = 1;

/// A trace, and a span in it.
///
/// ```
/// use actors::trace::TraceParent;
///
/// let text = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
/// let parent = TraceParent::parse(text).unwrap();
/// assert_eq!((parent.span_id, parent.is_sampled()), (0x00f067aa0ba902b7, true));
/// assert_eq!(parent.to_string(), text);
/// assert_eq!(TraceParent::parse("00-0-0-01"), None);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceParent {
    /// Not 0.
    pub trace_id: u128,
    /// Not 0.
    pub span_id: u64,
    /// As they came.
    pub flags: u8,
}

impl TraceParent {
    /// Reads the header. `None` for what is none of the version there is.
    pub fn parse(text: &str) -> Option<Self> {
        Self::read(text.as_bytes().try_into().ok()?)
    }

    fn read(header: &[u8; LENGTH]) -> Option<Self> {
        let sound = header.starts_with(b"00-") && header[35] == b'-' && header[52] == b'-';
        let (high, low) = (read(&header[3..19])?, read(&header[19..35])?);
        let trace_id = (u128::from(high) << 64) | u128::from(low);
        let (span_id, flags) = (read(&header[SPAN])?, read(&header[53..])?);
        let flags = u8::try_from(flags).ok()?;
        (sound && trace_id != 0 && span_id != 0).then_some(Self { trace_id, span_id, flags })
    }

    /// What a record's headers say.
    pub fn of(headers: &Headers) -> Option<Self> {
        if headers.is_empty() { None } else { Self::read(headers.last(HEADER)?.try_into().ok()?) }
    }

    /// Names another span in a record's headers, which name one already: it is written over that.
    pub(super) fn rename(headers: &mut Headers, span_id: u64) {
        let Some(header) = headers.last(HEADER) else { return };
        let Ok(mut header) = <[u8; LENGTH]>::try_from(header) else { return };
        write(&mut header[SPAN], span_id);
        headers.replace(HEADER, &header);
    }

    /// Whether whoever began the trace wants its spans kept.
    pub fn is_sampled(self) -> bool {
        self.flags & SAMPLED != 0
    }

    /// The same trace, kept or not.
    #[must_use]
    pub fn sampled(self, sampled: bool) -> Self {
        Self { flags: if sampled { self.flags | SAMPLED } else { self.flags & !SAMPLED }, ..self }
    }

    /// Another span of the trace.
    #[must_use]
    pub fn at(self, span_id: u64) -> Self {
        Self { span_id, ..self }
    }
}

impl fmt::Display for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{:032x}-{:016x}-{:02x}", self.trace_id, self.span_id, self.flags)
    }
}

/// The value of each byte as a digit in lower case; 255 for what is none.
const DIGITS: [u8; 256] = {
    let (mut digits, mut value) = ([255; 256], 0);
    while value < 16 {
        digits[b"0123456789abcdef"[value as usize] as usize] = value;
        value += 1;
    }
    digits
};

/// At most 16 digits. This and what follows is done for each record that is emitted.
fn read(digits: &[u8]) -> Option<u64> {
    let (number, all) = digits.iter().fold((0, 0), |(number, all), byte| {
        let digit = DIGITS[usize::from(*byte)];
        ((number << 4) | u64::from(digit), all | digit)
    });
    (all < 16).then_some(number)
}

fn write(digits: &mut [u8], mut number: u64) {
    for digit in digits.iter_mut().rev() {
        *digit = b"0123456789abcdef"[usize::try_from(number & 15).unwrap_or_default()];
        number >>= 4;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn what_is_no_traceparent_is_refused() {
        let zero_trace = GOOD.replace("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32));
        let zero_span = GOOD.replace("00f067aa0ba902b7", &"0".repeat(16));
        let shifted = "00-4bf92f3577b34da6a3ce929d0e0e473-600f067aa0ba902b7-01";
        let signed = GOOD.replace("-00f0", "-+0f0");
        let dashed = GOOD.replace("00f067", "00-067");
        let wide = format!("{}é", &GOOD[..53]);
        for text in [
            "",
            "nonsense",
            &zero_trace,
            &zero_span,
            shifted,
            &signed,
            &dashed,
            &wide,
            &GOOD.to_uppercase(),
            &GOOD.replace("00-4", "01-4"),
            &format!("{GOOD}-x"),
            &GOOD[..54],
        ] {
            assert_eq!(TraceParent::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn what_is_read_is_written_as_it_was() {
        for flags in ["00", "01", "02", "ff"] {
            let text = format!("{}{flags}", &GOOD[..53]);
            let parent = TraceParent::parse(&text).expect("valid");
            assert_eq!(parent.to_string(), text);
            assert_eq!(parent.is_sampled(), flags == "01" || flags == "ff");
            let mut headers = Headers::from_iter([(HEADER, Some(text.as_bytes())), ("a", Some(b"b"))]);
            TraceParent::rename(&mut headers, 0x0102_0304_0506_0708);
            assert_eq!(TraceParent::of(&headers), Some(parent.at(0x0102_0304_0506_0708)));
            assert_eq!(headers.text("a"), Some("b"));
            assert!(parent.sampled(true).is_sampled() && !parent.sampled(false).is_sampled());
        }
    }
}
