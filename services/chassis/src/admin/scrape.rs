//! What `/metrics` shows beside the recorder's counters and histograms: gauges made when they are asked for, and the process.

use std::{collections::BTreeMap, fmt::Write, fs, path::Path};

use actors::metrics::{Sample, help};

/// The kernel counts processor time and starts in hundredths of a second, whatever its own tick is.
const TICKS: f64 = 100.0;

const CHECK_FAILING: &str = "backburner_check_failing";

/// What a process says of itself.
const PROCESS: [(&str, &str); 8] = [
    ("backburner_build_info", "1, with the version as a label"),
    (CHECK_FAILING, "1 while a check of /readyz fails, else 0"),
    ("process_cpu_seconds_total", "Processor time, user and system, in seconds"),
    ("process_resident_memory_bytes", "Resident memory in bytes"),
    ("process_open_fds", "Open file descriptors"),
    ("process_max_fds", "File descriptors that may be open"),
    ("process_start_time_seconds", "Start of the process, seconds since the Unix epoch"),
    ("process_threads", "Threads"),
];

/// How a check of `/readyz` went.
pub(super) fn checked(service: &str, check: &str, failing: bool) -> Sample {
    let labels = vec![("service", service.to_owned()), ("check", check.to_owned())];
    Sample { name: CHECK_FAILING, labels, value: f64::from(u8::from(failing)) }
}

/// Samples in Prometheus' text format, those of one name together.
pub(super) fn render(samples: &[Sample]) -> String {
    let mut by_name = BTreeMap::<&str, Vec<&Sample>>::new();
    for sample in samples {
        by_name.entry(sample.name).or_default().push(sample);
    }
    let mut text = String::new();
    for (name, samples) in by_name {
        let own = PROCESS.iter().find(|(known, _)| *known == name).map(|(_, help)| *help);
        let kind = if name.ends_with("_total") { "counter" } else { "gauge" };
        // Writing to a string cannot fail, here and below.
        writeln!(text, "# HELP {name} {}\n# TYPE {name} {kind}", own.unwrap_or_else(|| help(name)))
            .unwrap_or_default();
        for sample in samples {
            let labels = sample.labels.iter().map(|(label, value)| format!("{label}=\"{}\"", escaped(value)));
            let labels = labels.collect::<Vec<_>>().join(",");
            let labels = if labels.is_empty() { labels } else { format!("{{{labels}}}") };
            writeln!(text, "{name}{labels} {}", sample.value).unwrap_or_default();
        }
    }
    text
}

fn escaped(value: &str) -> String {
    value.replace('\\', r"\\").replace('"', "\\\"").replace('\n', r"\n")
}

/// What this process is, and what it takes. What the system does not say is left out.
pub(super) fn process(service: &str) -> Vec<Sample> {
    let sample = |name, value| Sample { name, labels: Vec::new(), value };
    let mut samples = vec![Sample {
        name: "backburner_build_info",
        labels: vec![("service", service.to_owned()), ("version", env!("CARGO_PKG_VERSION").to_owned())],
        value: 1.0,
    }];
    let itself = Path::new("/proc/self");
    let read = |name| fs::read_to_string(itself.join(name)).unwrap_or_default();
    // After the name, which may hold anything, in brackets: the third field and those behind it.
    let stat = read("stat");
    let fields: Vec<&str> =
        stat.rsplit_once(')').map_or(Vec::new(), |(_, rest)| rest.split_whitespace().collect());
    let field = |number: usize| fields.get(number - 3).and_then(|field| field.parse::<f64>().ok());
    if let Some((user, system)) = field(14).zip(field(15)) {
        samples.push(sample("process_cpu_seconds_total", (user + system) / TICKS));
    }
    if let Some(threads) = field(20) {
        samples.push(sample("process_threads", threads));
    }
    if let Some((since_boot, boot)) = field(22).zip(word_after(&read("../stat"), "btime")) {
        samples.push(sample("process_start_time_seconds", boot + since_boot / TICKS));
    }
    if let Some(kib) = word_after(&read("status"), "VmRSS:") {
        samples.push(sample("process_resident_memory_bytes", kib * 1024.0));
    }
    if let Some(most) = word_after(&read("limits"), "Max open files") {
        samples.push(sample("process_max_fds", most));
    }
    if let Ok(open) = fs::read_dir(itself.join("fd")) {
        samples.push(sample("process_open_fds", f64::from(u32::try_from(open.count()).unwrap_or(u32::MAX))));
    }
    samples
}

/// The number that follows `word` at the beginning of a line.
fn word_after(text: &str, word: &str) -> Option<f64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(word))?;
    rest.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests;
