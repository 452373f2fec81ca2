//! Which rows go to which folder: one level `column=value` for each column, as Hive, Spark and DataFusion lay out partitions.
//!
//! Text is encoded as `object_store` encodes the parts of a path, and so as DataFusion looks for a folder when a query asks
//! for one value; only what is not ASCII stays as it is, because Spark decodes byte by byte. Names of columns are not
//! encoded: readers do not decode them.

use arrow::array::{Array, ArrayRef, RecordBatch, UInt32Array};
use arrow::compute::{cast, take_record_batch};
use arrow::datatypes::{DataType, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::row::{Row, RowConverter, SortField};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use millstream_stream::Result;
use object_store::path::PathPart;
use std::collections::HashMap;
use std::sync::Arc;

/// The value of a folder whose rows have none.
const NULL: &str = "__HIVE_DEFAULT_PARTITION__";

/// Which columns are folders and which are in the files.
pub(super) struct Layout {
    folders: Vec<(usize, String)>,
    kept: Vec<usize>,
}

impl Layout {
    /// Folders of the columns `partition_by`, the first the outermost; without any, all rows are of the folder "".
    ///
    /// # Errors
    /// By what rows of `schema` cannot be divided, and why.
    pub(super) fn new(partition_by: &[String], schema: &Schema) -> Result<Self, String> {
        let mut folders: Vec<(usize, String)> = vec![];
        for name in partition_by {
            let Ok(at) = schema.index_of(name) else {
                let known: Vec<&str> = schema.fields().iter().map(|f| f.name().as_str()).collect();
                return Err(format!("`{name}`: there is no such column among {}", known.join(", ")));
            };
            let kind = schema.field(at).data_type();
            if !can_be_folder(kind) {
                return Err(format!("`{name}`, which is {kind}: only integers, strings, dates and booleans name folders"));
            }
            if name.is_empty() || name.contains('=') || encoded(name) != *name {
                return Err(format!("`{name}`: readers would take the folder for another column, give it another name"));
            }
            if folders.iter().any(|(known, _)| *known == at) {
                return Err(format!("`{name}` twice"));
            }
            folders.push((at, name.clone()));
        }
        let kept: Vec<usize> = (0..schema.fields().len()).filter(|at| folders.iter().all(|(folder, _)| folder != at)).collect();
        if kept.is_empty() && !folders.is_empty() {
            return Err("all columns: none would be left for the files".into());
        }
        Ok(Self { folders, kept })
    }

    /// What the files have of `schema`.
    pub(super) fn of_files(&self, schema: &SchemaRef) -> Result<SchemaRef> {
        Ok(Arc::new(schema.project(&self.kept)?))
    }

    /// The rows of each folder, without the columns that the folder says, in their order.
    pub(super) fn split(&self, batch: RecordBatch) -> Result<Vec<(String, RecordBatch)>> {
        if self.folders.is_empty() {
            return Ok(vec![(String::new(), batch)]);
        }
        let values = self.folders.iter().map(|(at, _)| as_written(batch.column(*at))).collect::<Result<Vec<_>, ArrowError>>()?;
        let kept = batch.project(&self.kept)?;
        let mut out = vec![];
        for rows in groups(&values)? {
            let folder = self.folder(&values, rows[0] as usize)?;
            let all = rows.len() == kept.num_rows();
            let of_folder = if all { kept.clone() } else { take_record_batch(&kept, &UInt32Array::from(rows))? };
            out.push((folder, of_folder));
        }
        Ok(out)
    }

    /// The folder of a row.
    fn folder(&self, values: &[ArrayRef], row: usize) -> Result<String> {
        let options = FormatOptions::default();
        let mut levels = vec![];
        for ((_, name), column) in self.folders.iter().zip(values) {
            let value = match column.is_null(row) {
                true => NULL.to_string(),
                false => encoded(&ArrayFormatter::try_new(column.as_ref(), &options)?.value(row).try_to_string()?),
            };
            levels.push(format!("{name}={value}"));
        }
        Ok(levels.join("/"))
    }
}

fn can_be_folder(kind: &DataType) -> bool {
    use DataType::{Boolean, Date32, Date64, LargeUtf8, Utf8, Utf8View};
    kind.is_integer() || matches!(kind, Boolean | Date32 | Date64 | LargeUtf8 | Utf8 | Utf8View)
}

/// A column of which different values are different folders.
fn as_written(column: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    match column.data_type() {
        DataType::Date64 => cast(column, &DataType::Date32),
        _ => Ok(Arc::clone(column)),
    }
}

/// The numbers of rows that are equal in `columns`, each in order.
fn groups(columns: &[ArrayRef]) -> Result<Vec<Vec<u32>>> {
    let fields = columns.iter().map(|c| SortField::new(c.data_type().clone())).collect();
    let rows = RowConverter::new(fields)?.convert_columns(columns)?;
    let mut groups: Vec<Vec<u32>> = vec![];
    let mut known: HashMap<Row<'_>, usize> = HashMap::new();
    let mut last: Option<(Row<'_>, usize)> = None;
    for (at, row) in rows.iter().enumerate() {
        // Rows of a folder tend to come together.
        let group = match last {
            Some((same, group)) if same == row => group,
            _ => *known.entry(row).or_insert(groups.len()),
        };
        if group == groups.len() {
            groups.push(vec![]);
        }
        groups[group].push(at as u32);
        last = Some((row, group));
    }
    Ok(groups)
}

/// `text` as a part of a path.
fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            // Encoded only where it is a part by itself, and here it is none.
            '.' => out.push(c),
            _ if c.is_ascii() => out.push_str(PathPart::from(&*c.encode_utf8(&mut [0; 4])).as_ref()),
            _ => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use object_store::path::Path;

    #[test]
    fn parts_of_paths_are_encoded_as_object_store_does_and_read_back_as_they_are() {
        for text in ["plain", "a/b", "a=b", "100%", "%2F", " x ", "..", "a:b'c", "?*#~\\", "\"{[^|`]}<>", "tab\tline\n\u{7f}"] {
            let part = format!("k={}", encoded(text));
            let stored = PathPart::from(format!("k={text}"));
            let stored: &str = stored.as_ref();
            assert_eq!(part, stored, "{text:?}");
            assert_eq!(Path::parse(&part).map(String::from).ok().as_deref(), Some(part.as_str()), "{text:?}");
        }
        assert_eq!((encoded("ä€"), encoded("a/ä")), ("ä€".to_string(), "a%2Fä".to_string()));
    }

    #[test]
    fn rows_of_a_folder_keep_their_order_and_nulls_are_a_folder() {
        let keys: ArrayRef = Arc::new(UInt32Array::from(vec![Some(1), Some(1), None, Some(2), None, Some(1)]));
        assert_eq!(groups(&[Arc::clone(&keys)]).ok(), Some(vec![vec![0, 1, 5], vec![2, 4], vec![3]]));
        assert_eq!(groups(&[keys.slice(0, 0)]).ok(), Some(vec![]));
    }
}
