//! PASS or FAIL, and why: the card.

use std::fmt;

use serde::Serialize;

use super::facts::Facts;

/// Of many of a kind so many are named.
const NAMED: usize = 3;

/// What a lab has found.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// `PASS` or `FAIL`.
    pub verdict: &'static str,
    /// What did not hold, in sentences; nothing when all held.
    pub failed: Vec<String>,
    /// The command that does the same again.
    pub repeat: String,
    /// The seed of faults and orders.
    pub seed: u64,
    /// Orders a second.
    pub rate: f64,
    /// Seconds for which orders came in.
    pub for_s: f64,
    /// Seconds after the load until nothing moved any more; none where that was not so in the time there is.
    pub settled_s: Option<f64>,
    /// Whether the load was ended before its time.
    pub interrupted: bool,
    /// What it is made of.
    #[serde(flatten)]
    pub facts: Facts,
}

impl Report {
    /// Whether all held.
    pub fn held(&self) -> bool {
        self.failed.is_empty()
    }
}

/// What does not hold in `facts`.
pub(super) fn failed(facts: &Facts, settled: bool) -> Vec<String> {
    let mut failed = Vec::new();
    let mut several = |what: &str, which: &[String]| {
        if !which.is_empty() {
            failed.push(format!("{}: {}", what.replace('#', &which.len().to_string()), named(which)));
        }
    };
    several("# orders are stuck", &facts.stuck);
    several("# orders are lost", &facts.lost);
    several("# orders or cancels were refused or never answered", &facts.refused);
    several("# orders ended otherwise than they should", &facts.ended_otherwise);
    several("# events stand in another order than their causes", &facts.out_of_order);
    several("# dead letters have another cause than garbage", &facts.dead_letters.unexpected);
    several("# records of garbage are no dead letters", &facts.dead_letters.missing);
    several("# sums differ", &facts.reconciliation);
    several("# processes ended by themselves", &facts.ended_by_themselves);
    let audit: Vec<String> = facts.audit.clone();
    several("the audit finds # problems", &audit);
    let money = &facts.money;
    if !money.is_clean() {
        let texts: Vec<String> =
            money.differences.iter().map(|one| format!("{} {}", one.order_id, one.difference)).collect();
        let orders = money.differences.len() as u64 + money.more;
        failed.push(format!("the money of {orders} orders does not add up: {}", named(&texts)));
    }
    for (count, what) in [
        (facts.charged_twice, "orders were charged or given back twice"),
        (facts.placed_twice, "orders were placed once more when they were sent again"),
        (facts.unaccounted, "offsets are unaccounted for"),
    ] {
        if count != 0 {
            failed.push(format!("{count} {what}"));
        }
    }
    for fault in facts.faults.iter().filter(|fault| fault.happened() && fault.recovered_s.is_none()) {
        failed.push(format!("it did not recover from {}", fault.fault));
    }
    if facts.accepted == 0 {
        failed.push("no order was accepted at all".to_owned());
    }
    if !settled && failed.is_empty() {
        failed.push("it did not come to rest".to_owned());
    }
    failed
}

fn named(which: &[String]) -> String {
    let more = which.len().saturating_sub(NAMED);
    let more = if more > 0 { format!("; and {more} more") } else { String::new() };
    format!("{}{more}", which[..which.len().min(NAMED)].join("; "))
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let facts = &self.facts;
        let euros = |cents: i64| format!("{}.{:02}", cents / 100, cents % 100);
        let asked: i64 = facts.money.differences.iter().map(|one| one.held_cents).sum();
        writeln!(
            f,
            "accepted            {} of {} orders, {} requests sent again",
            facts.accepted, facts.placed, facts.repeated
        )?;
        writeln!(f, "ended               {}", facts.ended)?;
        writeln!(f, "stuck               {}", facts.stuck.len())?;
        writeln!(f, "charged twice       {}", facts.charged_twice)?;
        writeln!(
            f,
            "money held          {} that is owed or disputed, of {} at the provider; {} orders compared",
            euros(asked),
            euros(facts.money.held_cents),
            facts.money.orders
        )?;
        writeln!(f, "lost                {}", facts.lost.len())?;
        writeln!(
            f,
            "unaccounted         {} offsets, {} proved to have an outcome",
            facts.unaccounted, facts.proved
        )?;
        writeln!(f, "out of order        {}", facts.out_of_order.len())?;
        let letters = &facts.dead_letters;
        writeln!(
            f,
            "dead letters        {} of {} records of garbage, {} others",
            letters.of_garbage,
            letters.garbage,
            letters.unexpected.len()
        )?;
        match self.settled_s {
            Some(taken) => writeln!(f, "at rest             {taken:.1} s after the load")?,
            None => writeln!(f, "at rest             not in the time there is (--settle)")?,
        }
        for done in &facts.faults {
            write!(f, "{:19} ", done.fault.what())?;
            match done.began_s {
                Some(began) => write!(f, "at {began:5.1} s for {:4.1} s, ", done.lasted_s)?,
                None => write!(f, "not done")?,
            }
            match done.recovered_s {
                Some(taken) => write!(f, "recovered after {taken:.1} s")?,
                None if done.happened() => write!(f, "NOT RECOVERED")?,
                None => {}
            }
            match &done.note {
                Some(note) => writeln!(f, " ({note})")?,
                None => writeln!(f)?,
            }
        }
        for failure in &self.failed {
            writeln!(f, "✗ {failure}")?;
        }
        write!(f, "{}   again: {}", self.verdict, self.repeat)
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::{
        lab::inject::Done,
        money::{self, Difference},
    };

    fn sound() -> Facts {
        let fault = "freeze:kafka@1s".parse().expect("a fault");
        let done = Done { fault, began_s: Some(1.0), lasted_s: 3.0, recovered_s: Some(0.5), note: None };
        Facts { placed: 9, accepted: 9, ended: 9, faults: vec![done], ..Facts::default() }
    }

    /// What is done to sound facts, and what is said of it.
    type Damage = (fn(&mut Facts), &'static str);

    const DAMAGE: [Damage; 18] = [
        (|facts| facts.stuck.push("a".into()), "1 orders are stuck: a"),
        (
            |facts| facts.lost = ["a", "b", "c", "d"].map(String::from).into(),
            "4 orders are lost: a; b; c; and 1 more",
        ),
        (|facts| facts.refused.push("422".into()), "1 orders or cancels were refused or never answered: 422"),
        (|facts| facts.ended_otherwise.push("a".into()), "ended otherwise"),
        (|facts| facts.out_of_order.push("a".into()), "1 events stand in another order"),
        (|facts| facts.dead_letters.unexpected.push("a".into()), "1 dead letters have another cause"),
        (|facts| facts.dead_letters.missing.push("a".into()), "1 records of garbage are no dead letters"),
        (|facts| facts.reconciliation.push("a".into()), "1 sums differ: a"),
        (|facts| facts.ended_by_themselves.push("a".into()), "1 processes ended by themselves"),
        (|facts| facts.audit.push("a".into()), "the audit finds 1 problems: a"),
        (|facts| facts.money.differences.push(held()), "the money of 1 orders does not add up: "),
        (|facts| facts.money.more = 2, "the money of 2 orders does not add up"),
        (|facts| facts.charged_twice = 1, "1 orders were charged or given back twice"),
        (|facts| facts.placed_twice = 2, "2 orders were placed once more"),
        (|facts| facts.unaccounted = 7, "7 offsets are unaccounted for"),
        (|facts| facts.faults[0].recovered_s = None, "it did not recover from freeze:kafka@1s"),
        (|facts| facts.accepted = 0, "no order was accepted at all"),
        (|facts| facts.unaccounted = -1, "-1 offsets are unaccounted for"),
    ];

    fn held() -> Difference {
        let (state, text) = (Some("CANCELLED".into()), "held".into());
        Difference { order_id: Uuid::nil(), state, difference: "held", text, held_cents: 1_290 }
    }

    #[test]
    fn sound_facts_hold_and_each_damage_fails_and_is_named() {
        assert_eq!(failed(&sound(), true), Vec::<String>::new());
        assert_eq!(failed(&sound(), false), ["it did not come to rest"]);
        for (damage, said) in DAMAGE {
            let mut facts = sound();
            damage(&mut facts);
            let failed = failed(&facts, true);
            assert!(failed.len() == 1 && failed[0].contains(said), "{said}: {failed:?}");
        }
    }

    #[test]
    fn a_fault_that_was_not_done_is_nothing_to_recover_from() {
        let mut facts = sound();
        (facts.faults[0].began_s, facts.faults[0].recovered_s) = (None, None);
        assert_eq!(failed(&facts, true), Vec::<String>::new());
    }

    #[test]
    fn the_card_names_what_failed_and_how_to_do_it_again() {
        let mut facts = sound();
        facts.money = money::Report { differences: vec![held()], held_cents: 5_000, orders: 4, more: 0 };
        let report = Report {
            verdict: "FAIL",
            failed: failed(&facts, true),
            repeat: "./dev lab --seed 3".into(),
            seed: 3,
            rate: 20.0,
            for_s: 60.0,
            settled_s: Some(1.0),
            interrupted: false,
            facts,
        };
        let card = report.to_string();
        for part in [
            "money held          12.90 that is owed or disputed, of 50.00",
            "recovered after 0.5 s",
            "✗ the money",
            "again: ./dev lab --seed 3",
        ] {
            assert!(card.contains(part), "{part} is not in\n{card}");
        }
        let json = serde_json::to_value(&report).expect("JSON");
        assert_eq!(
            (&json["verdict"], &json["faults"][0]["fault"]),
            (&"FAIL".into(), &"freeze:kafka@1s".into())
        );
    }
}
