//! Expressions by the names that SQL has for things: functions and types.

use crate::{Error, ErrorKind, Result};
use arrow::datatypes::DataType;
use datafusion::common::DFSchema;
use datafusion::common::utils::datafusion_strsim::levenshtein;
use datafusion::execution::{SessionState, SessionStateBuilder};
use datafusion::logical_expr::Expr;
use std::sync::LazyLock;

/// The functions and types of SQL, without tables.
static SQL: LazyLock<SessionState> = LazyLock::new(|| SessionStateBuilder::new().with_default_features().build());

/// A call of a function of SQL, scalar or aggregate, by its name. Functions of a session's own are called in SQL only.
///
/// ```
/// # tokio::runtime::Runtime::new().unwrap().block_on(async {
/// use millstream::{call, col};
/// let table = millstream::Session::new()?.sql("select * from (values ('Ada'), ('Bob')) t(name)").await?;
/// let table = table.group_by([], [call("string_agg", [call("upper", [col("name")])?, millstream::lit("+")])?.alias("all")])?;
/// assert_eq!(table.collect().await?[0].num_rows(), 1);
/// assert!(call("uper", []).unwrap_err().to_string().contains("upper"));
/// # Ok::<(), millstream::Error>(()) }).unwrap();
/// ```
///
/// # Errors
/// `Invalid` when there is no such function; the message names the nearest one. Numbers and types of arguments are
/// checked where the expression is used.
pub fn call(name: &str, arguments: impl IntoIterator<Item = Expr>) -> Result<Expr> {
    let (wanted, arguments) = (name.to_lowercase(), arguments.into_iter().collect());
    if let Some(function) = SQL.scalar_functions().get(&wanted) {
        return Ok(function.call(arguments));
    }
    if let Some(function) = SQL.aggregate_functions().get(&wanted) {
        return Ok(function.call(arguments));
    }
    let known = SQL.scalar_functions().keys().chain(SQL.aggregate_functions().keys());
    let nearest = known.min_by_key(|k| (levenshtein(k, &wanted), k.as_str())).map_or("", String::as_str);
    Err(Error::new(ErrorKind::Invalid, format!("there is no function {name}: did you mean {nearest}?")))
}

/// The type that SQL calls `name`: `bigint`, `decimal(12, 2)`, `timestamp`, ...
///
/// ```
/// use arrow::datatypes::DataType;
/// assert_eq!(millstream::data_type("decimal(12, 2)")?, DataType::Decimal128(12, 2));
/// assert!(millstream::data_type("bigint) + (1").is_err());
/// # Ok::<(), millstream::Error>(())
/// ```
///
/// # Errors
/// `Invalid` when it is no name of a type.
pub fn data_type(name: &str) -> Result<DataType> {
    let unknown = || Error::new(ErrorKind::Invalid, format!("{name} is no type of SQL"));
    match SQL.create_logical_expr(&format!("cast(null as {name})"), &DFSchema::empty()) {
        Ok(Expr::Cast(cast)) => Ok(cast.field.data_type().clone()),
        _ => Err(unknown()),
    }
}
