//! `discard` and `restore`: close letters without running them, and take that back. The plan first; with `--execute` just that.

mod plan;
mod report;

use anyhow::Result;
use dead_letters::Entry;
use uuid::Uuid;

pub use self::plan::{Item, Plan, Turn};
use self::report::Report;
use crate::{
    act::{self, End, NotWritten, Pace, Put, Session, Stop, Which, Work, Writer, gather, ledger_is_known},
    args::CloseArgs,
    exit::{Exit, Problem},
    kafka::Kafka,
    output::{Out, complain},
    time::now,
};

/// Plans, and acts when told to.
///
/// # Errors
/// When an id is unknown or ambiguous, the safety rules forbid it, or Kafka does not answer.
pub fn run(kafka: &Kafka, turn: Turn, args: &CloseArgs, out: &mut Out) -> Result<Exit> {
    let ids = args.ids.read()?;
    let which = Which { ids: &ids, selectors: &args.selectors, unless_said: turn.from() };
    let word = turn.command();
    if args.execute && which.is_everything() {
        let state = turn.from().as_str();
        let what = format!("{word} everything? say so: give ids or selectors, such as --state {state}");
        return Err(Problem::Usage(what).into());
    }
    let now = now();
    let gathered = gather(kafka, &which, now, |_, _| None::<()>)?;
    if args.execute {
        ledger_is_known(kafka, args.force)?;
    }
    let plan = Plan::new(turn, gathered.letters, gathered.left_out, args.force);
    if plan.items.is_empty() && plan.left_out.is_empty() {
        complain(&format!("no dead letter matches{}", gathered.others));
        return Ok(Exit::NothingMatched);
    }
    let mut report = Report::new(out, &plan, gathered.id_len);
    report.plan(&which, args, now)?;
    if plan.items.is_empty() {
        complain(&format!("refused: nothing of this can be {}", turn.done()));
        return Ok(Exit::Refused);
    }
    // A plan ends as doing it would, as far as that is known.
    let planned = if plan.left_out.is_empty() { Exit::Ok } else { Exit::Refused };
    if !args.execute {
        return Ok(planned);
    }
    let stop = Stop::on_signals()?;
    let reason = Some(args.reason.as_str());
    let session = Session::new(kafka, &gathered.positions, &stop, args.by.as_deref(), reason, args.force);
    let done = session.topics_exist([]).and_then(|()| {
        let mut closing = Closing { session: &session, turn, report: &mut report };
        act::run(&session, &mut Pace::new(None), &plan.items, &mut closing)
    });
    // However it ended, what was done is said; that it cannot be said hides no error.
    let said = report.summary(done.as_ref().ok().copied());
    let end = match done {
        Ok(end) => end,
        Err(error) => {
            if let Err(lost) = said {
                complain(&format!("how far it got cannot be shown: {lost:#}; `list --all` tells"));
            }
            return Err(error);
        }
    };
    said?;
    Ok(match end {
        End::Fenced => Exit::Fenced,
        End::Stopped => Exit::Interrupted,
        End::Finished if !report.all_done() => Exit::SomeFailed,
        End::Finished => planned,
    })
}

/// Writes batches to the ledger and tells the report.
#[derive(Debug)]
struct Closing<'s, 'r, 'o> {
    session: &'s Session<'s>,
    turn: Turn,
    report: &'r mut Report<'o>,
}

impl Work<Item> for Closing<'_, '_, '_> {
    fn batch(
        &mut self,
        writer: &Writer,
        _group: &str,
        batch: Vec<&Item>,
    ) -> Result<std::result::Result<(), NotWritten>> {
        let entries: Vec<Entry> =
            batch.iter().map(|item| self.session.entry(*item, self.turn.action())).collect();
        let puts: Vec<_> = entries.iter().map(|entry| Put { record: None, entry }).collect();
        let mut written = Vec::new();
        let mut end = Ok(());
        for (item, result) in batch.into_iter().zip(writer.write(&puts)) {
            match result {
                Ok(()) => written.push(item),
                Err(NotWritten::Refused(why)) => self.report.note_failed(item.id, &why),
                Err(other) => {
                    if let NotWritten::Unknown(_) = other {
                        self.report.note_unknown(item.id);
                    }
                    end = Err(other);
                }
            }
        }
        self.report.note_done(&written, self.session.id);
        Ok(end)
    }

    fn failed(&mut self, id: Uuid, why: &str) -> Result<()> {
        self.report.failed(id, why)
    }
}
