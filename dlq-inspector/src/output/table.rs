//! Tables that fit their terminal.

use unicode_width::UnicodeWidthStr as _;

use super::{ink::Ink, text::clean};

/// A column.
#[derive(Clone, Debug)]
pub struct Column {
    title: &'static str,
    right: bool,
    /// The fewest cells of the terminal it may be cut to; `None` when it must stay whole.
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

    /// A column that may be cut, but not below `least` cells of the terminal.
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
    /// Lines of their own, each with the number of rows before it.
    under: Vec<(usize, String)>,
}

impl Table {
    /// An empty one.
    pub fn new(columns: Vec<Column>) -> Self {
        Self { columns, rows: Vec::new(), under: Vec::new() }
    }

    /// Adds a row, a cell for each column.
    pub fn row(&mut self, cells: Vec<Cell>) {
        debug_assert_eq!(cells.len(), self.columns.len(), "a cell for each column");
        self.rows.push(cells);
    }

    /// Adds a line below the last row, over all columns. It is cut where it is too long.
    pub fn under(&mut self, text: String) {
        self.under.push((self.rows.len(), text));
    }

    /// The lines, at most `width` cells of the terminal each as far as columns may be cut.
    pub fn render(&self, width: Option<usize>, paint: impl Fn(&str, Ink) -> String) -> Vec<String> {
        let (limit, widths) = (width, self.widths(width));
        let mut under = self.under.iter().peekable();
        let mut lines = Vec::with_capacity(self.rows.len() + 1);
        let titles =
            self.columns.iter().map(|column| Cell::inked(column.title, Ink::Dim)).collect::<Vec<_>>();
        for (number, row) in std::iter::once(&titles).chain(&self.rows).enumerate() {
            let mut line = String::new();
            for ((cell, column), width) in row.iter().zip(&self.columns).zip(&widths) {
                let text = cut(&cell.text, *width);
                let padding = " ".repeat(width.saturating_sub(text.width()));
                let text = cell.ink.map_or_else(|| text.clone(), |ink| paint(&text, ink));
                if !line.is_empty() {
                    line.push_str("  ");
                }
                let (before, after) =
                    if column.right { (padding, String::new()) } else { (String::new(), padding) };
                line.extend([before, text, after]);
            }
            lines.push(line.trim_end().to_owned());
            while let Some((_, text)) = under.next_if(|(rows, _)| *rows == number) {
                let text = format!("    {}", clean(text));
                lines.push(limit.map_or_else(|| text.clone(), |limit| cut(&text, limit)));
            }
        }
        lines
    }

    fn widths(&self, limit: Option<usize>) -> Vec<usize> {
        let mut widths: Vec<usize> = self
            .columns
            .iter()
            .enumerate()
            .map(|(i, column)| {
                let cells = self.rows.iter().filter_map(|row| row.get(i)).map(|cell| cell.text.width());
                cells.chain([column.title.width()]).max().unwrap_or(0)
            })
            .collect();
        let Some(limit) = limit else { return widths };
        let gaps = 2 * widths.len().saturating_sub(1);
        while widths.iter().sum::<usize>() + gaps > limit {
            let room = |i: usize| {
                let least = self.columns[i].shrinks_to?.max(self.columns[i].title.width());
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

/// The beginning of `text` that fits, with a mark where it goes on. A wide character takes two cells and is not halved.
fn cut(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let room = width.saturating_sub(1);
    let ends = text.char_indices().map(|(at, _)| at).take_while(|at| text[..*at].width() <= room);
    format!("{}…", &text[..ends.last().unwrap_or(0)])
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
    fn a_line_below_a_row_goes_over_all_columns() {
        let mut table = table();
        table.under("as long as\nit takes".into());
        table.row(vec!["c".into(), "1".into(), "x".into()]);
        table.under("y".into());
        let lines = table.render(Some(20), |text, _| text.to_owned());
        assert_eq!(lines[2..], ["ab      1234", "    as long as\\nit …", "c          1  x", "    y"]);
        assert_eq!(table.render(None, |text, _| text.to_owned())[3], "    as long as\\nit takes");
    }

    #[test]
    fn wide_characters_line_up_and_are_not_halved() {
        let mut table = Table::new(vec![Column::text("KEY", 4), Column::whole("STATE")]);
        for key in ["注文-1", "order-12", "🍕🍕🍕🍕🍕"] {
            table.row(vec![key.into(), "open".into()]);
        }
        let plain = |text: &str, _: Ink| text.to_owned();
        let whole = ["KEY         STATE", "注文-1      open", "order-12    open", "🍕🍕🍕🍕🍕  open"];
        assert_eq!(table.render(None, plain), whole);
        let cut = ["KEY      STATE", "注文-1   open", "order-…  open", "🍕🍕🍕…  open"];
        assert_eq!(table.render(Some(14), plain), cut);
        let cut = ["KEY    STATE", "注文…  open", "orde…  open", "🍕🍕…  open"];
        assert_eq!(table.render(Some(12), plain), cut);
        let cut = ["KEY   STATE", "注…   open", "ord…  open", "🍕…   open"];
        assert_eq!(table.render(Some(11), plain), cut);
    }

    #[test]
    fn colour_does_not_change_the_widths() {
        let mut table = Table::new(vec![Column::whole("A"), Column::whole("B")]);
        table.row(vec![Cell::inked("x", Ink::Bad), "y".into()]);
        let lines = table.render(None, |text, ink| format!("<{}>{text}</>", ink.code()));
        assert_eq!(lines[1], "<31>x</>  y");
    }
}
