//! Rows as lines `name = value`, for rows that are wider than any terminal.

use crate::Outcome;
use crate::grid::texts;
use arrow::array::RecordBatch;
use arrow::datatypes::Schema;
use std::io::Write;

/// Prints a row as a block of lines; an empty line stands between blocks.
pub struct Lines {
    /// Names, padded to the longest.
    names: Vec<String>,
    first: bool,
}

impl Lines {
    pub fn new(schema: &Schema) -> Self {
        let width = schema.fields().iter().map(|f| f.name().chars().count()).max().unwrap_or(0);
        Self { names: schema.fields().iter().map(|f| format!("{:>width$}", f.name())).collect(), first: true }
    }

    pub fn add(&mut self, batch: &RecordBatch, out: &mut dyn Write) -> Outcome {
        for row in texts(batch)? {
            if !std::mem::take(&mut self.first) {
                writeln!(out)?;
            }
            for (name, value) in self.names.iter().zip(row?) {
                writeln!(out, "{name} = {value}")?;
            }
        }
        Ok(out.flush()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_stand_below_one_another() {
        use arrow::array::{ArrayRef, Int64Array, StringArray};
        use std::sync::Arc;
        let n: ArrayRef = Arc::new(Int64Array::from(vec![Some(1), None]));
        let name: ArrayRef = Arc::new(StringArray::from(vec!["a\nb", "c"]));
        let batch = RecordBatch::try_from_iter([("n", n), ("name", name)]).unwrap();
        let mut out = vec![];
        Lines::new(&batch.schema()).add(&batch, &mut out).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "   n = 1\nname = a\\nb\n\n   n = NULL\nname = c\n");
    }
}
