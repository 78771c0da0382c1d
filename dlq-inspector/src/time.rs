//! Times and durations as people write and read them.

use std::time::Duration;

use chrono::{DateTime, DurationRound, SecondsFormat, TimeDelta, Utc};

/// Reads `250ms`, `30s`, `15m`, `2h`, `1d`, `1w`, and sums of them such as `1h30m`.
pub fn duration(text: &str) -> Result<Duration, String> {
    // To the parser M is a month; whoever writes 15M for 15m would get another time than they mean.
    let read = humantime::parse_duration(text.trim()).ok().filter(|_| !text.contains('M'));
    read.ok_or_else(|| format!("{text:?} is no duration: write 30s, 15m, 2h or 1h30m"))
}

/// A point in time on the command line: absolute, or that long ago.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// RFC 3339.
    At(DateTime<Utc>),
    /// So long before now.
    Ago(Duration),
}

impl When {
    /// Reads an RFC 3339 time or a duration.
    pub fn parse(text: &str) -> Result<Self, String> {
        if let Ok(at) = DateTime::parse_from_rfc3339(text) {
            return Ok(Self::At(at.with_timezone(&Utc)));
        }
        duration(text)
            .map(Self::Ago)
            .map_err(|_| format!("{text:?} is neither a time like 2026-03-01T12:00:00Z nor an age like 15m"))
    }

    /// The time meant, seen from `now`. An age that reaches past the calendar means its first moment.
    pub fn resolve(self, now: DateTime<Utc>) -> DateTime<Utc> {
        match self {
            Self::At(at) => at,
            Self::Ago(age) => TimeDelta::from_std(age)
                .ok()
                .and_then(|age| now.checked_sub_signed(age))
                .unwrap_or(DateTime::<Utc>::MIN_UTC),
        }
    }
}

/// The time, no finer than it is printed.
pub fn now() -> DateTime<Utc> {
    let now = Utc::now();
    now.duration_trunc(TimeDelta::milliseconds(1)).unwrap_or(now)
}

/// How long `ms` is, in its largest unit: `850ms`, `42s`, `17m`, `5h`, `12d`. A negative span counts as nothing.
pub fn short(ms: i64) -> String {
    let s = ms / 1_000;
    match s {
        ..0 => "0s".into(),
        0 => format!("{}ms", ms.max(0)),
        1..120 => format!("{s}s"),
        120..7_200 => format!("{}m", s / 60),
        7_200..172_800 => format!("{}h", s / 3_600),
        _ => format!("{}d", s / 86_400),
    }
}

/// The age of `at`.
pub fn age(now: DateTime<Utc>, at: DateTime<Utc>) -> String {
    short((now - at).num_milliseconds())
}

/// RFC 3339 with milliseconds.
pub fn rfc3339(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Millis, true)
}

/// Milliseconds since the epoch as a time; what no calendar holds is the epoch.
pub fn from_ms(ms: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_millis(ms).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_with_their_units() {
        for (text, ms) in [
            ("250ms", 250),
            ("30s", 30_000),
            ("15m", 900_000),
            ("1h30m", 5_400_000),
            ("1d", 86_400_000),
            ("2w", 1_209_600_000),
            (" 1.5h ", 5_400_000),
            ("0s", 0),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        for text in ["", "5", "m", "5x", "1h5", "-1s", "15M", "99999999999999999999s", "9999999999999999w"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_time_is_absolute_or_an_age() {
        let now = from_ms(1_790_000_000_000);
        assert_eq!(When::parse("15m").map(|w| w.resolve(now)), Ok(from_ms(1_790_000_000_000 - 900_000)));
        let at = When::parse("2026-03-01T13:00:00+01:00").map(|w| rfc3339(w.resolve(now)));
        assert_eq!(at, Ok("2026-03-01T12:00:00.000Z".into()));
        assert!(When::parse("yesterday").is_err());
        assert_eq!(When::parse("99999999w").map(|w| w.resolve(now)), Ok(DateTime::<Utc>::MIN_UTC));
    }

    #[test]
    fn ages_are_short() {
        for (ms, text) in [(-5, "0ms"), (-5_000, "0s"), (850, "850ms"), (42_000, "42s"), (7_000_000, "116m")]
        {
            assert_eq!(short(ms), text);
        }
        assert_eq!(short(3_600_000 * 50), "2d");
    }
}
