//! `requeue`: shows what it would do; with `--execute` does just that.

mod execute;
mod gather;
mod outcomes;
mod pace;
mod plan;
mod report;
mod stop;
mod tally;
mod transaction;

pub use self::plan::{Item, LeftOut, OpenKey, Plan};
use self::{execute::Job, report::Report, stop::Stop};
use crate::{
    args::RequeueArgs,
    exit::{Exit, Problem},
    kafka::Kafka,
    output::{Out, complain},
    time::now,
};

/// Plans, and acts when told to.
pub fn run(kafka: &Kafka, args: &RequeueArgs, out: &mut Out) -> anyhow::Result<Exit> {
    if args.execute && args.ids.is_empty() && args.selectors.is_empty() {
        let what = "requeue everything? say so: give ids or selectors, such as --state open";
        return Err(Problem::Usage(what.into()).into());
    }
    let now = now();
    let gathered = gather::gather(kafka, args, now)?;
    if args.execute {
        gather::ledger_is_known(kafka, args.force)?;
    }
    let plan = Plan::new(gathered.letters, gathered.left_out, &gathered.open, args.force);
    if plan.items.is_empty() && plan.left_out.is_empty() {
        complain("no dead letter matches");
        return Ok(Exit::NothingMatched);
    }
    let mut report = Report::new(out, gathered.id_len);
    report.plan(&plan, args, now)?;
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
    let job = Job::new(kafka, args, &gathered.positions, &stop);
    let result =
        job.run(&plan.items, &mut report).and_then(|end| job.follow(end, &plan.items, args, &mut report));
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
