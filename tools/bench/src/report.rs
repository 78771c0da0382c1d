//! Runs all ways, a process each, and compares.

use anyhow::{Context, Result, ensure};
use serde_json::json;
use tokio::process::Command;

use crate::{Way, setup, usage::Measured};

/// Makes the records, measures, prints.
pub(crate) async fn run(records: usize, runs: u32, as_json: bool) -> Result<()> {
    eprintln!("producing {records} records, and as many for the mix");
    let topics = setup::topics(records).await?;
    // In turns, so that what the machine does meanwhile meets all ways alike.
    let mut measured: Vec<Vec<Measured>> = vec![Vec::new(); Way::ALL.len()];
    for run in 1..=runs {
        for (at, way) in Way::ALL.into_iter().enumerate() {
            eprintln!("run {run} of {runs}: {}", way.name());
            let (topic, records) = match way {
                Way::Mix => (&topics.mix, topics.mixed),
                _ => (&topics.plain, records),
            };
            measured[at].push(measure(way, topic, records).await?);
        }
    }
    let [raw, bare, ceiling, protocol, simple, swept, mix]: [Measured; 7] =
        std::array::from_fn(|at| median(&mut measured[at]));
    let ratios = [
        ("bare / raw", bare.per_s / raw.per_s, 0.5),
        ("protocol / ceiling", protocol.per_s / ceiling.per_s, 0.75),
        ("simple / protocol", simple.per_s / protocol.per_s, 0.1),
        ("swept / protocol", swept.per_s / protocol.per_s, 0.9),
        ("mix / ceiling", mix.per_s / ceiling.per_s, 0.5),
    ];
    if as_json {
        let all = [raw, bare, ceiling, protocol, simple, swept, mix];
        let named = Way::ALL.into_iter().zip(all);
        let usage: serde_json::Map<_, _> = named
            .map(|(way, one)| (way.name().to_owned(), json!({"cpu_s": one.cpu_s, "peak_mib": one.peak_mib})))
            .collect();
        let object = json!({
            "events": records, "runs": runs,
            "raw": raw.per_s, "bare": bare.per_s, "ceiling": ceiling.per_s, "protocol": protocol.per_s,
            "simple": simple.per_s, "swept": swept.per_s, "swept_rows": swept.swept_per_s, "mix": mix.per_s,
            "bare_to_raw": ratios[0].1, "protocol_to_ceiling": ratios[1].1, "simple_to_protocol": ratios[2].1,
            "swept_to_protocol": ratios[3].1, "mix_to_ceiling": ratios[4].1, "usage": usage,
        });
        println!("{object}");
        return Ok(());
    }
    println!("{records} records over 6 partitions, {runs} runs, medians; servers on this machine");
    println!("{:44} {:>10} {:>8} {:>9}", "", "records/s", "CPU s", "peak MiB");
    for (way, one, what) in [
        (Way::Raw, raw, "consume and parse, one thread"),
        (Way::Bare, bare, "runtime, every record ignored"),
        (Way::Ceiling, ceiling, "batch SQL written by hand"),
        (Way::Protocol, protocol, "runtime, the same work and publishing"),
        (Way::Simple, simple, "runtime, one by one: SimpleHandler"),
        (Way::Swept, swept, "the same, the inbox is swept"),
        (Way::Mix, mix, "runtime, 9 % of it failing or twice"),
    ] {
        let name = format!("{:9} {what}", way.name());
        println!("{name:44} {:10.0} {:8.1} {:9.0}", one.per_s, one.cpu_s, one.peak_mib);
    }
    println!("{:44} {:10.0}   aim 20000", "rows swept a second", swept.swept_per_s);
    for (name, ratio, aim) in ratios {
        println!("{name:44} {ratio:10.2}   aim {aim}");
    }
    Ok(())
}

async fn measure(way: Way, topic: &str, records: usize) -> Result<Measured> {
    let program = std::env::current_exe()?;
    let records = records.to_string();
    let output = Command::new(program)
        .args(["--way", way.name(), "--topic", topic, "--events", &records])
        .stderr(std::process::Stdio::inherit())
        .output()
        .await?;
    ensure!(output.status.success(), "{} ended with {}", way.name(), output.status);
    serde_json::from_slice(&output.stdout).with_context(|| format!("what {} printed", way.name()))
}

/// The run in the middle, by its rate.
fn median(runs: &mut [Measured]) -> Measured {
    runs.sort_by(|a, b| a.per_s.total_cmp(&b.per_s));
    runs[runs.len() / 2]
}
