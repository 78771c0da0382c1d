//! What is logged of a panic.

use std::fmt::Write;

use super::text;

/// Longest text of a panic, in bytes.
const MAX_PANIC: usize = 1 << 10;

/// One line: text, place, and with RUST_BACKTRACE the frames that are ours.
pub(super) fn log(info: &std::panic::PanicHookInfo<'_>) {
    let panic = text::cut(info.payload_as_str().unwrap_or("a panic without a message"), MAX_PANIC);
    let location = info.location().map(|location| format!("{}:{}", location.file(), location.line()));
    let thread = std::thread::current();
    let thread = thread.name().unwrap_or("unnamed");
    let backtrace = std::backtrace::Backtrace::capture();
    let backtrace = match backtrace.status() {
        std::backtrace::BacktraceStatus::Captured => Some(ours(&backtrace.to_string())),
        _ => None,
    };
    tracing::error!(panic, location, thread, backtrace, "panicked");
}

/// The frames of a backtrace whose source is neither Rust's nor a library's, innermost first.
fn ours(backtrace: &str) -> String {
    let mut frames = String::new();
    let mut function = "";
    for line in backtrace.lines() {
        let line = line.trim();
        match line.strip_prefix("at ") {
            Some(place)
                if ["/rustc/", "/.cargo/", "/registry/src/"].iter().any(|theirs| place.contains(theirs)) => {}
            Some(place) => {
                let gap = if frames.is_empty() { "" } else { " < " };
                // Writing to a string does not fail.
                let _infallible = write!(frames, "{gap}{function} ({place})");
            }
            None => function = line.split_once(": ").map_or(line, |(_, function)| function),
        }
    }
    text::cut(&frames, text::MAX_ERROR)
}

#[cfg(test)]
mod tests;
