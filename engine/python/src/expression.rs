//! Expressions: columns, values, operators and functions.

use crate::errors::{caught, exception, invalid};
use crate::interop;
use datafusion::logical_expr::{Between, BinaryExpr, Like, Operator};
use datafusion::scalar::ScalarValue;
use millstream::{CaseBuilder, SortExpr, ident, lit};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyFloat, PyInt, PyString};
use std::sync::{Mutex, PoisonError};

/// An expression over the columns of a table.
#[pyclass(frozen, from_py_object, module = "millstream._native")]
#[derive(Clone)]
pub struct Expr(pub millstream::Expr);

/// A key to sort by.
#[pyclass(frozen, from_py_object, module = "millstream._native")]
#[derive(Clone)]
pub struct SortKey(pub SortExpr);

/// A CASE that is being built.
#[pyclass(frozen, module = "millstream._native")]
pub struct Case(Mutex<CaseBuilder>);

/// The column of exactly this name.
#[pyfunction]
pub fn col(name: &str) -> Expr {
    Expr(ident(name))
}

/// None, a bool, an int of 64 bits, a float, a text or bytes as they are in SQL; none for another type.
#[pyfunction]
pub fn literal(value: &Bound<'_, PyAny>) -> PyResult<Option<Expr>> {
    let value = if value.is_none() {
        ScalarValue::Null
    } else if value.is_exact_instance_of::<PyBool>() {
        value.extract::<bool>()?.into()
    } else if value.is_exact_instance_of::<PyInt>() {
        match value.extract::<i64>() {
            Ok(value) => value.into(),
            Err(_) => return Ok(None),
        }
    } else if value.is_exact_instance_of::<PyFloat>() {
        value.extract::<f64>()?.into()
    } else if value.is_exact_instance_of::<PyString>() {
        ScalarValue::Utf8(Some(value.extract()?))
    } else if value.is_exact_instance_of::<PyBytes>() {
        ScalarValue::Binary(Some(value.extract()?))
    } else {
        return Ok(None);
    };
    Ok(Some(Expr(lit(value))))
}

/// The first value of an Arrow array.
#[pyfunction]
pub fn literal_of(array: &Bound<'_, PyAny>) -> PyResult<Expr> {
    let array = interop::array(array)?;
    if array.is_empty() {
        return Err(invalid("an empty array has no value"));
    }
    let value = ScalarValue::try_from_array(&array, 0).map_err(|e| exception(e.into()))?;
    Ok(Expr(lit(value)))
}

/// A call of a function of SQL.
#[pyfunction]
pub fn call(name: &str, arguments: Vec<Expr>) -> PyResult<Expr> {
    Ok(Expr(caught(|| millstream::call(name, arguments.into_iter().map(|a| a.0)))?))
}

/// An aggregate that the Rust API has by its own name.
#[pyfunction]
pub fn aggregate(name: &str, value: Expr) -> PyResult<Expr> {
    let function = match name {
        "sum" => millstream::sum,
        "avg" => millstream::avg,
        "min" => millstream::min,
        "max" => millstream::max,
        "count" => millstream::count,
        "count_distinct" => millstream::count_distinct,
        "median" => millstream::median,
        "stddev" => millstream::stddev,
        other => return Err(invalid(format!("there is no aggregate {other}"))),
    };
    Ok(Expr(function(value.0)))
}

/// The beginning of a CASE.
#[pyfunction]
pub fn when(condition: Expr, value: Expr) -> Case {
    Case(Mutex::new(millstream::when(condition.0, value.0)))
}

#[pymethods]
impl Case {
    fn when(&self, condition: Expr, value: Expr) -> Self {
        let mut builder = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Self(Mutex::new(builder.when(condition.0, value.0)))
    }

    /// The finished CASE; without a value for the rest it is null there.
    fn end(&self, rest: Option<Expr>) -> PyResult<Expr> {
        let mut builder = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let case = match rest {
            Some(rest) => builder.otherwise(rest.0),
            None => builder.end(),
        };
        Ok(Expr(case.map_err(|e| exception(e.into()))?))
    }
}

#[pymethods]
impl Expr {
    fn __str__(&self) -> String {
        self.0.to_string()
    }

    fn binary(&self, operator: &str, other: Expr) -> PyResult<Self> {
        let operator = match operator {
            "+" => Operator::Plus,
            "-" => Operator::Minus,
            "*" => Operator::Multiply,
            "/" => Operator::Divide,
            "%" => Operator::Modulo,
            "=" => Operator::Eq,
            "!=" => Operator::NotEq,
            "<" => Operator::Lt,
            "<=" => Operator::LtEq,
            ">" => Operator::Gt,
            ">=" => Operator::GtEq,
            "and" => Operator::And,
            "or" => Operator::Or,
            other => return Err(invalid(format!("there is no operator {other}"))),
        };
        Ok(Self(millstream::Expr::BinaryExpr(BinaryExpr::new(Box::new(self.0.clone()), operator, Box::new(other.0)))))
    }

    fn negate(&self) -> Self {
        Self(millstream::Expr::Negative(Box::new(self.0.clone())))
    }

    fn invert(&self) -> Self {
        Self(!self.0.clone())
    }

    fn is_null(&self) -> Self {
        Self(self.0.clone().is_null())
    }

    fn is_not_null(&self) -> Self {
        Self(self.0.clone().is_not_null())
    }

    fn alias(&self, name: &str) -> Self {
        Self(self.0.clone().alias(name))
    }

    /// As the type that SQL calls so, or an Arrow type.
    fn cast(&self, to: &Bound<'_, PyAny>, or_null: bool) -> PyResult<Self> {
        let (value, to) = (self.0.clone(), data_type(to)?);
        Ok(Self(if or_null { datafusion::logical_expr::try_cast(value, to) } else { millstream::cast(value, to) }))
    }

    fn like(&self, pattern: Expr, any_case: bool, negated: bool) -> Self {
        Self(millstream::Expr::Like(Like::new(negated, Box::new(self.0.clone()), Box::new(pattern.0), None, any_case)))
    }

    fn between(&self, low: Expr, high: Expr) -> Self {
        Self(millstream::Expr::Between(Between::new(Box::new(self.0.clone()), false, Box::new(low.0), Box::new(high.0))))
    }

    fn is_in(&self, values: Vec<Expr>) -> Self {
        Self(self.0.clone().in_list(values.into_iter().map(|v| v.0).collect(), false))
    }

    fn sort(&self, ascending: bool, nulls_first: bool) -> SortKey {
        SortKey(self.0.clone().sort(ascending, nulls_first))
    }
}

#[pymethods]
impl SortKey {
    fn __str__(&self) -> String {
        self.0.to_string()
    }
}

/// A type by its name in SQL, or an Arrow type of another library.
pub fn data_type(of: &Bound<'_, PyAny>) -> PyResult<arrow::datatypes::DataType> {
    match of.cast::<PyString>() {
        Ok(name) => caught(|| millstream::data_type(name.to_str().map_err(|e| millstream::Error::new(millstream::ErrorKind::Invalid, e))?)),
        Err(_) => interop::data_type(of),
    }
}
