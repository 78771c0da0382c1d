//! The header `traceparent` of what is emitted.
//!
//! A handler passes the header of its event on with what the event causes. In it stands the id of the span that sent the event; what
//! is emitted is to say the span that handled it, and, once it is sent, the span that sends it, which is its consumer's parent. That last
//! id is the former, turned by a function of trace and record: so whoever sends a row of the outbox, be it another process after a
//! crash, finds in the row itself both the span it tells and that span's parent.

use super::{ids, parent::TraceParent};
use crate::event::Emit;

/// A record as the span that sends it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sent {
    /// The span.
    pub(crate) context: TraceParent,
    /// Its parent.
    pub(crate) parent: u64,
}

/// The record is about to be written to the outbox: from now on its header names the span that sends it. What an event causes was written
/// by the span that handled the event, `by`, where its handler has passed the header on; what it has put there itself is left.
pub(crate) fn written(emit: &mut Emit, by: Option<(TraceParent, u64)>) {
    let Some(found) = TraceParent::of(&emit.headers) else { return };
    let parent = match by {
        Some((event, span_id)) if event == found => found.at(span_id),
        _ => found,
    };
    let sending = turned(emit, parent);
    TraceParent::rename(&mut emit.headers, sending);
}

/// The span that sends a record of the outbox.
pub(crate) fn sent(emit: &Emit) -> Option<Sent> {
    let context = TraceParent::of(&emit.headers)?;
    Some(Sent { context, parent: turned(emit, context) })
}

/// Its own inverse. The one id that would turn to 0, which is none, stays.
fn turned(emit: &Emit, at: TraceParent) -> u64 {
    let turn = ids::sending(at.trace_id, &emit.topic, emit.key.as_deref(), emit.value.as_deref());
    if at.span_id == turn { turn } else { at.span_id ^ turn }
}

#[cfg(test)]
mod tests {
    use dead_letters::Headers;

    use super::*;
    use crate::trace::HEADER;

    fn emit(parent: Option<&str>) -> Emit {
        let mut headers = Headers::new();
        headers.push("correlation-id", Some(b"c-1"));
        if let Some(parent) = parent {
            headers.push(HEADER, Some(parent.as_bytes()));
        }
        headers.push("content-type", Some(b"application/json"));
        Emit {
            topic: "payments".into(),
            key: Some(b"key".to_vec()),
            value: Some(b"{\"a\":1}".to_vec()),
            headers,
        }
    }

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_row_of_the_outbox_says_who_sends_it_and_who_wrote_it() {
        let event = TraceParent::parse(PARENT).expect("valid");
        let mut row = emit(Some(PARENT));
        let size = row.size();
        written(&mut row, Some((event, 77)));
        let Sent { context, parent } = sent(&row).expect("it has a trace");
        assert_eq!((parent, context.trace_id, context.flags), (77, event.trace_id, event.flags));
        assert!(context.span_id != 77 && context.span_id != event.span_id);
        assert_eq!(row.size(), size);
        assert_eq!(row.headers.text("content-type"), Some("application/json"));

        let mut again = emit(Some(PARENT));
        written(&mut again, Some((event, 77)));
        assert_eq!(again, row, "the same cause gives the same bytes");
        let mut other = emit(Some(PARENT));
        other.value = Some(b"{\"a\":2}".to_vec());
        written(&mut other, Some((event, 77)));
        assert_ne!(
            sent(&other).map(|sent| sent.context),
            Some(context),
            "two emits of one event are sent by two spans"
        );
    }

    #[test]
    fn what_has_no_trace_or_another_one_is_left() {
        let event = TraceParent::parse(PARENT).expect("valid");
        for header in [None, Some("nonsense"), Some("")] {
            let mut row = emit(header);
            written(&mut row, Some((event, 77)));
            assert_eq!((sent(&row), &row), (None, &emit(header)));
        }
        let own = event.at(5).to_string();
        let mut row = emit(Some(&own));
        written(&mut row, Some((event, 77)));
        assert_eq!(sent(&row).map(|sent| sent.parent), Some(5));
    }

    #[test]
    fn no_id_turns_to_none() {
        let row = emit(Some(PARENT));
        let event = TraceParent::parse(PARENT).expect("valid");
        let turn = ids::sending(event.trace_id, &row.topic, row.key.as_deref(), row.value.as_deref());
        assert_eq!(turned(&row, event.at(turn)), turn);
    }
}
