//! Which faults happen when, drawn from a seed.

use std::time::Duration;

use rand::{Rng as _, SeedableRng as _, rngs::StdRng};

use super::fault::{Fault, Kind, LINKS};
use crate::topology::Role;

/// Nothing happens before this: orders are on their way by then.
const QUIET: Duration = Duration::from_secs(2);

/// The faults of `seed` for a load of so long: always the same of the same. One begins some seconds after the end of the one before, so
/// that what each did can be told apart; the last ends before the load does.
pub fn draw(seed: u64, duration: Duration) -> Vec<Fault> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut faults = Vec::new();
    let mut at = QUIET + tenths(&mut random, 0..=10);
    loop {
        let (kind, target) = one(&mut random);
        let lasts = match kind {
            Kind::Kill | Kind::Restart => tenths(&mut random, 0..=20),
            _ if kind.usual().is_none() => Duration::ZERO,
            _ => tenths(&mut random, 10..=50),
        };
        if at + lasts >= duration {
            return faults;
        }
        faults.push(Fault { kind, target, at, lasts });
        at += lasts + tenths(&mut random, 30..=60);
    }
}

fn tenths(random: &mut StdRng, range: std::ops::RangeInclusive<u64>) -> Duration {
    Duration::from_millis(random.random_range(range) * 100)
}

/// Processes die and stand still more often than anything else happens to them.
fn one(random: &mut StdRng) -> (Kind, Option<Role>) {
    let of = |random: &mut StdRng, roles: &[Role]| Some(roles[random.random_range(0..roles.len())]);
    match random.random_range(0..20) {
        0..=4 => (Kind::Kill, of(random, &Role::ALL)),
        5..=8 => (Kind::Freeze, of(random, &Role::ALL)),
        9..=10 => (Kind::Restart, of(random, &Role::ALL)),
        11..=12 => (Kind::NetworkCut, of(random, &LINKS)),
        13 => (Kind::NetworkRefuse, of(random, &LINKS)),
        14 => (Kind::ProviderDown, None),
        15 => (Kind::ProviderSlow, None),
        16 => (Kind::SlowDisk, None),
        17 => (Kind::RedisWipe, None),
        _ => (Kind::Garbage, None),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::lab::fault::parse_all;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn a_seed_draws_the_same_again_and_another_one_something_else() {
        assert_eq!(draw(7, MINUTE), draw(7, MINUTE));
        let drawn: BTreeSet<String> = (0..100).map(|seed| format!("{:?}", draw(seed, MINUTE))).collect();
        assert_eq!(drawn.len(), 100);
        // Written down: a plan that is named by its seed in a report has to stay what it was.
        let one: Vec<String> = draw(1, Duration::from_secs(30)).iter().map(Fault::to_string).collect();
        let expected = [
            "provider-slow@3s+1800ms",
            "kill:payments@8400ms+1s",
            "freeze:delivery@14800ms+1400ms",
            "freeze:gateway@19600ms+2600ms",
            "garbage@27700ms",
        ];
        assert_eq!(one, expected);
    }

    #[test]
    fn faults_come_one_after_the_other_within_the_load_and_can_be_typed() {
        for seed in 0..200 {
            let plan = draw(seed, MINUTE);
            assert!((4..=14).contains(&plan.len()), "{} in a minute", plan.len());
            assert!(plan[0].at >= QUIET);
            for (one, next) in plan.iter().zip(&plan[1..]) {
                assert!(one.at + one.lasts + Duration::from_secs(3) <= next.at, "{one} {next}");
            }
            assert!(plan.iter().all(|fault| fault.at + fault.lasts < MINUTE));
            let text: Vec<String> = plan.iter().map(Fault::to_string).collect();
            assert_eq!(parse_all(&text.join(",")), Ok(plan));
        }
    }

    #[test]
    fn every_kind_and_every_target_is_drawn_by_some_seed_and_a_short_load_has_a_plan_too() {
        let all: BTreeSet<String> =
            (0..300).flat_map(|seed| draw(seed, MINUTE)).map(|fault| fault.what()).collect();
        for kind in Kind::ALL {
            let targets = kind.targets();
            let expected = targets.iter().map(|role| format!("{}:{role}", kind.name()));
            let alone = targets.is_empty().then(|| kind.name().to_owned());
            for what in expected.chain(alone) {
                assert!(all.contains(&what), "{what} was never drawn");
            }
        }
        assert!((0..200).all(|seed| !draw(seed, Duration::from_secs(12)).is_empty()));
        assert!(draw(1, QUIET).is_empty());
    }
}
