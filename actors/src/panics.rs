//! What a panic leaves behind: its text and its place.
//!
//! The place is known to the panic hook alone, and only while it runs; what catches a panic gets the text. So the hook keeps the
//! place for whoever catches the panic on the same thread.

use std::{
    any::Any,
    cell::{Cell, RefCell},
    panic::{PanicHookInfo, UnwindSafe},
    sync::Once,
};

use crate::failure::shorten;

/// Longest text of a panic, in bytes.
const MAX_TEXT: usize = 1 << 10;

thread_local! {
    static PLACE: RefCell<Option<String>> = const { RefCell::new(None) };
    static QUIET: Cell<bool> = const { Cell::new(false) };
}

/// Puts a hook before the one there is. Each group does it when it starts; further calls do nothing.
pub(crate) fn install() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let next = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            note(info);
            if !QUIET.get() {
                next(info);
            }
        }));
    });
}

fn note(info: &PanicHookInfo<'_>) {
    let place = info.location().map(|location| format!("{}:{}", location.file(), location.line()));
    PLACE.with(|kept| *kept.borrow_mut() = place);
}

/// What is said of a panic that was caught on this thread: `panicked at FILE:LINE: text`.
pub(crate) fn describe(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| payload.downcast_ref::<&str>().copied()).unwrap_or("no text");
    let text = shorten(text, MAX_TEXT);
    match PLACE.with(RefCell::take) {
        Some(place) => format!("panicked at {place}: {text}"),
        None => format!("panicked: {text}"),
    }
}

/// Runs `work`, whose panic is an answer like another: nothing is logged.
pub(crate) fn quietly<T>(work: impl FnOnce() -> T + UnwindSafe) -> Option<T> {
    let before = QUIET.replace(true);
    let done = std::panic::catch_unwind(work);
    QUIET.set(before);
    done.ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_told_with_its_place_and_cut() {
        install();
        install();
        let line = line!() + 1;
        let caught = std::panic::catch_unwind(|| panic!("boom {}", "é".repeat(MAX_TEXT)));
        let said = describe(&*caught.expect_err("panicked"));
        assert!(said.starts_with(&format!("panicked at {}:{line}: boom é", file!())), "{said}");
        assert!(said.len() < MAX_TEXT + 200 && said.ends_with('…'), "{said}");
        assert_eq!(
            quietly(|| if line > 0 {
                panic!("quiet")
            }),
            None
        );
        assert_eq!(quietly(|| 7), Some(7));
    }
}
