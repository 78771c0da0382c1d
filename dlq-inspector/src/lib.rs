//! The operator's command line over dead-letter topics: what died, why, how many alike, run it again, did it work.
//!
//! It needs Kafka alone and knows the `dlq.*` headers of [`dead_letters`], not what the records mean.
//!
//! - [`args`]: the command line; [`select`] and [`ids`]: which letters, the same for every command; [`exit`]: exit codes.
//! - [`kafka`]: clients that read without a group's commits, to the end and no further.
//! - [`snapshot`]: letters and the ledger of what was done with them, folded into a state per letter.
//! - [`commands`] print; [`requeue`] and [`close`] plan and act, by way of [`act`]; [`output`] is how anything reaches the terminal, [`page`] how Prometheus asks.
//!
//! # JSON
//! With `-o json` every line of standard output is one object. The fields of a dead letter are those of
//! [`output::json::LetterJson`], of a topic [`output::json::TopicJson`], of letters alike
//! [`output::json::GroupJson`], `note` prints [`output::json::NoteJson`]; `requeue` prints
//! [`output::json::RequeueJson`], `discard` and `restore` [`output::json::CloseJson`]. Fields are added, never renamed; an absent value is `null`.
//!
//! # States
//! A letter is `open`; `requeued` once it was put back and no outcome is known; `resolved` when its group said applied,
//! already applied or ignored; `dead-again` when it died anew, in which case the new letter is the open one;
//! `discarded`; or `foreign` when the record is in a dead-letter topic and is no dead letter.

pub mod act;
pub mod args;
pub mod close;
pub mod commands;
pub mod exit;
pub mod ids;
pub mod kafka;
pub mod output;
pub mod page;
pub mod requeue;
pub mod select;
pub mod snapshot;
pub mod time;

use dead_letters::one_line;

use self::{
    args::{Args, Command},
    close::Turn,
    exit::Exit,
    kafka::Kafka,
    output::Out,
};

/// Does what the command line asks for; errors are printed.
pub fn run(args: Args) -> Exit {
    match dispatch(args) {
        Ok(exit) => exit,
        Err(error) => {
            output::complain(&format!("error: {}", one_line(error.as_ref())));
            exit::of_error(&error)
        }
    }
}

fn dispatch(args: Args) -> anyhow::Result<Exit> {
    args.command.as_ref().map_or(Ok(()), |command| command.takes(args.output))?;
    let mut out = Out::stdout(args.output);
    let kafka = Kafka::connect(&args.connection)?;
    let done = match &args.command {
        None => commands::morning(&kafka, &mut out),
        Some(Command::Topics(args)) => commands::topics(&kafka, args, &mut out),
        Some(Command::Groups(args)) => commands::groups(&kafka, args, &mut out),
        Some(Command::List(args)) => commands::list(&kafka, args, &mut out),
        Some(Command::Show(args)) => commands::show(&kafka, args, &mut out),
        Some(Command::Requeue(args)) => requeue::run(&kafka, args, &mut out),
        Some(Command::Discard(args)) => close::run(&kafka, Turn::Discard, args, &mut out),
        Some(Command::Restore(args)) => close::run(&kafka, Turn::Restore, args, &mut out),
        Some(Command::Note(args)) => commands::note(&kafka, args, &mut out),
        Some(Command::Metrics(metrics)) => commands::metrics(&args.connection, metrics),
    };
    let done = done.and_then(|exit| Ok(out.finish().map(|()| exit)?));
    let gaps = kafka.gaps();
    let names_ids = args.command.as_ref().is_some_and(Command::names_ids);
    gaps.iter().for_each(|gap| output::complain(&format!("warning: {gap}")));
    Ok(match done? {
        Exit::Ok | Exit::NothingMatched if !gaps.is_empty() && !names_ids => Exit::SomeFailed,
        exit => exit,
    })
}
