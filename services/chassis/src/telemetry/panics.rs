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
mod tests {
    use super::*;

    #[test]
    fn of_a_backtrace_our_frames_are_left() {
        let backtrace = "   0: std::panicking::begin_panic\n             at /rustc/5980/library/std/src/panicking.rs:689:5\n   \
                         1: payments::handler::decide\n             at ./services/payments/src/handler.rs:7:9\n   \
                         2: tokio::runtime::run\n             at /root/.cargo/registry/src/tokio-1/src/mod.rs:1:1\n   \
                         3: payments::main\n             at ./services/payments/src/main.rs:3:1\n   4: _start\n";
        let expected = "payments::handler::decide (./services/payments/src/handler.rs:7:9) < payments::main \
                        (./services/payments/src/main.rs:3:1)";
        assert_eq!(ours(backtrace), expected);
    }
}
