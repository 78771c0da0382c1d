//! Tables that fit their terminal.

use super::{ink::Ink, text::clean};

/// A column.
#[derive(Clone, Debug)]
pub struct Column {
    title: &'static str,
    right: bool,
    /// The fewest characters it may be cut to; `None` when it must stay whole.
    shrinks_to: Option<usize>,
}

impl Column {
    /// A column of text that stays whole.
    pub fn whole(title: &'static str) -> Self {
        Self { title, right: false, shrinks_to: None }
    }

    /// A column of numbers.
    pub fn number(title: &'static str) -> Self {
        Self { title, right: true, shrinks_to: None }
    }

    /// A column that may be cut, but not below `least` characters.
    pub fn text(title: &'static str, least: usize) -> Self {
        Self { title, right: false, shrinks_to: Some(least) }
    }
}

/// One value.
#[derive(Clone, Debug)]
pub struct Cell {
    text: String,
    ink: Option<Ink>,
}

impl Cell {
    /// Text in a colour.
    pub fn inked(text: impl AsRef<str>, ink: Ink) -> Self {
        Self { text: clean(text.as_ref()), ink: Some(ink) }
    }
}

impl<T: AsRef<str>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self { text: clean(text.as_ref()), ink: None }
    }
}

/// Columns and rows.
#[derive(Clone, Debug)]
pub struct Table {
    columns: Vec<Column>,
    rows: Vec<Vec<Cell>>,
}

impl Table {
    /// An empty one.
    pub fn new(columns: Vec<Column>) -> Self {
        Self { columns, rows: Vec::new() }
    }

    /// Adds a row, a cell for each column.
    pub fn row(&mut self, cells: Vec<Cell>) {
        debug_assert_eq!(cells.len(), self.columns.len(), "a cell for each column");
        self.rows.push(cells);
    }

    /// The lines, at most `width` characters each as far as columns may be cut.
    pub fn render(&self, width: Option<usize>, paint: impl Fn(&str, Ink) -> String) -> Vec<String> {
        let widths = self.widths(width);
        let mut lines = Vec::with_capacity(self.rows.len() + 1);
        let titles =
            self.columns.iter().map(|column| Cell::inked(column.title, Ink::Dim)).collect::<Vec<_>>();
        for row in std::iter::once(&titles).chain(&self.rows) {
            let mut line = String::new();
            for ((cell, column), width) in row.iter().zip(&self.columns).zip(&widths) {
                let text = cut(&cell.text, *width);
                let padding = " ".repeat(width - text.chars().count());
                let text = cell.ink.map_or_else(|| text.clone(), |ink| paint(&text, ink));
                if !line.is_empty() {
                    line.push_str("  ");
                }
                let (before, after) =
                    if column.right { (padding, String::new()) } else { (String::new(), padding) };
                line.extend([before, text, after]);
            }
            lines.push(line.trim_end().to_owned());
        }
        lines
    }

    fn widths(&self, limit: Option<usize>) -> Vec<usize> {
        let mut widths: Vec<usize> = self
            .columns
            .iter()
            .enumerate()
            .map(|(i, column)| {
                let cells =
                    self.rows.iter().filter_map(|row| row.get(i)).map(|cell| cell.text.chars().count());
                cells.chain([column.title.chars().count()]).max().unwrap_or(0)
            })
            .collect();
        let Some(limit) = limit else { return widths };
        let gaps = 2 * widths.len().saturating_sub(1);
        while widths.iter().sum::<usize>() + gaps > limit {
            let room = |i: usize| {
                let least = self.columns[i].shrinks_to?.max(self.columns[i].title.chars().count());
                widths[i].checked_sub(least).filter(|room| *room > 0)
            };
            // The widest gives first, so that narrow ones stay readable.
            let Some(widest) = (0..widths.len()).filter(|i| room(*i).is_some()).max_by_key(|i| widths[*i])
            else {
                break;
            };
            widths[widest] -= 1;
        }
        widths
    }
}

fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    text.chars().take(width.saturating_sub(1)).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let mut table = Table::new(vec![Column::whole("ID"), Column::number("N"), Column::text("ERROR", 4)]);
        table.row(vec!["abcdef".into(), "7".into(), "a long sentence\nwith a break".into()]);
        table.row(vec!["ab".into(), "1234".into(), "".into()]);
        table
    }

    #[test]
    fn columns_line_up_and_long_ones_are_cut_to_fit() {
        let plain = |text: &str, _: Ink| text.to_owned();
        assert_eq!(
            table().render(Some(24), plain),
            ["ID         N  ERROR", "abcdef     7  a long se…", "ab      1234"]
        );
        let wide = table().render(None, plain);
        assert_eq!(wide[1], "abcdef     7  a long sentence\\nwith a break");
        let tiny = table().render(Some(3), plain);
        assert_eq!(tiny[1], "abcdef     7  a lo…", "whole columns stay whole");
    }

    #[test]
    fn colour_does_not_change_the_widths() {
        let mut table = Table::new(vec![Column::whole("A"), Column::whole("B")]);
        table.row(vec![Cell::inked("x", Ink::Bad), "y".into()]);
        let lines = table.render(None, |text, ink| format!("<{}>{text}</>", ink.code()));
        assert_eq!(lines[1], "<31>x</>  y");
    }
}
