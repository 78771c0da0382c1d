//! Bodies and headers as people read them: JSON laid out without touching a digit of it, secrets masked.

use serde::de::IgnoredAny;

use super::text::clean;

/// Field and header names whose values are masked; compared without case, `_` and `-`.
const MASKED: [&str; 21] = [
    "accesstoken",
    "accountnumber",
    "apikey",
    "authorization",
    "card",
    "cardnumber",
    "cookie",
    "cvc",
    "cvv",
    "iban",
    "pan",
    "passwd",
    "password",
    "paymenttoken",
    "pin",
    "privatekey",
    "refreshtoken",
    "secret",
    "setcookie",
    "ssn",
    "token",
];

/// What stands for a masked value.
pub const MASK: &str = "\"***\"";

/// Whether values of `name` are masked.
pub fn is_masked(name: &str) -> bool {
    let plain: String =
        name.chars().filter(|c| !matches!(c, '_' | '-')).map(|c| c.to_ascii_lowercase()).collect();
    MASKED.contains(&plain.as_str())
}

/// A body, told apart by what can be done with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// JSON, laid out.
    Json(String),
    /// Other text.
    Text(String),
    /// Neither.
    Binary,
    /// No bytes at all.
    Empty,
}

/// Reads a body. With `mask`, values of secret fields are replaced; the second value says whether any was.
pub fn read(value: &[u8], mask: bool) -> (Body, bool) {
    if value.is_empty() {
        return (Body::Empty, false);
    }
    let Ok(text) = std::str::from_utf8(value) else { return (Body::Binary, false) };
    if serde_json::from_str::<IgnoredAny>(text).is_ok() {
        let mut layout = Layout { mask, ..Layout::default() };
        let text = layout.run(text);
        return (Body::Json(text), layout.masked);
    }
    let (text, masked) = if mask { mask_text(text) } else { (text.to_owned(), false) };
    (Body::Text(text), masked)
}

/// Lays out JSON that is known to be valid, token by token: numbers keep their digits and fields their order.
#[derive(Debug, Default)]
struct Layout {
    mask: bool,
    masked: bool,
    out: String,
    depth: usize,
}

impl Layout {
    fn run(&mut self, text: &str) -> String {
        let mut rest = text.trim_start();
        let mut key: Option<String> = None;
        while let Some(first) = rest.chars().next() {
            let len = token_len(rest);
            let token = &rest[..len];
            rest = rest[len..].trim_start();
            let is_key = first == '"' && rest.starts_with(':');
            if !is_key && first != ':' && self.mask && key.take().is_some_and(|key| is_masked(&key)) {
                self.masked = true;
                self.out.push_str(MASK);
                if matches!(first, '{' | '[') {
                    rest = skip_nested(rest);
                }
                continue;
            }
            match first {
                '{' | '[' if rest.starts_with(['}', ']']) => {
                    self.out.push_str(token);
                    self.out.push_str(&rest[..1]);
                    rest = rest[1..].trim_start();
                }
                '{' | '[' => {
                    self.out.push_str(token);
                    self.depth += 1;
                    self.break_line();
                }
                '}' | ']' => {
                    self.depth = self.depth.saturating_sub(1);
                    self.break_line();
                    self.out.push_str(token);
                }
                ',' => {
                    self.out.push(',');
                    self.break_line();
                }
                ':' => self.out.push_str(": "),
                _ => {
                    if is_key {
                        key = serde_json::from_str(token).ok();
                    }
                    self.out.push_str(&clean(token));
                }
            }
        }
        std::mem::take(&mut self.out)
    }

    fn break_line(&mut self) {
        self.out.push('\n');
        self.out.extend(std::iter::repeat_n("  ", self.depth));
    }
}

/// The length of the token `text` begins with: a string, a mark, or a number or word.
fn token_len(text: &str) -> usize {
    let bytes = text.as_bytes();
    match bytes[0] {
        b'"' => {
            let mut at = 1;
            while at < bytes.len() && bytes[at] != b'"' {
                at += if bytes[at] == b'\\' { 2 } else { 1 };
            }
            (at + 1).min(bytes.len())
        }
        b'{' | b'}' | b'[' | b']' | b',' | b':' => 1,
        _ => text
            .find(|c: char| "{}[],:\"".contains(c) || c.is_ascii_whitespace())
            .unwrap_or(text.len())
            .max(1),
    }
}

/// What follows the object or array whose opening mark was just read.
fn skip_nested(mut rest: &str) -> &str {
    let mut depth = 1;
    while depth > 0 && !rest.is_empty() {
        match rest.as_bytes()[0] {
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth -= 1,
            _ => {}
        }
        rest = rest[token_len(rest)..].trim_start();
    }
    rest
}

/// Masks `"name": "value"` in text that only resembles JSON, as poison often does.
fn mask_text(text: &str) -> (String, bool) {
    let mut out = String::with_capacity(text.len());
    let mut masked = false;
    let mut rest = text;
    while let Some(quote) = rest.find('"') {
        let (before, from) = rest.split_at(quote);
        out.push_str(before);
        let len = token_len(from);
        let name = from[..len].trim_matches('"');
        out.push_str(&from[..len]);
        rest = &from[len..];
        let after = rest.trim_start();
        let Some(value) = after.strip_prefix(':').map(str::trim_start).filter(|_| is_masked(name)) else {
            continue;
        };
        let end = match value.as_bytes().first() {
            Some(b'"') => token_len(value),
            _ => value.find([',', '}', ']', '\n']).unwrap_or(value.len()),
        };
        out.push_str(": ");
        out.push_str(MASK);
        masked = true;
        rest = &value[end..];
    }
    out.push_str(rest);
    (out, masked)
}

/// Sixteen bytes a line with their offset and their characters, like `hexdump -C`.
pub fn hex_dump(value: &[u8]) -> Vec<String> {
    value
        .chunks(16)
        .enumerate()
        .map(|(i, chunk)| {
            let hex: String = chunk.iter().map(|byte| format!("{byte:02x} ")).collect();
            let text: String = chunk
                .iter()
                .map(|b| if b.is_ascii_graphic() || *b == b' ' { char::from(*b) } else { '.' })
                .collect();
            format!("{:08x}  {hex:<48} |{text}|", i * 16)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_laid_out_with_its_digits_and_order() {
        let text = br#"{"b":12345678901234567890.10,"a":[1,{"x":"} , \" :"}],"e":{},"l":[ ]}"#;
        let laid = "{\n  \"b\": 12345678901234567890.10,\n  \"a\": [\n    1,\n    {\n      \"x\": \"} , \\\" :\"\n    }\n  ],\n  \"e\": {},\n  \"l\": []\n}";
        assert_eq!(read(text, true), (Body::Json(laid.into()), false));
        assert_eq!(read(b" 5 ", true), (Body::Json("5".into()), false));
    }

    #[test]
    fn secrets_are_masked_whatever_their_shape() {
        let table = [
            (r#"{"payment_token":"tok_ok","a":1}"#, "{\n  \"payment_token\": \"***\",\n  \"a\": 1\n}"),
            (r#"{"Card":{"number":"4","x":[1,"}"]},"a":1}"#, "{\n  \"Card\": \"***\",\n  \"a\": 1\n}"),
            (r#"{"p":{"password":null}}"#, "{\n  \"p\": {\n    \"password\": \"***\"\n  }\n}"),
            (r#"{"pass\u0077ord":[]}"#, "{\n  \"pass\\u0077ord\": \"***\"\n}"),
        ];
        for (text, laid) in table {
            assert_eq!(read(text.as_bytes(), true), (Body::Json(laid.into()), true), "{text}");
        }
        let (body, masked) = read(br#"{"password":"x"}"#, false);
        assert_eq!((body, masked), (Body::Json("{\n  \"password\": \"x\"\n}".into()), false));
        assert!(!is_masked("order_id") && is_masked("Set-Cookie"));
    }

    #[test]
    fn broken_json_is_masked_too() {
        let (body, masked) = read(br#"{"payment_token": "tok_\"x", "n": 1, "pin": 1234, oops"#, true);
        assert_eq!(body, Body::Text(r#"{"payment_token": "***", "n": 1, "pin": "***", oops"#.into()));
        assert!(masked);
        assert_eq!(read(br#"{"token": "unended"#, true).0, Body::Text(r#"{"token": "***""#.into()));
        assert_eq!(read(b"\"", true).0, Body::Text("\"".into()));
    }

    #[test]
    fn bytes_that_are_no_text_can_still_be_seen() {
        assert_eq!(read(&[0xff, 0xfe], true).0, Body::Binary);
        assert_eq!(read(b"", true).0, Body::Empty);
        let dump = hex_dump(b"0123456789abcdef\x00z");
        assert_eq!(dump[1], "00000010  00 7a                                            |.z|");
    }
}
