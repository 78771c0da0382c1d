//! `lab`.

use std::{process::ExitCode, time::Duration};

use anyhow::Result;
use clap::Args;
use devstack::lab::{
    self, Settings,
    fault::{Fault, parse_all, time},
    stage::Stage,
    verdict::Report,
};
use tokio::sync::watch;

use super::{ending::Ending, output::Output};

/// The verdict is FAIL.
const FAILED: u8 = 1;
/// The lab could not be run to a verdict.
const NO_VERDICT: u8 = 3;
/// Told to end twice.
const INTERRUPTED: u8 = 130;

/// The faults as they are named; a type of its own, since clap would take a list for several values.
#[derive(Clone, Debug)]
struct Named(Vec<Fault>);

#[derive(Debug, Args)]
#[command(after_long_help = LONG)]
pub(crate) struct LabArgs {
    /// Orders a second, such as 20/s
    #[arg(long, value_name = "N/s", default_value = "20/s", value_parser = rate)]
    rate: f64,
    /// How long orders come in
    #[arg(long = "for", value_name = "TIME", default_value = "60s", value_parser = load_time)]
    duration: Duration,
    /// Draws which orders are placed and, without --faults, which faults happen; another one each time unless it is given
    #[arg(long)]
    seed: Option<u64>,
    /// Faults, separated by commas: KIND[:TARGET]@START[+LENGTH], such as kill:payments@5s,freeze:kafka@10s+3s; or none
    #[arg(long, value_name = "FAULTS", value_parser = named)]
    faults: Option<Named>,
    /// How long the platform may take after a fault to recover, and after the load to come to rest
    #[arg(long, value_name = "TIME", default_value = "120s", value_parser = load_time)]
    settle: Duration,
    /// How to show it. json: one object at the end on standard output, and what goes on on standard error
    #[arg(short, long, default_value = "table")]
    output: Output,
}

const LONG: &str = "\
Faults, START counted from the first order, LENGTH how long it lasts:
  kill:TARGET            SIGKILL, down for LENGTH (0s), started again
  restart:TARGET         asked to end in order, down for LENGTH (0s), started again
  freeze:TARGET          SIGSTOP to all its processes, SIGCONT after LENGTH (3s)
                         TARGET of these: kafka, postgres, redis, gateway, orders, payments, delivery
  network-cut:TARGET     connections to it stay open and nothing comes through, for LENGTH (3s)
  network-refuse:TARGET  connections to it are closed and refused, for LENGTH (3s)
                         TARGET of these: kafka, postgres, redis (by the services), orders (by the gateway)
  provider-down          no charge, refund or void is answered but by an error, for LENGTH (5s)
  provider-slow          what the payment provider notes takes 800 ms longer, for LENGTH (5s)
  slow-disk              each fsync and fdatasync of PostgreSQL takes 100 ms longer, for LENGTH (5s); needs ptrace
  redis-wipe             FLUSHALL
  garbage                bytes, broken JSON, events under a wrong key on each topic, and a record of 17 MiB

Recovered: from the end of a fault until every service is ready and an order on each partition, placed after the
end, has COMPLETED. Ctrl-C ends the load and goes on to the verdict; a second one ends everything.

Exit codes: 0 all held, 1 the verdict is FAIL, 2 wrong usage, 3 no verdict was possible, 130 ended by a second Ctrl-C.
docs/lab.md says what each line of the card means.";

fn rate(text: &str) -> Result<f64, String> {
    let number = text.strip_suffix("/s").unwrap_or(text);
    match number.parse::<f64>() {
        Ok(rate) if (0.1..=1_000.0).contains(&rate) => Ok(rate),
        _ => Err(format!("`{text}` is no rate from 0.1/s to 1000/s")),
    }
}

fn load_time(text: &str) -> Result<Duration, String> {
    let time = time(text)?;
    if (Duration::from_secs(1)..=Duration::from_secs(24 * 3600)).contains(&time) {
        Ok(time)
    } else {
        Err(format!("`{text}` is not from 1s to 24 hours"))
    }
}

fn named(text: &str) -> Result<Named, String> {
    parse_all(text).map(Named)
}

pub(crate) async fn lab(args: LabArgs) -> ExitCode {
    // Any other code would be taken for a verdict.
    judged(args).await.unwrap_or_else(|error| no_verdict(&error))
}

async fn judged(args: LabArgs) -> Result<ExitCode> {
    let settings = Settings {
        rate: args.rate,
        duration: args.duration,
        seed: args.seed.unwrap_or_else(|| u64::from(rand::random::<u32>())),
        faults: args.faults.map(|Named(faults)| faults),
        settle: args.settle,
    };
    if let Some(late) = settings.plan().iter().find(|fault| fault.at >= settings.duration) {
        eprintln!("error: {late} begins when the load is over: give it a longer --for");
        return Ok(ExitCode::from(2));
    }
    let table = args.output == Output::Table;
    let say = |line: &str| if table { println!("{line}") } else { eprintln!("{line}") };
    say(&format!("seed {}   again: {}", settings.seed, settings.command()));
    let plan: Vec<String> = settings.plan().iter().map(Fault::to_string).collect();
    say(&format!("faults: {}", if plan.is_empty() { "none".to_owned() } else { plan.join(", ") }));
    say("starting a private stack (nothing of it is left when this ends)");
    let mut ending = Ending::new()?;
    let started = tokio::select! {
        started = Stage::start() => started,
        () = ending.asked() => return Ok(ExitCode::from(INTERRUPTED)),
    };
    let stage = started?;
    let (stop, stopped) = watch::channel(false);
    let judged = tokio::select! {
        judged = lab::run(&stage, &settings, stopped, &say) => Some(judged),
        () = twice(&mut ending, &stop) => None,
    };
    let discarded = stage.discard().await;
    let code = match judged {
        None => ExitCode::from(INTERRUPTED),
        Some(Err(error)) => no_verdict(&error),
        Some(Ok(report)) => shown(&report, args.output)?,
    };
    discarded.map(|()| code)
}

/// The first time the load is ended, the second time everything.
async fn twice(ending: &mut Ending, stop: &watch::Sender<bool>) {
    ending.asked().await;
    eprintln!("ending the load, and judging what was done; once more ends everything");
    stop.send_replace(true);
    ending.asked().await;
    eprintln!("ending everything");
}

fn no_verdict(error: &anyhow::Error) -> ExitCode {
    eprintln!("error: no verdict: {error:#}");
    ExitCode::from(NO_VERDICT)
}

fn shown(report: &Report, output: Output) -> Result<ExitCode> {
    match output {
        Output::Table => println!("\n{report}"),
        Output::Json => println!("{}", serde_json::to_string(report)?),
    }
    Ok(if report.held() { ExitCode::SUCCESS } else { ExitCode::from(FAILED) })
}
