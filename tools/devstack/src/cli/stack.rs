//! `up`, `down`, `status`, `logs`, `env`, `inspector`.

use std::{
    collections::BTreeMap,
    io::{self, Write as _},
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use clap::Args;
use devstack::{
    os::{
        launch::Lifetime,
        logs::{self, Tail},
        paths,
    },
    stack::{Changed, GatewayPort, RunState, Settings, Stack, Up},
    topology::{Role, label},
};
use tokio::signal::unix::{SignalKind, signal};

use super::Output;

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

#[derive(Debug, Args)]
pub(crate) struct LogsArgs {
    /// One of them: kafka, postgres, redis, gateway, orders, payments, delivery
    #[arg(value_parser = parse_role)]
    service: Option<Role>,
    /// Go on until Ctrl-C
    #[arg(short, long)]
    follow: bool,
}

fn parse_role(text: &str) -> Result<Role, String> {
    let known = || Role::ALL.map(Role::name).join(", ");
    Role::parse(text).ok_or_else(|| format!("there is no `{text}`, only {}", known()))
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

fn open(lifetime: Lifetime, port: Option<u16>) -> Result<Stack> {
    let gateway_port = port.map_or(GatewayPort::Usual, GatewayPort::Exactly);
    Stack::open(Settings {
        lifetime,
        hermetic: false,
        gateway_port,
        kafka_front: None,
        variables: Vec::new(),
    })
}

/// The stack that `up` left running.
pub(super) fn open_running() -> Result<Stack> {
    let stack = open(Lifetime::Detached, None)?;
    if stack.status().iter().all(|process| process.state != RunState::Running) {
        bail!("the stack is down: run `./dev up --detach`");
    }
    Ok(stack)
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

/// Ctrl-C, or being asked to end.
struct Ending {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

impl Ending {
    fn new() -> Result<Self> {
        let listen = || -> io::Result<Self> {
            Ok(Self {
                interrupt: signal(SignalKind::interrupt())?,
                terminate: signal(SignalKind::terminate())?,
            })
        };
        listen().context("signals cannot be listened for")
    }

    async fn asked(&mut self) {
        tokio::select! { _ = self.interrupt.recv() => {}, _ = self.terminate.recv() => {} }
    }
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

pub(crate) fn status(output: Output) -> Result<ExitCode> {
    let status = open(Lifetime::Detached, None)?.status();
    let mut out = io::stdout().lock();
    if output == Output::Json {
        writeln!(out, "{}", serde_json::to_string_pretty(&status)?)?;
        return Ok(ExitCode::SUCCESS);
    }
    if status.iter().all(|process| process.state == RunState::Stopped) {
        writeln!(out, "the stack is down: ./dev up --detach starts it")?;
        return Ok(ExitCode::SUCCESS);
    }
    writeln!(out, "{:10} {:>3} {:9} {:>8}  {:22} ADMIN", "NAME", "#", "STATE", "PID", "ADDRESS")?;
    for process in status {
        let state = match process.state {
            RunState::Running => "running",
            RunState::Dead => "dead",
            RunState::Stopped => "stopped",
            RunState::External => "external",
        };
        let pid = process.pid.map_or_else(|| "-".into(), |pid| pid.to_string());
        let address = process.address.unwrap_or_else(|| "-".into());
        let admin = process.admin_url.unwrap_or_default();
        writeln!(
            out,
            "{:10} {:>3} {state:9} {pid:>8}  {address:22} {admin}",
            process.name, process.instance
        )?;
    }
    Ok(ExitCode::SUCCESS)
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

fn tails(stack: &Stack, only: Option<Role>, from_end: bool) -> Vec<Tail> {
    let shown = stack.status().into_iter().filter(|process| only.is_none_or(|role| role == process.name));
    shown
        .map(|process| {
            let path = stack.log(process.name, process.instance);
            let label = path.file_stem().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
            Tail::new(label, path, from_end)
        })
        .collect()
}

pub(crate) fn env() -> Result<ExitCode> {
    let stack = open_running()?;
    // Who evaluates this reads it all the same.
    for process in stack.status().iter().filter(|process| process.state == RunState::Dead) {
        eprintln!("{} does not run: `./dev up --detach` starts it", label(process.name, process.instance));
    }
    let mut out = io::stdout().lock();
    for (name, value) in stack.environment() {
        writeln!(out, "export {name}='{}'", value.replace('\'', r"'\''"))?;
    }
    Ok(ExitCode::SUCCESS)
}

pub(crate) async fn inspector(arguments: Vec<String>) -> Result<ExitCode> {
    let stack = open_running()?;
    let program = paths::binaries()?.join("dlq-inspector");
    let mut command = tokio::process::Command::new(&program);
    command.args(arguments).envs(stack.environment());
    let status = command.status().await.with_context(|| format!("{} cannot be run", program.display()))?;
    match status.code().map(u8::try_from) {
        Some(Ok(code)) => Ok(ExitCode::from(code)),
        _ => bail!("dlq-inspector was ended: {status}"),
    }
}
