//! `logs`.

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use devstack::{
    os::{
        launch::Lifetime,
        logs::{self, Tail},
    },
    stack::Stack,
    topology::Role,
};

use super::{
    ending::Ending,
    open::{open, parse_role},
};

#[derive(Debug, Args)]
pub(crate) struct LogsArgs {
    /// One of them: kafka, postgres, redis, gateway, orders, payments, delivery
    #[arg(value_parser = parse_role)]
    service: Option<Role>,
    /// Go on until Ctrl-C
    #[arg(short, long)]
    follow: bool,
}

pub(crate) async fn logs(args: LogsArgs) -> Result<ExitCode> {
    let stack = open(Lifetime::Detached, None)?;
    let mut tails = tails(&stack, args.service, false);
    if args.follow {
        let mut ending = Ending::new()?;
        logs::follow(&mut tails, ending.asked()).await?;
    } else {
        let width = if tails.len() == 1 { 0 } else { 10 };
        logs::print(&mut tails, width)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The logs of all processes of the stack, or of `only` one.
pub(super) fn tails(stack: &Stack, only: Option<Role>, from_end: bool) -> Vec<Tail> {
    let shown = stack.status().into_iter().filter(|process| only.is_none_or(|role| role == process.name));
    shown
        .map(|process| {
            let path = stack.log(process.name, process.instance);
            let label = path.file_stem().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
            Tail::new(label, path, from_end)
        })
        .collect()
}
