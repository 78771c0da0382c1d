use std::sync::Arc;

use parking_lot::Mutex;
use tracing_subscriber::layer::SubscriberExt;

use super::*;

fn text(work: impl FnOnce()) -> String {
    let out = Arc::new(Mutex::new(Vec::new()));
    let taken = out.clone();
    let lines = JsonLines::new("orders", move |line: Vec<u8>| taken.lock().extend(line));
    tracing::subscriber::with_default(tracing_subscriber::registry().with(lines), work);
    let bytes = out.lock().clone();
    String::from_utf8(bytes).expect("UTF-8")
}

fn lines(work: impl FnOnce()) -> Vec<Value> {
    let text = text(work);
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

#[test]
fn a_line_is_flat_and_has_the_fields_of_its_spans() {
    let lines = lines(|| {
        let outer = tracing::info_span!("batch", topic = "orders", partition = 3, offset = 1);
        let _outer = outer.enter();
        let inner = tracing::info_span!("event", offset = 7, correlation_id = tracing::field::Empty);
        inner.record("correlation_id", "c-1");
        let _inner = inner.enter();
        tracing::warn!(attempts = 2, "a \"quoted\"\nmessage");
    });
    let [line] = &lines[..] else { panic!("one line: {lines:?}") };
    let expected = [
        ("service", Value::from("orders")),
        ("level", "WARN".into()),
        ("message", "a \"quoted\"\nmessage".into()),
        ("topic", "orders".into()),
        ("partition", 3.into()),
        ("offset", 7.into()),
        ("correlation_id", "c-1".into()),
        ("attempts", 2.into()),
    ];
    for (name, value) in expected {
        assert_eq!(line[name], value, "{name}");
    }
    assert!(line["timestamp"].as_str().is_some_and(|time| time.ends_with('Z')), "{line}");
}

#[test]
fn no_line_is_longer_than_four_kilobytes() {
    let long = "x".repeat(900_000);
    let hidden = "\u{9b}".repeat(900_000);
    let text = text(|| {
        tracing::warn!(error = long, key = long, "short");
        tracing::warn!(error = hidden, key = %hidden, a = ?hidden, b = hidden, c = hidden, "{long}");
        tracing::warn!(
            a0 = long,
            a1 = long,
            a2 = long,
            a3 = long,
            a4 = long,
            a5 = long,
            a6 = long,
            a7 = long,
            a8 = long,
            a9 = long,
            b0 = hidden,
            b1 = hidden,
            b2 = hidden,
            b3 = hidden,
            b4 = hidden,
            b5 = hidden,
            "many"
        );
    });
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    assert_eq!(lines.len(), 3);
    for line in lines {
        assert!(line.len() <= MAX_LINE, "{}", line.len());
        assert!(serde_json::from_str::<Value>(line).is_ok_and(|line| line["level"] == "WARN"), "{line}");
    }
    let first: Value = serde_json::from_str(text.lines().next().expect("a line")).expect("JSON");
    assert!(first["error"].as_str().is_some_and(|error| error.len() > 2_000 && error.ends_with('…')));
}

#[test]
fn what_a_terminal_obeys_or_hides_is_escaped() {
    let odd = "a\u{1b}\u{7f}\u{9b}\u{202e}\u{2028}\u{200b}\u{e0041}寿司";
    let text = text(|| tracing::info!(key = odd, "{odd}"));
    assert!(text.trim_end().chars().all(|c| !c.is_control() && !text::is_hidden(c)), "{text:?}");
    let line: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!((&line["key"], &line["message"]), (&odd.into(), &odd.into()));
}

#[test]
fn a_field_cannot_forge_the_service() {
    let lines = lines(|| tracing::info!(service = "payments", "hello"));
    assert_eq!(lines[0]["service"], "orders");
    assert_eq!(lines[0]["field.service"], "payments");
}
