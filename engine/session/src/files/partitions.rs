//! Columns that become folders have a value in every row: DataFusion would write some folder for a null.

use super::invalid;
use arrow::array::Array;
use arrow::datatypes::DataType;
use datafusion::catalog::Session;
use datafusion::error::Result;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::{PhysicalExpr, ScalarFunctionExpr};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::projection::{ProjectionExec, ProjectionExpr};
use std::sync::Arc;

/// The rows of `input`; a null in one of `columns` is an error.
pub(super) fn without_nulls(
    input: Arc<dyn ExecutionPlan>,
    state: &dyn Session,
    columns: &[(String, DataType)],
) -> Result<Arc<dyn ExecutionPlan>> {
    let schema = input.schema();
    if !schema.fields().iter().any(|f| f.is_nullable() && columns.iter().any(|(name, _)| name == f.name())) {
        return Ok(input);
    }
    let config = Arc::new(state.config_options().clone());
    let checked = |(at, field): (usize, &Arc<arrow::datatypes::Field>)| {
        let mut expr: Arc<dyn PhysicalExpr> = Arc::new(Column::new(field.name(), at));
        if field.is_nullable() && columns.iter().any(|(name, _)| name == field.name()) {
            let value = PartitionValue { column: field.name().clone(), signature: Signature::any(1, Volatility::Immutable) };
            let function = Arc::new(ScalarUDF::from(value));
            expr = Arc::new(ScalarFunctionExpr::new("partition_value", function, vec![expr], Arc::clone(field), Arc::clone(&config)));
        }
        ProjectionExpr { expr, alias: field.name().clone() }
    };
    let exprs: Vec<ProjectionExpr> = schema.fields().iter().enumerate().map(checked).collect();
    Ok(Arc::new(ProjectionExec::try_new(exprs, input)?))
}

/// Its argument, which is never null.
#[derive(Debug, PartialEq, Eq, Hash)]
struct PartitionValue {
    column: String,
    signature: Signature,
}

impl ScalarUDFImpl for PartitionValue {
    fn name(&self) -> &str {
        "partition_value"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        arguments.first().cloned().ok_or_else(|| invalid("partition_value takes a column"))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let value = args.args.into_iter().next().ok_or_else(|| invalid("partition_value takes a column"))?;
        let nulls = match &value {
            ColumnarValue::Array(array) => array.logical_null_count(),
            ColumnarValue::Scalar(scalar) => usize::from(scalar.is_null()),
        };
        if nulls > 0 {
            return Err(invalid(format!("column {} is null in some rows: a null cannot be a folder, filter or replace it", self.column)));
        }
        Ok(value)
    }
}
