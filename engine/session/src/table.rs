//! A lazy table: a plan that runs when its rows are asked for.

use crate::Result;
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::dataframe::DataFrame;
use datafusion::physical_plan::{ExecutionPlan, SendableRecordBatchStream};
use std::sync::Arc;

/// A lazy table.
///
/// ```
/// # tokio::runtime::Runtime::new().unwrap().block_on(async {
/// let session = millstream::Session::new()?;
/// let table = session.sql("select * from (values (1), (2)) t(a) where a > 1").await?;
/// assert_eq!(table.collect().await?.iter().map(|b| b.num_rows()).sum::<usize>(), 1);
/// # Ok::<(), millstream::Error>(()) }).unwrap();
/// ```
#[derive(Clone, Debug)]
pub struct Table {
    frame: DataFrame,
}

impl Table {
    pub(crate) fn new(frame: DataFrame) -> Self {
        Self { frame }
    }

    /// Names and types of the columns.
    pub fn schema(&self) -> SchemaRef {
        Arc::new(self.frame.schema().as_arrow().clone())
    }

    /// Runs the plan for all rows.
    ///
    /// # Errors
    /// What the data raises.
    pub async fn collect(self) -> Result<Vec<RecordBatch>> {
        Ok(self.frame.collect().await?)
    }

    /// Runs the plan; rows come as they are ready.
    ///
    /// # Errors
    /// What planning raises; what the data raises comes in the stream.
    pub async fn stream(self) -> Result<SendableRecordBatchStream> {
        Ok(self.frame.execute_stream().await?)
    }

    /// The physical plan, stages carved and placed.
    ///
    /// # Errors
    /// What planning raises.
    pub async fn plan(self) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self.frame.create_physical_plan().await?)
    }
}

/// Sink and device of a plan node that is a stage; none for stock operators.
///
/// ```
/// # tokio::runtime::Runtime::new().unwrap().block_on(async {
/// let session = millstream::Session::new()?;
/// let plan = session.sql("select a from (values (1)) t(a) group by a").await?.plan().await?;
/// assert_eq!(millstream::stage_of(plan.as_ref()).map(|s| s.0).as_deref(), Some("group"));
/// # Ok::<(), millstream::Error>(()) }).unwrap();
/// ```
pub fn stage_of(node: &dyn ExecutionPlan) -> Option<(String, String)> {
    let stage = node.downcast_ref::<millstream_stage::StageExec>()?;
    Some((stage.sink().name().to_string(), stage.placement().device.to_string()))
}
