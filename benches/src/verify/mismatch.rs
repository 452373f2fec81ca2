//! How a wrong result is described: query, row, column, what was expected and what came.

/// The first difference between a result and the right answer. Rows are counted from 1.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Mismatch {
    /// The result has another number of columns.
    #[error("{query}: expected {expected} columns, got {actual}")]
    Columns {
        /// The query.
        query: &'static str,
        /// Columns of the answer.
        expected: usize,
        /// Columns of the result.
        actual: usize,
    },
    /// The result has another number of rows.
    #[error("{query}: expected {expected} rows, got {actual}")]
    Rows {
        /// The query.
        query: &'static str,
        /// Rows of the answer, after its LIMIT.
        expected: usize,
        /// Rows of the result.
        actual: usize,
    },
    /// A row of the result is not in the answer; compared with the answer's row that is most like it.
    #[error("{query}: row {row}, column `{column}`: expected {expected}, got {actual} (the expected row is {expected_row})")]
    Value {
        /// The query.
        query: &'static str,
        /// The row of the result.
        row: usize,
        /// The first column that differs.
        column: String,
        /// Its right value.
        expected: String,
        /// Its value in the result.
        actual: String,
        /// The whole row of the answer.
        expected_row: String,
    },
    /// The rows are not those that the answer's digest was made of.
    #[error("{query}: {what}; of the answer only a digest is kept, which does not know the row")]
    Digest {
        /// The query.
        query: &'static str,
        /// What differs.
        what: String,
    },
    /// The rows are not sorted as the query asks.
    #[error("{query}: row {row} is out of order: column `{column}` is {actual} after {previous}, sorted {direction}")]
    Order {
        /// The query.
        query: &'static str,
        /// The row of the result that comes too late.
        row: usize,
        /// The sort key.
        column: String,
        /// Its value in the row before.
        previous: String,
        /// Its value in this row.
        actual: String,
        /// `ascending` or `descending`.
        direction: &'static str,
    },
    /// The result, or the answer, cannot be compared.
    #[error("{query}: the {whose} cannot be compared: {reason}")]
    Incomparable {
        /// The query.
        query: &'static str,
        /// `result` or `answer`.
        whose: &'static str,
        /// Why.
        reason: String,
    },
}
