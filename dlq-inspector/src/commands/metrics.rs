//! `metrics`: how the dead letters stand, counted again and again, for Prometheus.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    net::TcpListener,
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use chrono::{DateTime, Utc};
use dead_letters::{group_of, one_line};

use crate::{
    args::MetricsArgs,
    exit::Exit,
    kafka::{Connection, Kafka, Start},
    output::{complain, warn_unreadable},
    page::{self, Answer},
    snapshot::{Counts, Keep, Scope, count, read_ledger},
    time::now,
};

/// Letters by what became of them. Labels: group, state.
const LETTERS: &str = "backburner_dead_letters";
/// Since the oldest open letter died, seconds; 0 without one. Labels: group.
const OLDEST: &str = "backburner_dead_letters_oldest_open_seconds";
/// Parts of dead-letter topics and ledger that could not be read: what lies there is not counted.
const GAPS: &str = "backburner_dead_letters_gaps";
/// When they were last counted, seconds since the Unix epoch.
const COUNTED: &str = "backburner_dead_letters_counted_timestamp_seconds";

/// Rests so many times as long as a count took: whoever keeps many letters does not have them read all the time.
const REST: u32 = 4;

/// What was found at the last count.
#[derive(Debug)]
struct Counted {
    counts: BTreeMap<Arc<str>, Counts>,
    gaps: usize,
    at: DateTime<Utc>,
}

/// Counts, and answers whoever asks; never ends by itself. Each count connects anew: brokers come and go, and so do topics.
///
/// # Errors
/// Where the address cannot be listened on.
pub fn metrics(connection: &Connection, args: &MetricsArgs) -> anyhow::Result<Exit> {
    let listener = TcpListener::bind(args.listen)
        .with_context(|| format!("the address {} cannot be listened on", args.listen))?;
    let address = listener.local_addr().context("the address listened on is not known")?;
    complain(&format!("metrics of dead letters: http://{address}/metrics"));
    let last: Arc<Mutex<Option<Counted>>> = Arc::default();
    let shown = last.clone();
    let answer = move |path: &str| {
        let last = shown.lock().unwrap_or_else(PoisonError::into_inner);
        match (path, &*last) {
            ("/metrics", Some(counted)) => Answer::Text(text(counted, now())),
            ("/readyz", Some(_)) => Answer::Text("ready\n".into()),
            ("/metrics" | "/readyz", None) => Answer::NotYet,
            _ => Answer::Missing,
        }
    };
    thread::Builder::new()
        .name("page".into())
        .spawn(move || page::serve(&listener, answer))
        .context("a thread cannot be started")?;
    loop {
        let begun = Instant::now();
        match counted(connection) {
            Ok(counted) => *last.lock().unwrap_or_else(PoisonError::into_inner) = Some(counted),
            // What was counted before stays, and says when that was.
            Err(error) => complain(&format!("warning: not counted: {}", one_line(error.as_ref()))),
        }
        thread::sleep(rest(args.every, begun.elapsed()));
    }
}

fn rest(every: Duration, took: Duration) -> Duration {
    every.max(took * REST)
}

fn counted(connection: &Connection) -> anyhow::Result<Counted> {
    let kafka = Kafka::connect(connection)?;
    let scope = Scope::of(&kafka, &[], &[])?;
    let (ledger, _) = read_ledger(&kafka, Keep::Nothing, &Start::Oldest)?;
    warn_unreadable(&ledger);
    let at = now();
    let counts = count(&kafka, &scope, &ledger, at)?;
    let gaps = kafka.gaps();
    gaps.iter().for_each(|gap| complain(&format!("warning: {gap}")));
    Ok(Counted { counts, gaps: gaps.len(), at })
}

/// In Prometheus' text format. A group's name has nothing in it that would have to be escaped: it is part of a topic's.
#[expect(clippy::cast_precision_loss, reason = "ages and times are floating-point here")]
fn text(counted: &Counted, now: DateTime<Utc>) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail, here and below.
    let mut line = |line: String| writeln!(text, "{line}").unwrap_or_default();
    let groups = || counted.counts.iter().filter_map(|(topic, counts)| Some((group_of(topic)?, counts)));
    line(format!("# HELP {LETTERS} Dead letters by what became of them\n# TYPE {LETTERS} gauge"));
    for (group, counts) in groups() {
        for (state, count) in counts.by_state() {
            line(format!("{LETTERS}{{group=\"{group}\",state=\"{}\"}} {count}", state.as_str()));
        }
    }
    line(format!("# HELP {OLDEST} Since the oldest open one died\n# TYPE {OLDEST} gauge"));
    for (group, counts) in groups() {
        let age = counts.oldest_open.map_or(0, |oldest| (now - oldest).num_milliseconds().max(0));
        line(format!("{OLDEST}{{group=\"{group}\"}} {}", age as f64 / 1_000.0));
    }
    line(format!(
        "# HELP {GAPS} Parts of their topics and the ledger that cannot be read\n# TYPE {GAPS} gauge"
    ));
    line(format!("{GAPS} {}", counted.gaps));
    line(format!("# HELP {COUNTED} When they were last counted\n# TYPE {COUNTED} gauge"));
    line(format!("{COUNTED} {}", counted.at.timestamp_millis() as f64 / 1_000.0));
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::from_ms;

    #[test]
    fn each_group_has_each_state_from_the_start() {
        let bad = Counts { open: 2, discarded: 1, oldest_open: Some(from_ms(1_000)), ..Counts::default() };
        let counts = BTreeMap::from([("a.dlq".into(), Counts::default()), ("b.dlq".into(), bad)]);
        let text = text(&Counted { counts, gaps: 1, at: from_ms(4_500) }, from_ms(5_000));
        let samples: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
        assert_eq!(samples.len(), 2 * 6 + 2 + 2, "{text}");
        for sample in [
            r#"backburner_dead_letters{group="a",state="open"} 0"#,
            r#"backburner_dead_letters{group="b",state="open"} 2"#,
            r#"backburner_dead_letters{group="b",state="discarded"} 1"#,
            r#"backburner_dead_letters_oldest_open_seconds{group="a"} 0"#,
            r#"backburner_dead_letters_oldest_open_seconds{group="b"} 4"#,
            "backburner_dead_letters_gaps 1",
            "backburner_dead_letters_counted_timestamp_seconds 4.5",
        ] {
            assert!(samples.contains(&sample), "{sample} is not in {text}");
        }
    }

    #[test]
    fn what_takes_long_is_done_less_often() {
        let seconds = Duration::from_secs;
        assert_eq!(rest(seconds(30), seconds(1)), seconds(30));
        assert_eq!(rest(seconds(30), seconds(20)), seconds(80));
    }
}
