//! `requeue`: shows what it would do; with `--execute` does just that.

mod execute;
mod outcomes;
mod plan;
mod report;
mod tally;

use dead_letters::requeue_topic;

pub use self::plan::{Item, OpenKey, Plan};
use self::{execute::Putting, report::Report};
use crate::{
    act::{self, Pace, Session, Stop, Which, gather, ledger_is_known},
    args::RequeueArgs,
    exit::{Exit, Problem},
    kafka::Kafka,
    output::{Out, complain},
    snapshot::State,
    time::now,
};

/// Plans, and acts when told to.
///
/// # Errors
/// When an id is unknown or ambiguous, the safety rules forbid it, or Kafka does not answer.
pub fn run(kafka: &Kafka, args: &RequeueArgs, out: &mut Out) -> anyhow::Result<Exit> {
    let ids = args.ids.read()?;
    let which = Which { ids: &ids, selectors: &args.selectors, unless_said: State::Open };
    if args.execute && which.is_everything() {
        let what = "requeue everything? say so: give ids or selectors, such as --state open";
        return Err(Problem::Usage(what.into()).into());
    }
    let now = now();
    let open = |letter: &_, state| (state == State::Open).then(|| OpenKey::of(letter)).flatten();
    let gathered = gather(kafka, &which, now, open)?;
    if args.execute {
        ledger_is_known(kafka, args.force)?;
    }
    let plan = Plan::new(gathered.letters, gathered.left_out, &gathered.noted, args.force);
    if plan.items.is_empty() && plan.left_out.is_empty() {
        complain(&format!("no dead letter matches{}", gathered.others));
        return Ok(Exit::NothingMatched);
    }
    let mut report = Report::new(out, gathered.id_len);
    report.plan(&plan, &which, args, now)?;
    if plan.items.is_empty() {
        complain("refused: nothing of this can be requeued");
        return Ok(Exit::Refused);
    }
    // A plan ends as doing it would, as far as that is known.
    let planned = if plan.left_out.is_empty() { Exit::Ok } else { Exit::Refused };
    if !args.execute {
        return Ok(planned);
    }
    let stop = Stop::on_signals()?;
    let session = Session::new(
        kafka,
        &gathered.positions,
        &stop,
        args.by.as_deref(),
        args.reason.as_deref(),
        args.force,
    );
    let result = execute(&session, &plan, args, &mut report);
    match result {
        Ok(Exit::Ok) => Ok(planned),
        Ok(exit) => Ok(exit),
        Err(error) => {
            // However it ended, what was done is said; that it cannot be said hides no error.
            if let Err(lost) = report.stopped() {
                complain(&format!("how far it got cannot be shown: {lost:#}; `list --state requeued` tells"));
            }
            Err(error)
        }
    }
}

fn execute(
    session: &Session<'_>,
    plan: &Plan,
    args: &RequeueArgs,
    report: &mut Report<'_>,
) -> anyhow::Result<Exit> {
    session.topics_exist(plan.items.iter().map(|item| requeue_topic(&item.group)))?;
    let mut pace = Pace::new(args.rate);
    let end = act::run(session, &mut pace, &plan.items, &mut Putting { session, report })?;
    outcomes::follow(session, end, &plan.items, args, report)
}
