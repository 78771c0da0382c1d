//! Standard output.

use std::io::{self, IsTerminal, Write};

use clap::ValueEnum;
use serde::Serialize;

use super::{ink::Ink, table::Table};

/// How results are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Columns fitted to the terminal.
    #[default]
    Table,
    /// All columns.
    Wide,
    /// One object a line.
    Json,
    /// Ids alone, one a line, as `-` reads them.
    Ids,
}

/// Lines of a screen that does not say how many it has.
const SCREEN: usize = 24;

/// Standard output. When its reader goes away (`| head`), the rest is dropped and nothing fails.
pub struct Out {
    sink: Box<dyn Write>,
    format: Format,
    colour: bool,
    width: Option<usize>,
    height: usize,
    closed: bool,
}

impl std::fmt::Debug for Out {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Out").field("format", &self.format).finish_non_exhaustive()
    }
}

impl Out {
    /// The process's standard output.
    pub fn stdout(format: Format) -> Self {
        let stdout = io::stdout();
        let terminal = stdout.is_terminal();
        let no_colour = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let number = |name: &str| std::env::var(name).ok()?.parse().ok().filter(|number| *number > 0);
        let size = terminal.then(terminal_size::terminal_size).flatten();
        let width = number("COLUMNS").or_else(|| size.map(|(width, _)| usize::from(width.0)));
        let height = number("LINES").or_else(|| size.map(|(_, height)| usize::from(height.0)));
        Self {
            sink: Box::new(io::BufWriter::new(stdout)),
            format,
            colour: terminal && !no_colour,
            width,
            height: height.unwrap_or(SCREEN),
            closed: false,
        }
    }

    /// Output into `sink`, without colour.
    pub fn to(sink: impl Write + 'static, format: Format, width: Option<usize>) -> Self {
        Self { sink: Box::new(sink), format, colour: false, width, height: SCREEN, closed: false }
    }

    /// How results are printed.
    pub fn format(&self) -> Format {
        self.format
    }

    /// Lines that a screen has; of one that is not known, 24.
    pub fn height(&self) -> usize {
        self.height
    }

    /// True for JSON lines.
    pub fn is_json(&self) -> bool {
        self.format == Format::Json
    }

    /// One line of text.
    pub fn line(&mut self, text: impl AsRef<str>) -> io::Result<()> {
        self.raw(text.as_ref().as_bytes())?;
        self.raw(b"\n")
    }

    /// One object, as a line.
    pub fn json(&mut self, value: &impl Serialize) -> io::Result<()> {
        let text = serde_json::to_string(value)?;
        self.line(text)
    }

    /// Bytes as they are.
    pub fn raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.closed {
            return Ok(());
        }
        let result = self.sink.write_all(bytes);
        self.settle(result)
    }

    /// A table.
    pub fn table(&mut self, table: &Table) -> io::Result<()> {
        let width = if self.format == Format::Wide { None } else { self.width };
        let lines = table.render(width, |text, ink| self.ink(text, ink));
        lines.iter().try_for_each(|line| self.line(line))
    }

    /// `text` in a colour, when there are colours.
    pub fn ink(&self, text: &str, ink: Ink) -> String {
        if self.colour { format!("\x1b[{}m{text}\x1b[0m", ink.code()) } else { text.to_owned() }
    }

    /// Sends what is buffered.
    pub fn flush(&mut self) -> io::Result<()> {
        if self.closed {
            return Ok(());
        }
        let result = self.sink.flush();
        self.settle(result)
    }

    /// Sends the rest.
    pub fn finish(mut self) -> io::Result<()> {
        self.flush()
    }

    fn settle(&mut self, result: io::Result<()>) -> io::Result<()> {
        match result {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                self.closed = true;
                Ok(())
            }
            other => other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Gone;

    impl Write for Gone {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
    }

    #[test]
    fn a_closed_pipe_is_no_error() {
        let mut out = Out::to(Gone, Format::Table, None);
        out.line("a").expect("dropped");
        out.line("b").expect("dropped");
        out.finish().expect("dropped");
    }
}
