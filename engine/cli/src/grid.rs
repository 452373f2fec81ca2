//! Rows as a table of text that fits the terminal, or that flows into a pager.

use crate::Outcome;
use crate::output::Target;
use crate::terminal;
use arrow::array::RecordBatch;
use arrow::datatypes::Schema;
use arrow::error::ArrowError;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use std::io::{self, IsTerminal, Write};

/// A column is not cut below this width to make room for others.
const CELL_WIDTH_MIN: usize = 8;
/// A cell is cut to this width where lines may be of any width.
const CELL_WIDTH_MAX: usize = 1000;
/// Lines of a table that are no rows: three rules and the names; and the prompt after it.
const FRAME_LINES: usize = 5;
/// Rows that become text at a time.
const SLICE_ROWS: usize = 1024;

/// How much of a table is shown.
#[derive(Clone, Copy)]
pub struct Limits {
    /// Characters in a line; none: as many as the cells need.
    pub width: Option<usize>,
    /// Rows; the others are only counted.
    pub rows: usize,
    /// More rows than these are written as they come, in lines of any width.
    pub held: usize,
}

impl Limits {
    /// For a pager any number of rows; for a terminal without one its width and a screenful of rows; else
    /// everything within reason.
    pub fn of(target: &Target) -> Self {
        let reason = 100_000;
        match target {
            Target::Screen(pager) if io::stdout().is_terminal() => {
                let held = terminal::height().unwrap_or(24).saturating_sub(FRAME_LINES);
                let rows = if pager.is_some() { usize::MAX } else { 60 };
                Self { width: terminal::width(), rows, held: if pager.is_some() { held } else { rows } }
            }
            Target::Screen(_) => Self { width: terminal::width(), rows: reason, held: reason },
            Target::File(_) | Target::Open(_) => Self { width: None, rows: reason, held: reason },
        }
    }
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

/// The cells of each row, on one line each.
pub fn texts(batch: &RecordBatch) -> Result<impl Iterator<Item = Result<Vec<String>, ArrowError>>, ArrowError> {
    let options = FormatOptions::default().with_null("NULL");
    let columns = batch.columns().iter().map(|c| ArrayFormatter::try_new(c, &options)).collect::<Result<Vec<_>, _>>()?;
    let cell = |c: &ArrayFormatter, row| c.value(row).try_to_string().map(|t| t.replace('\n', "\\n").replace('\t', "\\t"));
    Ok((0..batch.num_rows()).map(move |row| columns.iter().map(|c| cell(c, row)).collect()))
}

/// Rows that come batch by batch. A table that fits is printed at the end; one that is taller than what is
/// held flows, and its columns grow where wider cells come.
pub struct Grid {
    head: Vec<String>,
    right: Vec<bool>,
    /// Rows that are held.
    cells: Vec<Vec<String>>,
    rows: usize,
    limits: Limits,
    /// Widths of the columns once rows flow.
    flowing: Option<Vec<usize>>,
}

impl Grid {
    /// An empty table.
    pub fn new(schema: &Schema, limits: Limits) -> Self {
        let head = schema.fields().iter().map(|f| f.name().clone()).collect();
        let right = schema.fields().iter().map(|f| f.data_type().is_numeric()).collect();
        Self { head, right, cells: vec![], rows: 0, limits, flowing: None }
    }

    /// Adds rows; beyond the limit they are only counted.
    pub fn add(&mut self, batch: &RecordBatch, out: &mut dyn Write) -> Outcome {
        let shown = batch.num_rows().min(self.limits.rows.saturating_sub(self.rows));
        for first in (0..shown).step_by(SLICE_ROWS) {
            let slice = batch.slice(first, SLICE_ROWS.min(shown - first));
            for row in texts(&slice)? {
                self.cells.push(row?);
            }
            if self.flowing.is_some() || self.cells.len() > self.limits.held {
                self.flow(out)?;
            }
        }
        self.rows += batch.num_rows();
        Ok(())
    }

    /// Writes what is held in as many columns as it needs.
    fn flow(&mut self, out: &mut dyn Write) -> io::Result<()> {
        let mut widths: Vec<usize> = (0..self.head.len()).map(|c| self.natural(c).min(CELL_WIDTH_MAX)).collect();
        match &self.flowing {
            Some(before) => widths.iter_mut().zip(before).for_each(|(now, before)| *now = (*now).max(*before)),
            None => self.print_head(&widths, "", out)?,
        }
        for row in self.cells.drain(..) {
            writeln!(out, "{}", line(&row, &widths, &self.right))?;
        }
        self.flowing = Some(widths);
        out.flush()
    }

    /// Prints a table that was held, or the end of one that flowed; and how many rows are left out.
    pub fn finish(&self, out: &mut dyn Write) -> io::Result<()> {
        if let Some(widths) = &self.flowing {
            return writeln!(out, "{}", rule(widths));
        }
        if self.head.is_empty() {
            return Ok(());
        }
        let (widths, shown) = self.widths();
        let rest = if shown < self.head.len() { " … |" } else { "" };
        self.print_head(&widths, rest, out)?;
        for row in &self.cells {
            writeln!(out, "{}{rest}", line(row, &widths, &self.right))?;
        }
        writeln!(out, "{}", rule(&widths))?;
        if self.rows > self.cells.len() {
            writeln!(out, "first {} of {} rows; format csv or json shows all", self.cells.len(), self.rows)?;
        }
        if shown < self.head.len() {
            let hidden = self.head[shown..].join(", ");
            writeln!(out, "{} columns do not fit: {hidden}", self.head.len() - shown)?;
        }
        Ok(())
    }

    fn print_head(&self, widths: &[usize], rest: &str, out: &mut dyn Write) -> io::Result<()> {
        let (rule, left) = (rule(widths), vec![false; self.head.len()]);
        writeln!(out, "{rule}\n{}{rest}\n{rule}", line(&self.head, widths, &left))
    }

    /// The width that a column's name and the cells that are held need.
    fn natural(&self, column: usize) -> usize {
        let cells = self.cells.iter().map(|r| r[column].chars().count());
        cells.chain([self.head[column].chars().count(), 1]).max().unwrap_or(1)
    }

    /// The width of each column that is shown, and how many are.
    fn widths(&self) -> (Vec<usize>, usize) {
        let mut widths: Vec<usize> = (0..self.head.len()).map(|c| self.natural(c)).collect();
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

fn rule(widths: &[usize]) -> String {
    widths.iter().map(|w| format!("+{}", "-".repeat(w + 2))).collect::<String>() + "+"
}

/// One row, each cell cut or padded to its width.
fn line(cells: &[String], widths: &[usize], right: &[bool]) -> String {
    let padded = cells.iter().zip(widths).zip(right).map(|((text, width), right)| {
        let text = cut(text, *width);
        if *right { format!("| {text:>width$} ") } else { format!("| {text:<width$} ") }
    });
    padded.collect::<String>() + "|"
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{ArrayRef, Int64Array, StringArray};
    use std::sync::Arc;

    fn printed_of(width: Option<usize>, rows: usize, held: usize) -> String {
        let n: ArrayRef = Arc::new(Int64Array::from(vec![Some(1), None, Some(300)]));
        let text: ArrayRef = Arc::new(StringArray::from(vec!["a".repeat(100), "é".into(), "two\nlines".into()]));
        let batch = RecordBatch::try_from_iter([("n", n), ("text", text)]).unwrap();
        let mut grid = Grid::new(&batch.schema(), Limits { width, rows, held });
        let mut out = vec![];
        grid.add(&batch, &mut out).unwrap();
        grid.finish(&mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    fn printed(width: Option<usize>, rows: usize) -> String {
        printed_of(width, rows, rows)
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
    fn rows_beyond_what_is_held_flow_uncut_in_columns_that_grow() {
        let text = printed_of(Some(40), usize::MAX, 2);
        assert!(text.contains(&"a".repeat(100)) && text.contains("two\\nlines"), "{text}");
        assert!(text.lines().count() == 7 && text.lines().all(|l| l.chars().count() == 111), "{text}");

        let batch = |s: &str| RecordBatch::try_from_iter([("s", Arc::new(StringArray::from(vec![s])) as ArrayRef)]).unwrap();
        let mut grid = Grid::new(&batch("").schema(), Limits { width: Some(5), rows: usize::MAX, held: 0 });
        let mut out = vec![];
        ["short", "longer than it", "x"].iter().for_each(|s| grid.add(&batch(s), &mut out).unwrap());
        grid.finish(&mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(text.contains("| short |\n| longer than it |\n| x              |\n+----------------+\n"), "{text}");
    }

    #[test]
    fn columns_that_do_not_fit_are_named() {
        let text = printed(Some(12), 10);
        assert!(text.contains("1 columns do not fit: text"), "{text}");
    }
}
