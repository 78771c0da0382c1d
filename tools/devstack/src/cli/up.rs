//! `up`, `down`.

use std::{collections::BTreeMap, process::ExitCode, time::Duration};

use anyhow::Result;
use clap::Args;
use devstack::{
    os::{launch::Lifetime, logs},
    stack::{Changed, RunState, Up},
    topology::Role,
};

use super::{
    ending::Ending,
    logs::tails,
    open::{open, parse_role},
};

#[derive(Debug, Args)]
pub(crate) struct UpArgs {
    /// Leave it running in the background; without this, show the logs until Ctrl-C and stop then
    #[arg(short, long)]
    detach: bool,
    /// How many of a service run, such as payments=2
    #[arg(long, value_name = "SERVICE=N", value_parser = parse_scale)]
    scale: Vec<(Role, u32)>,
    /// The gateway's port; 8000, or another if that is taken
    #[arg(long, value_name = "PORT")]
    port: Option<u16>,
    /// Throw the data of earlier runs away first
    #[arg(long)]
    fresh: bool,
}

fn parse_scale(text: &str) -> Result<(Role, u32), String> {
    let (name, count) = text.split_once('=').ok_or("write SERVICE=N, such as payments=2")?;
    let role = parse_role(name)?;
    if role.service().is_none() || role == Role::Gateway {
        return Err(format!("there is one {role} only; orders, payments and delivery can be scaled"));
    }
    match count.parse() {
        Ok(count @ 1..=16) => Ok((role, count)),
        _ => Err(format!("`{count}` is not a number from 1 to 16")),
    }
}

pub(crate) async fn up(args: UpArgs) -> Result<ExitCode> {
    let lifetime = if args.detach { Lifetime::Detached } else { Lifetime::Attached };
    let mut stack = open(lifetime, args.port)?;
    let lock = stack.lock().await?;
    stack.reload()?;
    let up = Up {
        scale: args.scale.into_iter().collect::<BTreeMap<_, _>>(),
        fresh: args.fresh,
        servers_only: false,
    };
    let mut ending = Ending::new()?;
    let changed = tokio::select! {
        changed = stack.up(&up) => changed?,
        () = ending.asked() => {
            eprintln!("stopping");
            stack.reload()?;
            stack.down().await?;
            return Ok(ExitCode::from(130));
        }
    };
    let Changed { started, stopped } = &changed;
    for (what, labels) in [("stopped", stopped), ("started", started)] {
        if !labels.is_empty() {
            println!("{what} {}", labels.join(", "));
        }
    }
    if changed == Changed::default() {
        println!("everything runs already");
    }
    println!("gateway: {}   stop: ./dev down   addresses: ./dev env", stack.gateway_url()?);
    drop(lock);
    if args.detach {
        return Ok(ExitCode::SUCCESS);
    }
    let mut tails = tails(&stack, None, true);
    let gone = async {
        // Another terminal's `down` ends this one too.
        while stack.status().iter().any(|process| process.state == RunState::Running) {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    logs::follow(&mut tails, async {
        tokio::select! { () = gone => {}, () = ending.asked() => {} }
    })
    .await?;
    down().await
}

pub(crate) async fn down() -> Result<ExitCode> {
    let mut stack = open(Lifetime::Detached, None)?;
    let _lock = stack.lock().await?;
    stack.reload()?;
    let down = stack.down().await?;
    match (down.ended.len() + down.killed.len(), down.killed.as_slice()) {
        (0, _) => println!("nothing was running"),
        (count, []) => println!("stopped {count} processes"),
        (count, killed) => {
            println!("stopped {count} processes; {} did not end when asked and was killed", killed.join(", "))
        }
    }
    Ok(ExitCode::SUCCESS)
}
