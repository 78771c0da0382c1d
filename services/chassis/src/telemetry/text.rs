//! What a text may be in a log: bounded, and without characters that a reader obeys or cannot see.

use std::fmt::{self, Write};

/// Longest field, in bytes.
pub(super) const MAX_FIELD: usize = 1 << 10;
/// Longest field that says what went wrong.
pub(super) const MAX_ERROR: usize = 2 << 10;
/// Longest line.
pub(super) const MAX_LINE: usize = 4 << 10;

/// How long the field called `name` may be.
pub(super) fn limit(name: &str) -> usize {
    match name {
        "error" | "panic" | "backtrace" | "reason" | "message" => MAX_ERROR,
        _ => MAX_FIELD,
    }
}

/// `text`, or as much of it as fits into `limit` bytes with a sign that there was more.
pub(super) fn cut(text: &str, limit: usize) -> String {
    if text.len() <= limit {
        return text.to_owned();
    }
    format!("{}…", &text[..text.floor_char_boundary(limit.saturating_sub('…'.len_utf8()))])
}

/// Formats no more of `arguments` than fits into `limit` bytes.
pub(super) fn bounded(arguments: fmt::Arguments<'_>, limit: usize) -> String {
    struct Bounded {
        text: String,
        limit: usize,
    }
    impl Write for Bounded {
        fn write_str(&mut self, part: &str) -> fmt::Result {
            let room = self.limit + 1 - self.text.len();
            if part.len() < room {
                self.text.push_str(part);
                return Ok(());
            }
            // One byte more than fits, or the rest of a character: it is cut by the caller.
            self.text.push_str(&part[..part.ceil_char_boundary(room.min(part.len()))]);
            Err(fmt::Error)
        }
    }
    let mut out = Bounded { text: String::new(), limit };
    // An error is that there was more; that shows.
    let _more = out.write_fmt(arguments);
    cut(&out.text, limit)
}

/// Whether a terminal or an editor obeys this character, or nobody can see it.
pub(super) fn is_hidden(c: char) -> bool {
    matches!(c,
        '\u{7f}'..='\u{9f}' | '\u{ad}' | '\u{61c}' | '\u{115f}' | '\u{180e}' | '\u{200b}'..='\u{200f}'
        | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{2800}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}'
        | '\u{feff}' | '\u{ffa0}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}')
}

/// Line of text for a person, cut, with what is hidden made visible. Escape sequences are the formatter's own.
pub(super) fn line(text: &str) -> String {
    let text = text.strip_suffix('\n').unwrap_or(text);
    let mut out = String::with_capacity(text.len() + 1);
    for c in text.chars() {
        if is_hidden(c) {
            // Writing to a string does not fail.
            let _infallible = write!(out, "{}", c.escape_unicode());
        } else {
            out.push(c);
        }
        if out.len() > MAX_LINE {
            break;
        }
    }
    let mut out = cut(&out, MAX_LINE - 1);
    out.push('\n');
    out
}

#[cfg(test)]
mod tests;
