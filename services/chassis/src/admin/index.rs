//! `/`: what the admin port has, with links for a browser and lines for everybody else.

use std::fmt::Write;

use axum::{
    http::{HeaderMap, header},
    response::{Html, IntoResponse, Response},
};

/// Paths to look at.
const LOOK: [(&str, &str); 5] = [
    ("/livez", "whether the process runs"),
    ("/readyz", "whether it can serve, and what does not work as it should"),
    ("/metrics", "for Prometheus"),
    ("/partitions", "the partitions that are here"),
    ("/parked?limit=100", "records that wait for another attempt, oldest first"),
];
/// Paths to post to.
const DO: [(&str, &str); 5] = [
    ("/partitions/TOPIC/PARTITION/pause", "stop a partition, wherever it is"),
    ("/partitions/TOPIC/PARTITION/resume", "let it go on; a halted one tries again"),
    (
        "/partitions/TOPIC/PARTITION/reset",
        r#"move it: {"to": "start" | "end" | OFFSET, "from": OFFSET, "force": true}"#,
    ),
    ("/parked/retry", r#"run a waiting record now: {"topic": …, "partition": …, "key": …}"#),
    ("/parked/dead-letter", r#"make it a dead letter: {"topic": …, "partition": …, "key": …, "reason": …}"#),
];
const HOW: &str = "POST needs the headers Content-Type: application/json and X-Backburner-Admin: 1, and Authorization: Bearer \
                   TOKEN where ADMIN_TOKEN is set.";

pub(super) async fn show(headers: HeaderMap) -> Response {
    let accepts = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if accepts.contains("text/html") { Html(page()).into_response() } else { lines().into_response() }
}

fn lines() -> String {
    let mut text = String::new();
    for (method, paths) in [("GET ", LOOK), ("POST", DO)] {
        for (path, what) in paths {
            let _infallible = writeln!(text, "{method} {path:<36} {what}");
        }
    }
    text + HOW + "\n"
}

fn page() -> String {
    let mut page = String::from("<!doctype html><meta charset=\"utf-8\"><title>admin port</title><ul>");
    for (path, what) in LOOK {
        let _infallible = write!(page, "<li><a href=\"{path}\">{path}</a>: {what}");
    }
    page += "</ul><ul>";
    for (path, what) in DO {
        let _infallible = write!(page, "<li>POST <code>{path}</code>: {what}");
    }
    page + "</ul><p>" + HOW + "\n"
}
