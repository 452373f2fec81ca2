//! A digest of a result: what is kept of an answer with many rows, and compared in its stead.
//!
//! Rows are a multiset. Of what is compared exactly (integers, decimals, text, dates) the digest keeps a sum of hashes,
//! of each column and of whole rows, modulo 2^64. Floats, which are equal within a tolerance only, are summed in up to
//! 256 parts; the row's hash says in which part, and with which weight from 1 to 2. Positive and negative numbers
//! have sums of their own, so that 1e-9, relative to a sum, is a tolerance that equal rows always meet.
//!
//! What it finds: every wrong, missing or extra value that is compared exactly, also one that is right in another
//! row (but for one in 2^64); a null, NaN or infinity in a wrong place; floats exchanged between rows; and a wrong
//! float unless it is off by less than about 1e-9 of its part's sum. With the 10 million rows of the longest results
//! here, 39,000 a part, one float alone must be off by 4 / 100,000 of the mean to be seen; with 10,000 rows by 1 /
//! 25 million.
//!
//! What it misses: less than that; errors of several floats of one part that cancel; and among rows that are equal
//! in all exact columns, which of their floats stand together in a row. It knows no order: queries with ORDER BY
//! or LIMIT have no digest.

use arrow::array::{RecordBatch, new_empty_array};
use arrow::datatypes::{FieldRef, SchemaRef};
use arrow::error::ArrowError;
use serde::{Deserialize, Serialize};

use super::column::{Column, FLOAT_TOLERANCE, Value};
use super::mismatch::Mismatch;
use super::read_columns;
use crate::suite::Query;

/// The most parts that floats are summed in.
const PARTS_MAX: u64 = 256;

/// Rows in a part where there are few rows.
const PART_ROWS: u64 = 16;

/// What is kept of a result in place of its rows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Digest {
    rows: u64,
    /// The sum of the hashes of all rows.
    keys: u64,
    columns: Vec<ColumnDigest>,
}

/// What is kept of one column.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
enum ColumnDigest {
    /// The sum of the hashes of its values.
    Exact { name: String, values: u64 },
    /// Weighted sums of its positive values, and of the absolute negative ones (none where all are 0), part by part.
    Float {
        name: String,
        positive: Vec<f64>,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        negative: Vec<f64>,
    },
}

/// A digest that rows are added to.
pub(super) struct Filling {
    digest: Digest,
    parts: u64,
}

impl Filling {
    /// Adds the rows of a batch.
    pub(super) fn take(&mut self, query: &Query, whose: &'static str, batch: &RecordBatch) -> Result<(), Mismatch> {
        let columns = read_columns(query, batch).map_err(|e| Mismatch::Incomparable { query: query.id, whose, reason: e.to_string() })?;
        if columns.len() != self.digest.columns.len() {
            return Err(Mismatch::Columns { query: query.id, expected: self.digest.columns.len(), actual: columns.len() });
        }
        self.digest.add(&columns, batch.num_rows(), self.parts);
        Ok(())
    }

    fn filled(mut self) -> Digest {
        for column in &mut self.digest.columns {
            if let ColumnDigest::Float { negative, .. } = column
                && negative.iter().all(|sum| *sum == 0.0)
            {
                negative.clear();
            }
        }
        self.digest
    }
}

impl Digest {
    /// The digest of a result with `rows` rows.
    pub(super) fn of(
        query: &Query,
        schema: &SchemaRef,
        rows: u64,
        batches: impl Iterator<Item = Result<RecordBatch, ArrowError>>,
    ) -> Result<Self, Mismatch> {
        let empty = || -> Result<Vec<ColumnDigest>, ArrowError> {
            let of_field = |field: &FieldRef| {
                let name = field.name().clone();
                Ok(if Column::new(&new_empty_array(field.data_type()))?.is_float() {
                    ColumnDigest::Float { name, positive: vec![], negative: vec![] }
                } else {
                    ColumnDigest::Exact { name, values: 0 }
                })
            };
            schema.fields().iter().map(of_field).collect()
        };
        let incomparable = |reason: String| Mismatch::Incomparable { query: query.id, whose: "answer", reason };
        if !query.order_by.is_empty() || query.limit.is_some() {
            return Err(incomparable("a digest does not know the order of its rows, which the query asks for".into()));
        }
        let columns = empty().map_err(|e| incomparable(e.to_string()))?;
        let mut digest = Digest { rows, keys: 0, columns }.emptied();
        for batch in batches {
            digest.take(query, "answer", &batch.map_err(|e| incomparable(e.to_string()))?)?;
        }
        Ok(digest.filled())
    }

    /// The same kinds of columns and the same parts, of no rows yet.
    pub(super) fn emptied(&self) -> Filling {
        let parts = parts(self.rows);
        let empty = |column: &ColumnDigest| match column {
            ColumnDigest::Exact { name, .. } => ColumnDigest::Exact { name: name.clone(), values: 0 },
            ColumnDigest::Float { name, .. } => {
                ColumnDigest::Float { name: name.clone(), positive: vec![0.0; parts], negative: vec![0.0; parts] }
            }
        };
        Filling { digest: Digest { rows: 0, keys: 0, columns: self.columns.iter().map(empty).collect() }, parts: parts as u64 }
    }

    /// Checks that the rows of `result` are those that this is the digest of.
    pub(super) fn verify(&self, query: &Query, result: Filling) -> Result<(), Mismatch> {
        self.compare(query, &result.filled())
    }

    fn add(&mut self, columns: &[Column], rows: usize, parts: u64) {
        let mut bytes = Vec::new();
        for row in 0..rows {
            let mut of_row = 0u64;
            for (column, digest) in columns.iter().zip(&mut self.columns) {
                let value = column.value(row);
                bytes.clear();
                match digest {
                    ColumnDigest::Exact { values, .. } => {
                        value.whole().write_key(&mut bytes);
                        let hash = hash(&bytes);
                        *values = values.wrapping_add(hash);
                        of_row = scattered(of_row.wrapping_add(hash));
                    }
                    ColumnDigest::Float { .. } => {
                        bytes.push(class(&value));
                        of_row = scattered(of_row.wrapping_add(hash(&bytes)));
                    }
                }
            }
            self.keys = self.keys.wrapping_add(of_row);
            let part = (of_row % parts) as usize;
            let weight = 1.0 + (of_row >> 11) as f64 / (1u64 << 53) as f64;
            for (column, digest) in columns.iter().zip(&mut self.columns) {
                let ColumnDigest::Float { positive, negative, .. } = digest else { continue };
                let number = column.value(row).position();
                if number.is_finite() {
                    let sums = if number < 0.0 { negative } else { positive };
                    sums[part] += weight * number.abs();
                }
            }
        }
        self.rows += rows as u64;
    }

    fn compare(&self, query: &Query, actual: &Digest) -> Result<(), Mismatch> {
        if self.rows != actual.rows {
            return Err(Mismatch::Rows { query: query.id, expected: self.rows as usize, actual: actual.rows as usize });
        }
        let differs = |what: String| Err(Mismatch::Digest { query: query.id, what });
        for (expected, actual) in self.columns.iter().zip(&actual.columns) {
            if let (ColumnDigest::Exact { name, values: expected }, ColumnDigest::Exact { values: actual, .. }) = (expected, actual)
                && expected != actual
            {
                return differs(format!("column `{name}`: its values are not those of the answer"));
            }
        }
        if self.keys != actual.keys {
            return differs("the values of some rows do not belong together, or a null, NaN or infinity is in a wrong place".into());
        }
        for (expected, actual) in self.columns.iter().zip(&actual.columns) {
            let (ColumnDigest::Float { name, positive, negative }, ColumnDigest::Float { positive: p, negative: n, .. }) =
                (expected, actual)
            else {
                continue;
            };
            for (part, (expected, actual)) in sums(positive, negative).zip(sums(p, n)).enumerate() {
                let near = |a: f64, b: f64| (a - b).abs() <= FLOAT_TOLERANCE * a.abs().max(b.abs());
                if !near(expected.0, actual.0) || !near(expected.1, actual.1) {
                    let (expected, actual) = (expected.0 - expected.1, actual.0 - actual.1);
                    return differs(format!("column `{name}`: the weighted sum of part {part} is {actual}, expected {expected}"));
                }
            }
        }
        Ok(())
    }

    /// The digest as JSON, one line a column.
    pub fn to_json(&self) -> serde_json::Result<String> {
        let columns = self.columns.iter().map(serde_json::to_string).collect::<serde_json::Result<Vec<_>>>()?;
        Ok(format!("{{\"rows\":{},\"keys\":{},\"columns\":[\n{}\n]}}\n", self.rows, self.keys, columns.join(",\n")))
    }

    /// Reads what [`Digest::to_json`] wrote.
    pub(crate) fn from_json(text: &str) -> serde_json::Result<Self> {
        let digest: Digest = serde_json::from_str(text)?;
        let parts = parts(digest.rows);
        let whole = digest.columns.iter().all(|column| match column {
            ColumnDigest::Exact { .. } => true,
            ColumnDigest::Float { positive, negative, .. } => positive.len() == parts && (negative.is_empty() || negative.len() == parts),
        });
        if whole { Ok(digest) } else { Err(serde::de::Error::custom(format!("a digest of {} rows has {parts} parts", digest.rows))) }
    }
}

/// In how many parts the floats of a result are summed.
fn parts(rows: u64) -> usize {
    (rows / PART_ROWS).clamp(1, PARTS_MAX) as usize
}

/// The sums of each part: of the positive numbers, and of the absolute negative ones.
fn sums<'a>(positive: &'a [f64], negative: &'a [f64]) -> impl Iterator<Item = (f64, f64)> + 'a {
    positive.iter().enumerate().map(|(part, sum)| (*sum, negative.get(part).copied().unwrap_or(0.0)))
}

/// What a value of a float column is, apart from its number.
fn class(value: &Value<'_>) -> u8 {
    match value {
        Value::Null => 1,
        Value::Float(number) if number.is_nan() => 2,
        Value::Float(number) if number.is_infinite() => 3 + u8::from(*number > 0.0),
        Value::Float(_) | Value::Exact(..) => 0,
        _ => 5,
    }
}

fn hash(bytes: &[u8]) -> u64 {
    let words = bytes.chunks(8).map(|chunk| {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        u64::from_le_bytes(word)
    });
    words.fold(bytes.len() as u64, |hash, word| scattered(hash ^ word))
}

/// SplitMix64's step and output function.
fn scattered(bits: u64) -> u64 {
    let bits = bits.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    bits ^ (bits >> 31)
}

#[cfg(test)]
mod tests;
