//! Compares a result with the right answer.
//!
//! Equal means: the same multiset of rows, in an order that the query's ORDER BY allows. Numbers are compared by value:
//! integers and decimals exactly, whatever their width, precision and scale; floats within 1e-9, relative to the larger. Where
//! the answer has a float and the result a decimal (the average of a decimal), the decimal may also be off by one
//! unit in its last place, because engines round or cut it off there. Text and dates are exact, whatever their
//! encoding. Names of columns are not compared. At a LIMIT, any of the rows that tie with the last one will do. Where a
//! column is a statistic, null and NaN are both the undefined value, and 1e-15 is near zero.
//!
//! Of long answers only a digest is kept; [`digest`] says what it misses.

mod column;
mod digest;
mod file;
mod mismatch;
mod pairing;

use std::cmp::Ordering;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use arrow::util::display::array_value_to_string;

pub use digest::Digest;
use digest::Filling;
pub use file::{digest_of_file, read_result, verify_file};
pub use mismatch::Mismatch;

use crate::answer::{Answer, Expected};
use crate::suite::Query;
use column::Column;
use pairing::Pairing;

/// Checks that `actual` is a right result of `query`, given one right result.
///
/// A result without any batch is a result without rows.
///
/// # Errors
/// The first difference, in words.
pub fn verify(query: &Query, expected: &Expected, actual: &[RecordBatch]) -> Result<(), Mismatch> {
    let mut verifier = Verifier::new(query, expected);
    actual.iter().try_for_each(|batch| verifier.add(batch.clone()))?;
    verifier.finish()
}

/// Checks a result as it comes. Its rows are kept only where the answer is rows: those are few.
pub struct Verifier<'a> {
    query: &'a Query,
    of: Of<'a>,
}

enum Of<'a> {
    Rows(&'a Answer, Vec<RecordBatch>),
    Digest(&'a Digest, Filling),
}

impl<'a> Verifier<'a> {
    /// For a result of `query`, given one right result.
    pub fn new(query: &'a Query, expected: &'a Expected) -> Self {
        let of = match expected {
            Expected::Rows(answer) => Of::Rows(answer, vec![]),
            Expected::Digest(digest) => Of::Digest(digest, digest.emptied()),
        };
        Self { query, of }
    }

    /// Adds the next rows.
    ///
    /// # Errors
    /// `Incomparable` and `Columns`.
    pub fn add(&mut self, batch: RecordBatch) -> Result<(), Mismatch> {
        match &mut self.of {
            Of::Rows(_, batches) => batches.push(batch),
            Of::Digest(_, filling) => filling.take(self.query, "result", &batch)?,
        }
        Ok(())
    }

    /// Checks that all rows are there, and no others.
    ///
    /// # Errors
    /// As [`verify`].
    pub fn finish(self) -> Result<(), Mismatch> {
        match self.of {
            Of::Rows(answer, batches) => verify_rows(self.query, answer, &batches),
            Of::Digest(digest, filling) => digest.verify(self.query, filling),
        }
    }
}

fn verify_rows(query: &Query, expected: &Answer, actual: &[RecordBatch]) -> Result<(), Mismatch> {
    let answer = Rows::new(query, "answer", expected.schema().clone(), expected.batches())?;
    let schema = actual.first().map_or_else(|| expected.schema().clone(), RecordBatch::schema);
    let result = Rows::new(query, "result", schema, actual)?;
    if answer.columns.len() != result.columns.len() {
        return Err(Mismatch::Columns { query: query.id, expected: answer.columns.len(), actual: result.columns.len() });
    }
    let last_key = query.order_by.iter().map(|key| key.column).max();
    if last_key.is_some_and(|column| column >= answer.columns.len()) {
        let reason = format!("it is sorted by column {last_key:?}, which it does not have");
        return Err(Mismatch::Incomparable { query: query.id, whose: "answer", reason });
    }
    let rows = query.limit.map_or(answer.len(), |limit| limit.min(answer.len()));
    if result.len() != rows {
        return Err(Mismatch::Rows { query: query.id, expected: rows, actual: result.len() });
    }
    let compared = Compared { query, answer, result };
    compared.multiset(rows, expected.all_ties())?;
    compared.order()
}

/// The columns of a batch, as the query's results are compared.
fn read_columns(query: &Query, batch: &RecordBatch) -> Result<Vec<Column>, ArrowError> {
    let read = |(number, array)| if query.statistics.contains(&number) { Column::statistic(array) } else { Column::new(array) };
    batch.columns().iter().enumerate().map(read).collect()
}

/// The rows of an answer or a result.
struct Rows {
    batch: RecordBatch,
    columns: Vec<Column>,
}

impl Rows {
    fn new(query: &Query, whose: &'static str, schema: SchemaRef, batches: &[RecordBatch]) -> Result<Self, Mismatch> {
        let read = || {
            let batch = concat_batches(&schema, batches)?;
            let columns = read_columns(query, &batch)?;
            Ok(Rows { batch, columns })
        };
        read().map_err(|e: ArrowError| Mismatch::Incomparable { query: query.id, whose, reason: e.to_string() })
    }

    fn len(&self) -> usize {
        self.batch.num_rows()
    }

    /// A value as it is shown to people, text in quotes.
    fn show(&self, row: usize, column: usize) -> String {
        let value = self.columns[column].value(row);
        let text = array_value_to_string(self.batch.column(column), row).unwrap_or_else(|_| format!("{value:?}"));
        match value {
            column::Value::Null => "null".into(),
            column::Value::Text(_) => format!("'{text}'"),
            _ => text,
        }
    }
}

/// An answer and a result with the same number of columns.
struct Compared<'a> {
    query: &'a Query,
    answer: Rows,
    result: Rows,
}

impl Compared<'_> {
    /// The multiset of rows. `rows`: how many the result has, at most those of the answer.
    fn multiset(&self, rows: usize, all_ties: bool) -> Result<(), Mismatch> {
        let must = self.rows_before_ties(rows);
        let mut pairing = Pairing::new(&self.answer.columns, &self.result.columns, self.result.len());
        let missing: Vec<usize> = (0..must).filter(|row| !pairing.take(*row)).collect();
        if let Some(missing) = missing.first() {
            return Err(self.nearest_of_result(*missing, &pairing.left()));
        }
        if all_ties {
            let spare: Vec<usize> = (must..self.answer.len()).filter(|row| !pairing.take(*row)).collect();
            return match pairing.left().first() {
                Some(row) => Err(self.nearest_of_answer(*row, &spare)),
                None => Ok(()),
            };
        }
        // The rows that tie with the last one are any that have its sort keys.
        let wrong = pairing.left().into_iter().find(|row| !self.same_keys(must, *row));
        wrong.map_or(Ok(()), |row| Err(self.nearest_of_answer(row, &[must])))
    }

    /// How many rows of the answer must be in the result: all, but at a LIMIT those before the ties with its last row.
    fn rows_before_ties(&self, rows: usize) -> usize {
        let cut = self.query.limit.is_some_and(|limit| self.answer.len() >= limit);
        if !cut || rows == 0 {
            return rows;
        }
        (0..rows).rev().take_while(|row| self.tied_in_answer(*row, rows - 1)).last().unwrap_or(rows)
    }

    fn tied_in_answer(&self, row: usize, other: usize) -> bool {
        self.query.order_by.iter().all(|key| {
            let column = &self.answer.columns[key.column];
            column.value(row).matches(&column.value(other), 0.0)
        })
    }

    fn same_keys(&self, of_answer: usize, of_result: usize) -> bool {
        self.query.order_by.iter().all(|key| self.same(of_answer, of_result, key.column))
    }

    fn same(&self, of_answer: usize, of_result: usize, column: usize) -> bool {
        let (answer, result) = (&self.answer.columns[column], &self.result.columns[column]);
        answer.value(of_answer).matches(&result.value(of_result), result.slack())
    }

    /// The difference between a row of the answer and the row of the result that is most like it.
    fn nearest_of_result(&self, of_answer: usize, left: &[usize]) -> Mismatch {
        let nearest = left.iter().copied().max_by_key(|row| (self.likeness(of_answer, *row), usize::MAX - row));
        self.difference(of_answer, nearest.unwrap_or(0))
    }

    fn nearest_of_answer(&self, of_result: usize, left: &[usize]) -> Mismatch {
        let nearest = left.iter().copied().max_by_key(|row| (self.likeness(*row, of_result), usize::MAX - row));
        self.difference(nearest.unwrap_or(0), of_result)
    }

    fn likeness(&self, of_answer: usize, of_result: usize) -> usize {
        (0..self.answer.columns.len()).filter(|column| self.same(of_answer, of_result, *column)).count()
    }

    fn difference(&self, of_answer: usize, of_result: usize) -> Mismatch {
        let columns = 0..self.answer.columns.len();
        let column = columns.clone().find(|column| !self.same(of_answer, of_result, *column)).unwrap_or(0);
        let row: Vec<String> = columns.map(|column| self.answer.show(of_answer, column)).collect();
        Mismatch::Value {
            query: self.query.id,
            row: of_result + 1,
            column: self.answer.batch.schema_ref().field(column).name().clone(),
            expected: self.answer.show(of_answer, column),
            actual: self.result.show(of_result, column),
            expected_row: row.join(", "),
        }
    }

    /// The rows of the result follow each other as ORDER BY asks.
    fn order(&self) -> Result<(), Mismatch> {
        for row in 1..self.result.len() {
            for key in self.query.order_by {
                let column = &self.result.columns[key.column];
                let (previous, value) = (column.value(row - 1), column.value(row));
                let order = match (previous.is_null(), value.is_null()) {
                    (true, true) => Ordering::Equal,
                    (true, false) if key.nulls_first => Ordering::Less,
                    (true, false) => Ordering::Greater,
                    (false, true) if key.nulls_first => Ordering::Greater,
                    (false, true) => Ordering::Less,
                    // Values of one column are of one kind.
                    (false, false) => {
                        let ascending = previous.order(&value).unwrap_or(Ordering::Equal);
                        if key.descending { ascending.reverse() } else { ascending }
                    }
                };
                match order {
                    Ordering::Less => break,
                    Ordering::Equal => {}
                    Ordering::Greater => return Err(self.out_of_order(row, key.column, key.descending)),
                }
            }
        }
        Ok(())
    }

    fn out_of_order(&self, row: usize, column: usize, descending: bool) -> Mismatch {
        Mismatch::Order {
            query: self.query.id,
            row: row + 1,
            column: self.answer.batch.schema_ref().field(column).name().clone(),
            previous: self.result.show(row - 1, column),
            actual: self.result.show(row, column),
            direction: if descending { "descending" } else { "ascending" },
        }
    }
}

#[cfg(test)]
mod tests;
