//! What becomes of requeued letters, from the ledger.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use dead_letters::{ACTIONS_TOPIC, Action, Entry, RequeueOutcome};
use uuid::Uuid;

use super::{plan::Item, report::Report};
use crate::{
    act::{End, Session},
    args::RequeueArgs,
    exit::Exit,
    kafka::{Raw, Start},
};

/// Matches lines of the ledger to the letters of one run. Pure.
#[derive(Debug)]
struct Waiting<'i> {
    job: Uuid,
    letters: HashMap<Uuid, Wait<'i>>,
}

#[derive(Debug)]
struct Wait<'i> {
    item: &'i Item,
    /// The ledger partition of our own line, once it was read: outcomes above it there belong to an earlier requeue.
    ours: Option<i32>,
    /// An outcome read before our own line, with its partition.
    early: Option<(i32, RequeueOutcome)>,
}

impl<'i> Waiting<'i> {
    fn new(job: Uuid, items: impl Iterator<Item = &'i Item>) -> Self {
        let letters = items.map(|item| (item.id, Wait { item, ours: None, early: None }));
        Self { job, letters: letters.collect() }
    }

    /// Takes a line in; a letter whose outcome it settles is handed out.
    fn read(&mut self, partition: i32, entry: &Entry) -> Option<(&'i Item, RequeueOutcome)> {
        let wait = self.letters.get_mut(&entry.dlq_id)?;
        let outcome = match &entry.action {
            Action::Requeue { .. } if entry.job == Some(self.job) => {
                wait.ours = Some(partition);
                // Another partition has no order with ours: its outcome may well be the one waited for.
                wait.early.take().filter(|(other, _)| *other != partition).map(|(_, outcome)| outcome)
            }
            Action::Outcome { generation, outcome } if *generation == wait.item.generation => {
                if wait.ours.is_none() {
                    wait.early = Some((partition, *outcome));
                }
                wait.ours.map(|_| *outcome)
            }
            _ => None,
        }?;
        self.letters.remove(&entry.dlq_id).map(|wait| (wait.item, outcome))
    }
}

/// Waits for the outcomes of what was put back when asked to, then says how it all ended.
pub(super) fn follow(
    session: &Session<'_>,
    end: End,
    items: &[Item],
    args: &RequeueArgs,
    report: &mut Report<'_>,
) -> anyhow::Result<Exit> {
    if args.wait {
        let requeued = items.iter().filter(|item| report.endings().is_requeued(item.id));
        let waiting = Waiting::new(session.id, requeued);
        wait(session, waiting, args.timeout, report)?;
    }
    report.summary(args.wait, end)?;
    let tally = report.endings().tally();
    Ok(match end {
        End::Fenced => Exit::Fenced,
        End::Stopped => Exit::Interrupted,
        End::Finished if session.stop.asked() && tally.outstanding > 0 => Exit::Interrupted,
        End::Finished if tally.some_failed() => Exit::SomeFailed,
        End::Finished => Exit::Ok,
    })
}

fn wait(
    session: &Session<'_>,
    mut waiting: Waiting<'_>,
    timeout: Duration,
    report: &mut Report<'_>,
) -> anyhow::Result<()> {
    if waiting.letters.is_empty() {
        return Ok(());
    }
    let deadline = Instant::now() + timeout;
    let mut reader = session.kafka.reader(ACTIONS_TOPIC, &Start::At(session.positions.clone()))?;
    while !waiting.letters.is_empty() && Instant::now() < deadline && !session.stop.asked() {
        let mut settled = Vec::new();
        reader.follow(Duration::from_millis(100), |raw: &Raw<'_>| {
            let entry = raw.value.and_then(|value| serde_json::from_slice::<Entry>(value).ok());
            settled.extend(entry.and_then(|entry| waiting.read(raw.partition, &entry)));
        })?;
        for (item, outcome) in settled {
            report.outcome(item, outcome)?;
        }
    }
    let mut left: Vec<_> = waiting.letters.into_keys().collect();
    left.sort_unstable();
    left.into_iter().try_for_each(|id| report.outstanding(id))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        requeue::Plan,
        snapshot::{State, tests::dead},
        time::from_ms,
    };

    fn entry(action: Action, job: Option<Uuid>) -> Entry {
        Entry {
            dlq_id: dead(1, 1).id,
            group: "g".into(),
            action,
            at: from_ms(0),
            by: "b".into(),
            job,
            reason: None,
        }
    }

    #[test]
    fn only_an_outcome_after_our_own_requeue_counts() {
        let job = Uuid::from_u128(1);
        let plan = Plan::new(vec![(dead(1, 1), State::Open)], vec![], &[], false);
        let waiting = || Waiting::new(job, plan.items.iter());
        let ours = entry(Action::Requeue { generation: 2 }, Some(job));
        let theirs = entry(Action::Requeue { generation: 2 }, Some(Uuid::from_u128(2)));
        let applied = entry(Action::Outcome { generation: 2, outcome: RequeueOutcome::Applied }, None);
        let other = entry(Action::Outcome { generation: 3, outcome: RequeueOutcome::DeadAgain }, None);

        let mut one = waiting();
        for earlier in [&theirs, &applied, &ours, &other] {
            assert_eq!(one.read(0, earlier), None, "{earlier:?}");
        }
        assert_eq!(one.read(0, &applied).map(|(_, outcome)| outcome), Some(RequeueOutcome::Applied));
        assert!(one.letters.is_empty());

        // A writer that partitions otherwise: the outcome may be read first.
        let mut two = waiting();
        assert_eq!(two.read(3, &applied), None);
        assert_eq!(two.read(0, &ours).map(|(_, outcome)| outcome), Some(RequeueOutcome::Applied));
    }
}
