//! Rows as a table of text that fits the terminal.

use arrow::array::RecordBatch;
use arrow::datatypes::Schema;
use arrow::error::ArrowError;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use std::io::{self, IsTerminal, Write};

/// A column is not cut below this width to make room for others.
const CELL_WIDTH_MIN: usize = 8;

/// How much of a table is shown.
#[derive(Clone, Copy)]
pub struct Limits {
    /// Characters in a line; none: cells are never cut.
    pub width: Option<usize>,
    /// Rows; the others are only counted.
    pub rows: usize,
}

impl Limits {
    /// What fits standard output: a terminal's width and a screenful of rows, else everything within reason.
    pub fn of_stdout() -> Self {
        let terminal = io::stdout().is_terminal();
        Self { width: terminal_width(), rows: if terminal { 60 } else { 100_000 } }
    }

    /// For a file.
    pub const FILE: Self = Self { width: None, rows: 100_000 };
}

/// Characters in a line: `COLUMNS` where set, else what the terminal says; none when there is no terminal.
pub fn terminal_width() -> Option<usize> {
    if let Some(columns) = std::env::var("COLUMNS").ok().and_then(|c| c.parse().ok()) {
        return Some(columns);
    }
    if !io::stdout().is_terminal() {
        return None;
    }
    let tty = std::fs::File::open("/dev/tty").ok()?;
    let size = std::process::Command::new("stty").arg("size").stdin(tty).output().ok()?;
    let width = String::from_utf8(size.stdout).ok()?.split_whitespace().nth(1)?.parse().ok()?;
    Some(width).filter(|w| *w > 0)
}

/// `text`, cut to `width` characters.
pub fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_string();
    }
    let mut short: String = text.chars().take(width.saturating_sub(1)).collect();
    short.push('…');
    short
}

/// Rows that come batch by batch, printed at the end.
pub struct Grid {
    head: Vec<String>,
    right: Vec<bool>,
    cells: Vec<Vec<String>>,
    rows: usize,
    limits: Limits,
}

impl Grid {
    /// An empty table.
    pub fn new(schema: &Schema, limits: Limits) -> Self {
        let head = schema.fields().iter().map(|f| f.name().clone()).collect();
        let right = schema.fields().iter().map(|f| f.data_type().is_numeric()).collect();
        Self { head, right, cells: vec![], rows: 0, limits }
    }

    /// Adds rows; beyond the limit they are only counted.
    pub fn add(&mut self, batch: &RecordBatch) -> Result<(), ArrowError> {
        let shown = batch.num_rows().min(self.limits.rows.saturating_sub(self.cells.len()));
        let options = FormatOptions::default().with_null("NULL");
        let columns = batch.columns().iter().map(|c| ArrayFormatter::try_new(c, &options)).collect::<Result<Vec<_>, _>>()?;
        for row in 0..shown {
            let cell = |c: &ArrayFormatter| c.value(row).try_to_string().map(|t| t.replace('\n', "\\n").replace('\t', "\\t"));
            self.cells.push(columns.iter().map(cell).collect::<Result<_, _>>()?);
        }
        self.rows += batch.num_rows();
        Ok(())
    }

    /// Prints the table, and how many rows are left out.
    pub fn print(&self, out: &mut dyn Write) -> io::Result<()> {
        if self.head.is_empty() {
            return Ok(());
        }
        let (widths, shown) = self.widths();
        let rest = if shown < self.head.len() { " … |" } else { "" };
        let mut rule: String = widths.iter().map(|w| format!("+{}", "-".repeat(w + 2))).collect();
        rule.push('+');
        let line = |cells: &[String], right: &[bool]| {
            let padded = cells.iter().zip(&widths).zip(right).map(|((text, width), right)| {
                let text = cut(text, *width);
                if *right { format!("| {text:>width$} ") } else { format!("| {text:<width$} ") }
            });
            format!("{}|{rest}", padded.collect::<String>())
        };
        writeln!(out, "{rule}")?;
        writeln!(out, "{}", line(&self.head, &vec![false; self.head.len()]))?;
        writeln!(out, "{rule}")?;
        for row in &self.cells {
            writeln!(out, "{}", line(row, &self.right))?;
        }
        writeln!(out, "{rule}")?;
        if self.rows > self.cells.len() {
            writeln!(out, "first {} of {} rows; --format csv, json or parquet writes all", self.cells.len(), self.rows)?;
        }
        if shown < self.head.len() {
            let hidden = self.head[shown..].join(", ");
            writeln!(out, "{} columns do not fit: {hidden}", self.head.len() - shown)?;
        }
        Ok(())
    }

    /// The width of each column that is shown, and how many are.
    fn widths(&self) -> (Vec<usize>, usize) {
        let natural = |c: usize| self.cells.iter().map(|r| r[c].chars().count()).chain([self.head[c].chars().count()]).max().unwrap_or(1);
        let mut widths: Vec<usize> = (0..self.head.len()).map(|c| natural(c).max(1)).collect();
        let Some(limit) = self.limits.width else { return (widths, self.head.len()) };
        let total = |w: &[usize]| w.iter().map(|w| w + 3).sum::<usize>() + 1;
        while total(&widths) > limit {
            // The widest column gives way, down to the second widest.
            let Some(widest) = (0..widths.len()).max_by_key(|c| widths[*c]).filter(|c| widths[*c] > CELL_WIDTH_MIN) else { break };
            let next = widths.iter().copied().filter(|w| *w < widths[widest]).max().unwrap_or(CELL_WIDTH_MIN).max(CELL_WIDTH_MIN);
            let excess = total(&widths) - limit;
            widths[widest] -= excess.min((widths[widest] - next).max(1));
        }
        let mut shown = widths.len();
        while shown > 1 && total(&widths[..shown]) + if shown < widths.len() { 4 } else { 0 } > limit {
            shown -= 1;
        }
        widths.truncate(shown);
        (widths, shown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{ArrayRef, Int64Array, StringArray};
    use std::sync::Arc;

    fn printed(width: Option<usize>, rows: usize) -> String {
        let n: ArrayRef = Arc::new(Int64Array::from(vec![Some(1), None, Some(300)]));
        let text: ArrayRef = Arc::new(StringArray::from(vec!["a".repeat(100), "é".into(), "two\nlines".into()]));
        let batch = RecordBatch::try_from_iter([("n", n), ("text", text)]).unwrap();
        let mut grid = Grid::new(&batch.schema(), Limits { width, rows });
        grid.add(&batch).unwrap();
        let mut out = vec![];
        grid.print(&mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn lines_fit_and_cells_are_cut() {
        let text = printed(Some(40), 10);
        assert!(text.lines().all(|l| l.chars().count() <= 40), "{text}");
        assert!(text.contains("aaa…") && text.contains("NULL") && text.contains("two\\nlines"), "{text}");
        assert!(printed(None, 10).contains(&"a".repeat(100)));
    }

    #[test]
    fn rows_beyond_the_limit_are_counted() {
        let text = printed(None, 2);
        assert!(text.contains("first 2 of 3 rows") && !text.contains("300"), "{text}");
    }

    #[test]
    fn columns_that_do_not_fit_are_named() {
        let text = printed(Some(12), 10);
        assert!(text.contains("1 columns do not fit: text"), "{text}");
    }
}
