//! Payment tokens that force a path, as the sandboxes of card processors have them.

use std::str::FromStr;

/// Tokens that begin like this are for tests; no real token does.
const PREFIX: &str = "tok_";

/// A payment token with a meaning of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TestToken {
    /// `tok_ok`: approved.
    Ok,
    /// `tok_declined`: declined.
    Declined,
    /// `tok_flaky_N`: N failed tries, then approved.
    Flaky(u32),
    /// `tok_down`: every try fails, and the next might not.
    Down,
    /// `tok_poison`: fails for ever.
    Poison,
    /// `tok_crash`: takes the actor down, on every try.
    Crash,
    /// `tok_crash_once`: takes the actor down on the first try, then approved.
    CrashOnce,
    /// `tok_late`: charged, and never answered in time.
    Late,
    /// `tok_refund_flaky_N`: approved; giving it back fails N times before it succeeds.
    RefundFlaky(u32),
    /// `tok_no_courier`: approved here; delivery will find nobody.
    NoCourier,
}

/// It begins like a test token and is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownTestToken;

impl TestToken {
    /// `None` for a token without a special meaning.
    pub fn parse(token: &str) -> Option<Result<Self, UnknownTestToken>> {
        token.starts_with(PREFIX).then(|| token.parse())
    }
}

impl FromStr for TestToken {
    type Err = UnknownTestToken;

    fn from_str(token: &str) -> Result<Self, UnknownTestToken> {
        Ok(match token.strip_prefix(PREFIX).ok_or(UnknownTestToken)? {
            "ok" => Self::Ok,
            "declined" => Self::Declined,
            "down" => Self::Down,
            "poison" => Self::Poison,
            "crash" => Self::Crash,
            "crash_once" => Self::CrashOnce,
            "no_courier" => Self::NoCourier,
            "late" => Self::Late,
            other => {
                let number = |prefix| other.strip_prefix(prefix).and_then(|digits| digits.parse().ok());
                let flaky = number("flaky_").map(Self::Flaky);
                flaky.or_else(|| number("refund_flaky_").map(Self::RefundFlaky)).ok_or(UnknownTestToken)?
            }
        })
    }
}

#[cfg(test)]
mod tests;
