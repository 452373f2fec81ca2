//! One message a stage: a [`PhysicalExtensionCodec`] for DataFusion's plans that hold stages.
//!
//! A message is a frame (`codec/frame.rs`: version, checksum, sections) of the plain data in JSON, the
//! Arrow types as the schema of an empty plan node, and one plan node an expression, so that all protobuf
//! is DataFusion's own. Children travel as DataFusion sends them. Decoding checks everything that the
//! message names (`check.rs`); a bad message is an error, never a panic.
//!
//! - Runtime filters keep their identity: the decoded stage adopts the filter of the same id in the scan
//!   below it. One whose keys are no plain columns, or that no scan below holds, is left out; it only prunes.
//! - Scalar subqueries travel as a child of the stage (`subquery.rs`), in the scope of their
//!   `ScalarSubqueryExec`, under any converter of DataFusion.
//! - Functions travel by name. One that the codec does not know refuses to serialise.
//! - Metrics stay behind.

mod filters;
mod frame;
mod message;
#[cfg(test)]
mod tests;

use crate::check::check;
use crate::context::panic_text;
use crate::exec::StageExec;
use crate::subquery::{attach, detach, name, named};
use crate::{Error, ErrorKind, Result};
use arrow::datatypes::{Schema, SchemaRef};
use datafusion::error::Result as DfResult;
use datafusion::execution::SessionStateDefaults;
use datafusion::execution::TaskContext;
use datafusion::logical_expr::{ScalarUDF, SimpleScalarUDF};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::empty::EmptyExec;
use datafusion::physical_plan::projection::{ProjectionExec, ProjectionExpr};
use datafusion_proto::physical_plan::{
    AsExecutionPlan, PhysicalExtensionCodec, PhysicalPlanDecodeContext, PhysicalProtoConverterExtension,
};
use datafusion_proto::protobuf::PhysicalPlanNode;
use datafusion_proto::protobuf::physical_plan_node::PhysicalPlanType;
use message::{Message, Parts};
use std::any::Any;
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// Encodes and decodes [`StageExec`].
///
/// It knows DataFusion's own functions; others have to be registered with it, on both sides.
#[derive(Clone, Debug)]
pub struct StageCodec {
    functions: HashMap<String, Arc<ScalarUDF>>,
}

impl Default for StageCodec {
    fn default() -> Self {
        Self { functions: HashMap::new() }.with_functions(SessionStateDefaults::default_scalar_functions())
    }
}

impl StageCodec {
    /// Also knows `functions`, for instance those of a session.
    pub fn with_functions(mut self, functions: impl IntoIterator<Item = Arc<ScalarUDF>>) -> Self {
        self.functions.extend(functions.into_iter().map(|f| (f.name().to_string(), f)));
        self
    }

    fn encode(&self, stage: &StageExec, converter: &dyn PhysicalProtoConverterExtension) -> Result<Vec<u8>> {
        let wire = Wire { codec: self, converter };
        let subqueries = named(stage.subqueries())?;
        let parts = message::take_apart(stage);
        let json = serde_json::to_vec(&parts.message).map_err(Error::bug)?;
        let mut sections = vec![json, wire.schema(&parts.types)?, wire.schema(&stage.schema())?];
        for (expr, over) in &parts.expressions {
            let section = detach(expr, &subqueries, over.fields().len())
                .and_then(|e| wire.expression(e, with_subqueries(over, &subqueries)?))
                .map_err(|e| Error::unsupported(format!("stage {} cannot be sent, because of {expr}: {e}", stage.id())))?;
            sections.push(section);
        }
        Ok(frame::seal(&sections))
    }

    fn decode(
        &self,
        bytes: &[u8],
        children: &[Arc<dyn ExecutionPlan>],
        ctx: &TaskContext,
        converter: &dyn PhysicalProtoConverterExtension,
    ) -> Result<StageExec> {
        let sections = frame::open(bytes)?;
        let [json, types, schema, expressions @ ..] = sections.as_slice() else {
            return Err(corrupt(format!("{} sections", sections.len())));
        };
        let message: Message = serde_json::from_slice(json).map_err(corrupt)?;
        let (input, builds, subqueries) = match children {
            [input, rest @ ..] if rest.len() == message.builds => (input, rest, None),
            [input, builds @ .., subqueries] if builds.len() == message.builds => (input, builds, Some(subqueries)),
            _ => return Err(corrupt(format!("{} children of a stage with {} build sides", children.len(), message.builds))),
        };
        let wire = Wire { codec: self, converter };
        let subqueries = named(subqueries)?;
        let mut parts = Parts { message, types: wire.read_schema(types, ctx)?, expressions: vec![] };
        for bytes in expressions {
            let (expr, over) = wire.read_expression(bytes, ctx)?;
            let own = over.fields().len().checked_sub(subqueries.len()).ok_or_else(|| corrupt("an expression without its subqueries"))?;
            let expr = attach(&expr, &subqueries, own)?;
            parts.expressions.push((expr, Arc::new(Schema::new(over.fields()[..own].to_vec()))));
        }
        let filters = filters::adopt(input, &parts.message.filters)?;
        let stage = message::put_together(parts, Arc::clone(input), builds.to_vec(), wire.read_schema(schema, ctx)?)?.with_filters(filters);
        check(&stage)?;
        Ok(stage)
    }
}

impl PhysicalExtensionCodec for StageCodec {
    fn try_encode(
        &self,
        node: Arc<dyn ExecutionPlan>,
        buf: &mut Vec<u8>,
        proto_converter: &dyn PhysicalProtoConverterExtension,
    ) -> DfResult<()> {
        let Some(stage) = node.downcast_ref::<StageExec>() else {
            return Err(Error::unsupported(format!("{} is neither a stage nor a node that DataFusion serialises", node.name())).into());
        };
        buf.extend(self.encode(stage, proto_converter)?);
        Ok(())
    }

    fn try_decode(
        &self,
        buf: &[u8],
        inputs: &[Arc<dyn ExecutionPlan>],
        ctx: &TaskContext,
        proto_converter: &dyn PhysicalProtoConverterExtension,
    ) -> DfResult<Arc<dyn ExecutionPlan>> {
        Ok(Arc::new(self.decode(buf, inputs, ctx, proto_converter)?))
    }

    fn try_encode_udf(&self, node: &ScalarUDF, _: &mut Vec<u8>) -> DfResult<()> {
        match self.functions.get(node.name()) {
            Some(known) if same(known, node) => Ok(()),
            Some(_) => Err(Error::unsupported(format!("function {} is not the one registered by this name", node.name())).into()),
            None => Err(unregistered(node.name()).into()),
        }
    }

    /// Asked for what the receiving session has not registered.
    fn try_decode_udf(&self, name: &str, _: &[u8]) -> DfResult<Arc<ScalarUDF>> {
        self.functions.get(name).cloned().ok_or_else(|| unregistered(name).into())
    }
}

fn unregistered(name: &str) -> Error {
    Error::unsupported(format!("function {name} is not registered with the codec: only functions known by name on both sides can be sent"))
}

/// Closures are the same by identity; functions with a type of their own by that type, whatever the
/// settings they were made with.
fn same(a: &ScalarUDF, b: &ScalarUDF) -> bool {
    let (of_a, of_b): (&dyn Any, &dyn Any) = (a.inner().as_ref(), b.inner().as_ref());
    a == b || (of_a.type_id() == of_b.type_id() && !of_a.is::<SimpleScalarUDF>())
}

fn corrupt(what: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::Corrupt, format!("a stage's message cannot be read: {what}"))
}

fn with_subqueries(over: &Schema, subqueries: &[Arc<dyn PhysicalExpr>]) -> Result<SchemaRef> {
    let mut fields = over.fields().to_vec();
    for (i, s) in subqueries.iter().enumerate() {
        fields.push(Arc::new(s.return_field(over)?.as_ref().clone().with_name(name(i))));
    }
    Ok(Arc::new(Schema::new(fields)))
}

/// Whether this is an empty node, or a projection of one. No other is handed on: DataFusion panics on
/// some that it was built without.
fn is_ours(node: &PhysicalPlanNode) -> bool {
    match &node.physical_plan_type {
        Some(PhysicalPlanType::Empty(_)) => true,
        Some(PhysicalPlanType::Projection(p)) => {
            p.input.as_deref().is_some_and(|i| matches!(i.physical_plan_type, Some(PhysicalPlanType::Empty(_))))
        }
        _ => false,
    }
}

/// Schemas and expressions as plan nodes: DataFusion's protobuf, with its checks.
struct Wire<'a> {
    codec: &'a StageCodec,
    converter: &'a dyn PhysicalProtoConverterExtension,
}

impl Wire<'_> {
    fn schema(&self, schema: &SchemaRef) -> Result<Vec<u8>> {
        self.write(Arc::new(EmptyExec::new(Arc::clone(schema))))
    }

    fn expression(&self, expr: Arc<dyn PhysicalExpr>, over: SchemaRef) -> Result<Vec<u8>> {
        let one = ProjectionExpr { expr, alias: String::new() };
        self.write(Arc::new(ProjectionExec::try_new([one], Arc::new(EmptyExec::new(over)))?))
    }

    fn write(&self, plan: Arc<dyn ExecutionPlan>) -> Result<Vec<u8>> {
        let mut out = vec![];
        self.converter.execution_plan_to_proto(&plan, self.codec)?.try_encode(&mut out)?;
        Ok(out)
    }

    fn read_schema(&self, bytes: &[u8], ctx: &TaskContext) -> Result<SchemaRef> {
        let plan = self.read(bytes, ctx)?;
        if plan.is::<EmptyExec>() { Ok(plan.schema()) } else { Err(corrupt(format!("{} for a schema", plan.name()))) }
    }

    fn read_expression(&self, bytes: &[u8], ctx: &TaskContext) -> Result<(Arc<dyn PhysicalExpr>, SchemaRef)> {
        let plan = self.read(bytes, ctx)?;
        match plan.downcast_ref::<ProjectionExec>().map(|p| (p.expr(), p.input().schema())) {
            Some(([one], over)) => Ok((Arc::clone(&one.expr), over)),
            _ => Err(corrupt(format!("{} for an expression", plan.name()))),
        }
    }

    fn read(&self, bytes: &[u8], ctx: &TaskContext) -> Result<Arc<dyn ExecutionPlan>> {
        let node = PhysicalPlanNode::try_decode(bytes).map_err(corrupt)?;
        if !is_ours(&node) {
            return Err(corrupt("a node that no stage writes"));
        }
        // DataFusion panics on some that it should refuse: an expression over a column that is not there.
        let ctx = PhysicalPlanDecodeContext::new(ctx, self.codec);
        let decoded = catch_unwind(AssertUnwindSafe(|| self.converter.proto_to_execution_plan(&node, &ctx)));
        let decoded = decoded.map_err(|panic| corrupt(panic_text(panic.as_ref())))?.map_err(Error::from);
        decoded.map_err(|e| if e.kind() == ErrorKind::Bug { corrupt(e) } else { e })
    }
}
