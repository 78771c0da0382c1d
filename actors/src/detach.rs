//! Work that is set off by something and does not belong to it.

use tracing::Span;

/// Runs `work`, such as waking a lane, outside the span of whoever asks: messages between actors carry the span they were sent in,
/// and what a lane says is not to be found under the request of an operator.
pub(crate) fn detached<T>(work: impl FnOnce() -> T) -> T {
    if Span::current().is_none() {
        return work();
    }
    // A span without a parent: `Span::none` would leave the caller's in place.
    tracing::error_span!(parent: None, "lane").in_scope(work)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_callers_span_is_left() {
        let names = || Span::current().metadata().map(|span| span.name());
        tracing::subscriber::with_default(tracing_subscriber::registry(), || {
            assert_eq!(detached(names), None);
            tracing::info_span!("request").in_scope(|| {
                assert_eq!(detached(names), Some("lane"));
                assert_eq!(names(), Some("request"));
            });
        });
    }
}
