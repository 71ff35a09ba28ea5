//! Columns that line up.
//!
//! Widths are those of the terminal (East Asian letters take two columns) and not of characters or
//! bytes. Text is escaped as it comes in, so nobody can forget it; colours are put on afterwards
//! and count for no width.

use unicode_width::UnicodeWidthStr;

use super::paint::{Paint, Tone, visible};

/// The alignment of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// For text.
    Left,
    /// For figures.
    Right,
}

/// A table that is printed once it is whole.
#[derive(Debug)]
pub(super) struct Table {
    columns: Vec<(&'static str, Side)>,
    rows: Vec<Vec<(String, Tone)>>,
}

impl Table {
    /// A table with these columns.
    #[must_use]
    pub(super) fn new(columns: &[(&'static str, Side)]) -> Self {
        Self { columns: columns.to_vec(), rows: Vec::new() }
    }

    /// Adds a row. What would steer a terminal is escaped here, once for all.
    pub(super) fn row<const N: usize>(&mut self, cells: [(String, Tone); N]) {
        self.rows.push(cells.into_iter().map(|(text, tone)| (visible(&text), tone)).collect());
    }

    /// Returns true if it has no row.
    #[must_use]
    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The lines, each ending in a newline.
    /// No line ends in spaces: the last column is not filled up.
    #[must_use]
    pub(super) fn render(&self, paint: Paint) -> String {
        let widths: Vec<usize> = (0..self.columns.len()).map(|column| self.width(column)).collect();
        let header: Vec<_> = self.columns.iter().map(|(name, _)| ((*name).to_owned(), Tone::Faint)).collect();
        let mut text = String::new();
        for row in std::iter::once(&header).chain(&self.rows) {
            let mut line = String::new();
            for (index, (cell, tone)) in row.iter().enumerate() {
                let room = " ".repeat(widths[index].saturating_sub(cell.width()));
                let painted = paint.tone(*tone, cell);
                let last = index + 1 == row.len();
                match self.columns[index].1 {
                    Side::Right => line.push_str(&format!("{room}{painted}")),
                    Side::Left if last => line.push_str(&painted),
                    Side::Left => line.push_str(&format!("{painted}{room}")),
                }
                if !last {
                    line.push_str("  ");
                }
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }

    fn width(&self, column: usize) -> usize {
        let cells = self.rows.iter().filter_map(|row| row.get(column)).map(|(text, _)| text.width());
        cells.chain([self.columns[column].0.width()]).max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_whatever_the_script() {
        let mut table = Table::new(&[("name", Side::Left), ("bytes", Side::Right), ("state", Side::Left)]);
        table.row([("a.hl7".into(), Tone::Plain), ("12".into(), Tone::Plain), ("ready".into(), Tone::Good)]);
        table.row([("文件".into(), Tone::Plain), ("123456".into(), Tone::Plain), ("done".into(), Tone::Good)]);
        assert_eq!(table.render(Paint::none()), "name    bytes  state\na.hl7      12  ready\n文件   123456  done\n");
    }
}
