//! What can be done to a stack, as an engineer types it: `KIND[:TARGET]@START[+LENGTH]`.

use std::{fmt, str::FromStr, time::Duration};

use serde::{Serialize, Serializer};

use crate::topology::Role;

/// No fault begins later, or lasts longer.
const LATEST: Duration = Duration::from_secs(24 * 3600);
const LONGEST: Duration = Duration::from_secs(60);

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// SIGKILL, and a new start.
    Kill,
    /// SIGSTOP to all processes of the target, and SIGCONT.
    Freeze,
    /// Asked to end in order, and a new start.
    Restart,
    /// Every change that the payment provider is asked for fails.
    ProviderDown,
    /// Every change that the payment provider is asked for takes longer.
    ProviderSlow,
    /// FLUSHALL.
    RedisWipe,
    /// Every fsync and fdatasync of PostgreSQL takes longer.
    SlowDisk,
    /// Connections stay open, and nothing comes through.
    NetworkCut,
    /// Connections are closed, and new ones refused.
    NetworkRefuse,
    /// Records that nobody can use, on every topic.
    Garbage,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Kill,
        Self::Freeze,
        Self::Restart,
        Self::ProviderDown,
        Self::ProviderSlow,
        Self::RedisWipe,
        Self::SlowDisk,
        Self::NetworkCut,
        Self::NetworkRefuse,
        Self::Garbage,
    ];

    /// How it is typed.
    pub fn name(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::Freeze => "freeze",
            Self::Restart => "restart",
            Self::ProviderDown => "provider-down",
            Self::ProviderSlow => "provider-slow",
            Self::RedisWipe => "redis-wipe",
            Self::SlowDisk => "slow-disk",
            Self::NetworkCut => "network-cut",
            Self::NetworkRefuse => "network-refuse",
            Self::Garbage => "garbage",
        }
    }

    /// What it can be done to; nothing where it says that itself.
    pub fn targets(self) -> &'static [Role] {
        match self {
            Self::Kill | Self::Freeze | Self::Restart => &Role::ALL,
            // Those that somebody stands in front of.
            Self::NetworkCut | Self::NetworkRefuse => &LINKS,
            _ => &[],
        }
    }

    /// How long it lasts unless that is said; `None` for what happens in a moment.
    pub fn usual(self) -> Option<Duration> {
        match self {
            // Started again at once.
            Self::Kill | Self::Restart => Some(Duration::ZERO),
            Self::Freeze | Self::NetworkCut | Self::NetworkRefuse => Some(Duration::from_secs(3)),
            Self::ProviderDown | Self::ProviderSlow | Self::SlowDisk => Some(Duration::from_secs(5)),
            Self::RedisWipe | Self::Garbage => None,
        }
    }
}

/// What is reached through somebody who can cut the connections: Kafka, PostgreSQL and Redis by the services, orders by the gateway.
pub const LINKS: [Role; 4] = [Role::Kafka, Role::Postgres, Role::Redis, Role::Orders];

/// One fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What is done.
    pub kind: Kind,
    /// To whom, where the kind does not say.
    pub target: Option<Role>,
    /// When, from the beginning of the load.
    pub at: Duration,
    /// How long it lasts.
    pub lasts: Duration,
}

impl Fault {
    /// What is done to whom, without when.
    pub fn what(&self) -> String {
        match self.target {
            Some(target) => format!("{}:{target}", self.kind.name()),
            None => self.kind.name().to_owned(),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.what(), short(self.at))?;
        match self.kind.usual() {
            Some(usual) if usual != self.lasts => write!(f, "+{}", short(self.lasts)),
            _ => Ok(()),
        }
    }
}

impl Serialize for Fault {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A time as it is typed: in whole seconds where it has no more, else in milliseconds.
pub fn short(time: Duration) -> String {
    if time.subsec_millis() == 0 { format!("{}s", time.as_secs()) } else { format!("{}ms", time.as_millis()) }
}

/// A time such as `1500ms`, `3s`, `2m`; a number alone is seconds.
///
/// # Errors
/// What a time looks like.
pub fn time(text: &str) -> Result<Duration, String> {
    let end = text.find(|one: char| !one.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let unit = match unit {
        "ms" => Some(1),
        "s" | "" => Some(1_000),
        "m" => Some(60_000),
        _ => None,
    };
    let milliseconds =
        number.parse::<u64>().ok().zip(unit).and_then(|(number, unit)| number.checked_mul(unit));
    milliseconds
        .map(Duration::from_millis)
        .ok_or_else(|| format!("`{text}` is no time: write 1500ms, 3s or 2m"))
}

impl FromStr for Fault {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (what, when) = text.split_once('@').ok_or_else(|| {
            format!("`{text}`: write KIND[:TARGET]@START[+LENGTH], such as freeze:kafka@10s+3s")
        })?;
        let (kind, target) = what.split_once(':').map_or((what, None), |(kind, target)| (kind, Some(target)));
        let kind = Kind::ALL.into_iter().find(|one| one.name() == kind).ok_or_else(|| {
            format!("there is no fault `{kind}`; there are: {}", Kind::ALL.map(Kind::name).join(", "))
        })?;
        let target = aimed(kind, target)?;
        let (at, lasts) = when.split_once('+').map_or((when, None), |(at, lasts)| (at, Some(lasts)));
        let at = time(at)?;
        if at > LATEST {
            return Err(format!("`{text}`: it begins after {} s at the latest", LATEST.as_secs()));
        }
        let lasts = match (kind.usual(), lasts) {
            (None, Some(_)) => return Err(format!("{} happens in a moment: leave out +LENGTH", kind.name())),
            (None, None) => Duration::ZERO,
            (Some(usual), None) => usual,
            (Some(_), Some(lasts)) => time(lasts)?,
        };
        if lasts > LONGEST {
            return Err(format!("`{text}`: a fault lasts {} s at most", LONGEST.as_secs()));
        }
        if lasts.is_zero() && kind.usual().is_some_and(|usual| !usual.is_zero()) {
            return Err(format!("`{text}`: {} that lasts no time is none", kind.name()));
        }
        Ok(Self { kind, target, at, lasts })
    }
}

/// Whom a kind is aimed at.
fn aimed(kind: Kind, target: Option<&str>) -> Result<Option<Role>, String> {
    let targets = kind.targets();
    let names = || targets.iter().map(|role| role.name()).collect::<Vec<_>>().join(", ");
    match target {
        None if targets.is_empty() => Ok(None),
        None => Err(format!("{} of what? Write {}:TARGET, of: {}", kind.name(), kind.name(), names())),
        Some(_) if targets.is_empty() => Err(format!("{} takes no target", kind.name())),
        Some(target) => match Role::parse(target).filter(|role| targets.contains(role)) {
            Some(role) => Ok(Some(role)),
            None => Err(format!("{} cannot be done to `{target}`, only to: {}", kind.name(), names())),
        },
    }
}

/// The faults in `text`, separated by commas; `none` is none.
///
/// # Errors
/// What is wrong with the first that is none, and what there is.
pub fn parse_all(text: &str) -> Result<Vec<Fault>, String> {
    if text == "none" {
        return Ok(Vec::new());
    }
    let mut faults = text.split(',').map(str::parse).collect::<Result<Vec<Fault>, String>>()?;
    faults.sort_by_key(|fault| fault.at);
    for (number, one) in faults.iter().enumerate() {
        if let Some(other) = faults[number + 1..].iter().find(|other| is_in_the_way(one, other)) {
            return Err(format!(
                "{one} and {other} are done by the same means, and cannot be done at the same time"
            ));
        }
    }
    Ok(faults)
}

/// Whether one undoes the other. A process that is traced does not stay stopped; two of a kind end with the first.
fn is_in_the_way(one: &Fault, other: &Fault) -> bool {
    let means = |fault: &Fault| match (fault.kind, fault.target) {
        (Kind::SlowDisk, _) => Some((0, Some(Role::Postgres))),
        (Kind::Freeze | Kind::Kill | Kind::Restart, target) => Some((0, target)),
        (Kind::NetworkCut | Kind::NetworkRefuse, target) => Some((1, target)),
        (Kind::ProviderDown | Kind::ProviderSlow, _) => Some((2, None)),
        (Kind::RedisWipe | Kind::Garbage, _) => None,
    };
    let overlap = one.at <= other.at + other.lasts && other.at <= one.at + one.lasts;
    overlap && means(one).is_some() && means(one) == means(other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_typed_is_read_and_shown_again() {
        for text in [
            "kill:payments@5s",
            "kill:postgres@5s+2s",
            "freeze:kafka@10s+1500ms",
            "restart:gateway@500ms",
            "provider-down@1s",
            "provider-slow@1s+8s",
            "redis-wipe@0s",
            "slow-disk@3s",
            "network-cut:orders@3s+4s",
            "network-refuse:redis@90s",
            "garbage@7s",
        ] {
            let fault: Fault = text.parse().expect(text);
            assert_eq!(fault.to_string(), text);
        }
        let fault: Fault = "freeze:kafka@1m".parse().expect("minutes");
        assert_eq!((fault.at, fault.lasts), (Duration::from_secs(60), Duration::from_secs(3)));
        let all = parse_all("garbage@9,kill:orders@2").expect("two");
        assert_eq!(all.iter().map(Fault::to_string).collect::<Vec<_>>(), ["kill:orders@2s", "garbage@9s"]);
        assert_eq!(parse_all("none"), Ok(Vec::new()));
        // Of others, or one after the other.
        for text in [
            "kill:orders@1s+2s,freeze:payments@2s",
            "slow-disk@1s+2s,freeze:postgres@4s",
            "garbage@1s,garbage@1s",
        ] {
            assert_eq!(parse_all(text).map(|faults| faults.len()), Ok(2), "{text}");
        }
    }

    #[test]
    fn what_is_no_fault_is_refused_with_what_there_is() {
        for (text, said) in [
            ("", "write KIND[:TARGET]@START[+LENGTH]"),
            ("kill:payments", "write KIND[:TARGET]@START[+LENGTH]"),
            ("explode:payments@1s", "there are: kill, freeze, restart, provider-down"),
            ("kill@1s", "kill of what?"),
            ("kill:mysql@1s", "only to: kafka, postgres, redis, gateway, orders, payments, delivery"),
            ("network-cut:payments@1s", "only to: kafka, postgres, redis, orders"),
            ("slow-disk:kafka@1s", "takes no target"),
            ("garbage@1s+2s", "leave out +LENGTH"),
            ("freeze:kafka@soon", "`soon` is no time"),
            ("freeze:kafka@1h", "write 1500ms, 3s or 2m"),
            ("freeze:kafka@1s+61s", "lasts 60 s at most"),
            ("freeze:kafka@1s+0s", "lasts no time"),
            ("freeze:kafka@99999999999999999999s", "is no time"),
            ("kill:payments@1s,", "write KIND"),
            ("kill:payments@1s,none", "write KIND"),
            ("slow-disk@1s+5s,freeze:postgres@3s", "freeze:postgres@3s are done by the same means"),
            ("provider-down@1s,provider-slow@2s", "cannot be done at the same time"),
            ("network-cut:redis@1s,network-refuse:redis@2s", "cannot be done at the same time"),
            ("kill:orders@1s+2s,freeze:orders@2s", "cannot be done at the same time"),
        ] {
            let refused = parse_all(text).expect_err(text);
            assert!(refused.contains(said), "{text}: {refused}");
        }
    }
}
