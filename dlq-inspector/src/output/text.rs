//! Text that a terminal does not obey, and bytes as text.

/// `text` without anything a terminal would obey or not show: such characters become visible escapes.
pub fn clean(text: &str) -> String {
    let hidden = |c: char| c.is_control() || is_invisible(c);
    if !text.chars().any(hidden) {
        return text.to_owned();
    }
    text.chars().fold(String::with_capacity(text.len()), |mut out, c| {
        if hidden(c) {
            out.extend(c.escape_default())
        } else {
            out.push(c)
        }
        out
    })
}

/// Characters that turn the direction, join or part what is beside them, break a line, or stand for nothing at all: two texts that
/// differ in them look the same.
fn is_invisible(c: char) -> bool {
    matches!(
        c,
        '\u{ad}'
            | '\u{34f}'
            | '\u{61c}'
            | '\u{115f}'..='\u{1160}'
            | '\u{17b4}'..='\u{17b5}'
            | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{3164}'
            | '\u{fe00}'..='\u{fe0f}'
            | '\u{feff}'
            | '\u{ffa0}'
            | '\u{fff9}'..='\u{fffb}'
            | '\u{1d173}'..='\u{1d17a}'
            | '\u{e0000}'..='\u{e0fff}'
    )
}

/// Bytes as text when they are, else in hex after `0x`.
pub fn bytes(value: &[u8]) -> String {
    match std::str::from_utf8(value) {
        Ok(text) => clean(text),
        Err(_) => format!("0x{}", hex(value)),
    }
}

/// Lower-case hex digits.
pub fn hex(value: &[u8]) -> String {
    value.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_is_not_told_what_to_do() {
        assert_eq!(clean("a\x1b[2Jb\n"), "a\\u{1b}[2Jb\\n");
        assert_eq!(clean("é ok e\u{301}"), "é ok e\u{301}");
        for (text, shown) in [
            ("pay\u{200b}pal", "pay\\u{200b}pal"),
            ("a\u{2028}b", "a\\u{2028}b"),
            ("a\u{202e}b", "a\\u{202e}b"),
            ("ok\u{e0041}\u{e007f}", "ok\\u{e0041}\\u{e007f}"),
            ("\u{feff}x\u{ad}y", "\\u{feff}x\\u{ad}y"),
        ] {
            assert_eq!(clean(text), shown);
        }
        assert_eq!(bytes(&[0xff, 0x01]), "0xff01");
    }
}
