//! Says in the log what does not work: one line when it begins, one a minute while it lasts, one when it is over.
//!
//! Whoever meets trouble raises a condition and says nothing itself, or says it at DEBUG: what is wrong for an hour is sixty
//! lines then, however often it was met.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    time::{Duration, Instant},
};

use crate::Condition;

const EVERY: Duration = Duration::from_secs(1);
/// What lasts is logged again after this.
const AGAIN: Duration = Duration::from_secs(60);
/// What comes back before this was never over: an actor that restarts all the time has one beginning.
const OVER_AFTER: Duration = Duration::from_secs(3);
/// Lines of one round; of the rest there is a count.
const LINES: usize = 50;

type Key = (Option<String>, Option<i32>, &'static str, Cow<'static, str>);

/// What was said of a group.
#[derive(Debug, Default)]
pub(crate) struct Reporter {
    known: BTreeMap<Key, Known>,
}

#[derive(Debug)]
struct Known {
    condition: Condition,
    begun: Instant,
    seen: Instant,
    said: Instant,
}

/// A line to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Line {
    Begun(Condition),
    Lasts(Condition, Duration),
    Over(Condition, Duration),
}

impl Reporter {
    /// Compares what holds with what was said, once a second, for as long as the group lives.
    pub(crate) async fn run(mut self, group: String, list: impl Fn() -> Vec<Condition>) {
        loop {
            tokio::time::sleep(EVERY).await;
            let lines = self.round(Instant::now(), list());
            lines.iter().take(LINES).for_each(|line| line.write(&group));
            if let Some(more @ 1..) = lines.len().checked_sub(LINES) {
                tracing::warn!(
                    group,
                    more,
                    "more begins, lasts or is over than is worth a line each; see /readyz"
                );
            }
        }
    }

    fn round(&mut self, now: Instant, list: Vec<Condition>) -> Vec<Line> {
        let mut lines = Vec::new();
        for condition in list {
            let key = (condition.topic.clone(), condition.partition, condition.state, condition.code.clone());
            match self.known.get_mut(&key) {
                None => {
                    lines.push(Line::Begun(condition.clone()));
                    self.known.insert(key, Known { condition, begun: now, seen: now, said: now });
                }
                Some(known) => {
                    known.seen = now;
                    known.condition = condition;
                    if now.duration_since(known.said) >= AGAIN {
                        known.said = now;
                        lines.push(Line::Lasts(known.condition.clone(), now.duration_since(known.begun)));
                    }
                }
            }
        }
        self.known.retain(|_, known| {
            let over = now.duration_since(known.seen) >= OVER_AFTER;
            if over {
                let lasted = known.seen.duration_since(known.begun);
                lines.push(Line::Over(known.condition.clone(), lasted));
            }
            !over
        });
        lines
    }
}

impl Line {
    fn write(&self, group: &str) {
        let (Self::Begun(condition) | Self::Lasts(condition, _) | Self::Over(condition, _)) = self;
        let Condition { topic, partition, state, code, message, .. } = condition;
        let (topic, code) = (topic.as_deref(), &**code);
        match self {
            Self::Begun(_) => {
                tracing::warn!(
                    group,
                    topic,
                    partition,
                    state,
                    code,
                    problem = message,
                    "does not work as it should"
                );
            }
            Self::Lasts(_, lasted) => {
                let lasts_s = lasted.as_secs();
                tracing::warn!(
                    group,
                    topic,
                    partition,
                    state,
                    code,
                    problem = message,
                    lasts_s,
                    "still does not work as it should"
                );
            }
            Self::Over(_, lasted) => {
                let lasted_s = lasted.as_secs();
                tracing::info!(group, topic, partition, state, code, lasted_s, "works again");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;

    use super::*;

    fn condition(code: &'static str) -> Condition {
        Condition {
            topic: Some("orders".into()),
            partition: Some(1),
            state: "degraded",
            code: code.into(),
            message: "because".into(),
            since: DateTime::UNIX_EPOCH,
        }
    }

    #[test]
    fn what_lasts_an_hour_is_a_line_a_minute_and_one_when_it_is_over() {
        let (mut reporter, start) = (Reporter::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        let gone = condition("gone");
        assert_eq!(reporter.round(at(0), vec![]), []);
        let mut lines = Vec::new();
        for second in 1..=3_600 {
            lines.extend(reporter.round(at(second), vec![gone.clone()]));
        }
        assert_eq!(lines[0], Line::Begun(gone.clone()));
        assert_eq!(lines[1], Line::Lasts(gone.clone(), Duration::from_secs(60)));
        assert_eq!(lines.len(), 60, "one that begins, 59 that say it lasts");
        assert_eq!(reporter.round(at(3_601), vec![]), [], "it may come back");
        let over = Line::Over(gone, Duration::from_secs(3_599));
        assert_eq!(reporter.round(at(3_603), vec![]), [over]);
        assert_eq!(reporter.round(at(3_604), vec![]), []);
    }

    #[test]
    fn what_comes_and_goes_every_other_second_begins_once() {
        let (mut reporter, start) = (Reporter::default(), Instant::now());
        let mut lines = Vec::new();
        for second in 0..59 {
            let now = if second % 2 == 0 { vec![condition("panic")] } else { Vec::new() };
            lines.extend(reporter.round(start + Duration::from_secs(second), now));
        }
        assert_eq!(lines, [Line::Begun(condition("panic"))]);
    }
}
