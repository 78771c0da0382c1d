//! Logs of the stack, for people: JSON lines made readable, several files interleaved.

use std::{
    fs::File,
    io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom, Write},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result};
use serde_json::Value;

/// A log that is being read.
#[derive(Debug)]
pub struct Tail {
    label: String,
    path: PathBuf,
    reader: Option<BufReader<File>>,
    /// A line whose end was not written yet.
    partial: Vec<u8>,
    /// Whether to begin at the end of what is there.
    from_end: bool,
}

impl Tail {
    /// Reads the log at `path`, from its beginning or only what is written from now on. It may not exist yet.
    pub fn new(label: String, path: PathBuf, from_end: bool) -> Self {
        let mut tail = Self { label, path, reader: None, partial: Vec::new(), from_end };
        tail.open();
        tail
    }

    fn open(&mut self) {
        if let Ok(mut file) = File::open(&self.path) {
            let sought = if self.from_end { file.seek(SeekFrom::End(0)) } else { Ok(0) };
            self.reader = sought.is_ok().then(|| BufReader::new(file));
        } else {
            // What appears later is new.
            self.from_end = false;
        }
    }

    /// The whole lines written since the last call.
    pub fn lines(&mut self) -> Result<Vec<String>> {
        if self.reader.is_none() {
            self.open();
        }
        let Some(reader) = &mut self.reader else { return Ok(Vec::new()) };
        let mut lines = Vec::new();
        loop {
            let read = reader.read_until(b'\n', &mut self.partial);
            read.with_context(|| format!("{} cannot be read", self.path.display()))?;
            if self.partial.pop_if(|byte| *byte == b'\n').is_none() {
                return Ok(lines);
            }
            lines.push(String::from_utf8_lossy(&self.partial).into_owned());
            self.partial.clear();
        }
    }
}

/// Prints what `tails` say until `until` ends, each line with its process's name before it.
pub async fn follow(tails: &mut [Tail], until: impl Future<Output = ()>) -> Result<()> {
    let width = tails.iter().map(|tail| tail.label.len()).max().unwrap_or_default();
    let mut until = std::pin::pin!(until);
    loop {
        print(tails, width)?;
        let pause = tokio::time::sleep(Duration::from_millis(100));
        tokio::select! {
            () = pause => {}
            () = &mut until => return print(tails, width),
        }
    }
}

/// Prints what the logs hold.
pub fn print(tails: &mut [Tail], width: usize) -> Result<()> {
    let mut out = io::stdout().lock();
    for tail in tails {
        for line in tail.lines()? {
            let written = if width == 0 {
                writeln!(out, "{}", readable(&line))
            } else {
                writeln!(out, "{:width$} | {}", tail.label, readable(&line))
            };
            match written {
                // Whoever read this has seen enough.
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
                other => other?,
            }
        }
    }
    Ok(())
}

/// The last `lines` lines of a log.
pub fn last_lines(path: &Path, lines: usize) -> String {
    let text = read_end(path, 64 << 10).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

/// The last `bytes` bytes of a file: a log may be large.
fn read_end(path: &Path, bytes: u64) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(bytes)))?;
    let mut end = Vec::new();
    file.take(bytes).read_to_end(&mut end)?;
    Ok(end)
}

/// A JSON log line as a person reads it: time, level, message, then the other fields. Any other line as it is.
pub fn readable(line: &str) -> String {
    let Ok(Value::Object(mut fields)) = serde_json::from_str(line) else { return line.to_owned() };
    // The message and its fields may stand under `fields`, as tracing writes them by default.
    if let Some(Value::Object(nested)) = fields.remove("fields") {
        fields.extend(nested);
    }
    for noise in ["target", "span", "spans", "threadId", "filename", "line_number"] {
        fields.remove(noise);
    }
    let mut take = |names: [&str; 2]| names.iter().find_map(|name| fields.remove(*name)).as_ref().map(plain);
    let time = take(["timestamp", "time"]).unwrap_or_default();
    let time = time.split_once('T').map_or(time.as_str(), |(_, clock)| clock.trim_end_matches('Z'));
    let time = time.get(..12).unwrap_or(time).to_owned();
    let level = take(["level", "severity"]).unwrap_or_default();
    let message = take(["message", "msg"]).unwrap_or_default();
    let rest: String = fields.iter().map(|(name, value)| format!(" {name}={}", plain(value))).collect();
    format!("{time} {level:5} {message}{rest}")
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use std::fs::OpenOptions;

    use super::*;

    #[test]
    fn json_becomes_a_line_and_anything_else_stays() {
        let json = r#"{"timestamp":"2026-09-21T14:13:20.123456Z","level":"WARN","message":"parked","order_id":"a","attempt":2,"target":"x"}"#;
        assert_eq!(readable(json), "14:13:20.123 WARN  parked attempt=2 order_id=a");
        let nested =
            r#"{"timestamp":"2026-09-21T14:13:20.123456Z","level":"INFO","fields":{"message":"up","n":1}}"#;
        assert_eq!(readable(nested), "14:13:20.123 INFO  up n=1");
        assert_eq!(readable("LOG:  ready"), "LOG:  ready");
    }

    #[test]
    fn a_tail_gives_whole_lines_only_and_waits_for_a_file_that_is_not_there() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("a.log");
        let mut tail = Tail::new("a".into(), path.clone(), true);
        assert!(tail.lines().expect("reads").is_empty());
        let mut file = OpenOptions::new().create(true).append(true).open(&path).expect("opens");
        file.write_all(b"one\ntw").expect("written");
        assert_eq!(tail.lines().expect("reads"), ["one"]);
        file.write_all(b"o\n").expect("written");
        assert_eq!(tail.lines().expect("reads"), ["two"]);
        let mut late = Tail::new("a".into(), path, true);
        file.write_all(b"three\n").expect("written");
        assert_eq!(late.lines().expect("reads"), ["three"]);
    }
}
