//! The plain data of a stage, and what of it has an encoding of its own: Arrow types and expressions.

use super::corrupt;
use super::filters::{FilterMessage, describe};
use crate::Result;
use crate::exec::StageExec;
use crate::program::{Call, Constant, ConstantSource, Instr, Placement, Program, Scope, Sink};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::ExecutionPlan;
use millstream_kernels::Value;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// The JSON section.
#[derive(Serialize, Deserialize)]
pub(super) struct Message {
    id: String,
    scope: Scope,
    placement: Placement,
    inputs: Vec<usize>,
    instrs: Vec<Instr>,
    constants: Vec<ConstantMessage>,
    /// One a call.
    per_entry: Vec<bool>,
    sink: Sink,
    pub(super) filters: Vec<FilterMessage>,
    /// How many of the children are build sides.
    pub(super) builds: usize,
}

#[derive(Serialize, Deserialize)]
enum ConstantMessage {
    Literal(Value),
    /// The next of the expressions.
    Late,
}

/// A stage without its children and its schema.
pub(super) struct Parts {
    pub(super) message: Message,
    /// Types of the registers, then of the constants, then of the aggregates' results.
    pub(super) types: SchemaRef,
    /// Late constants, then calls, each with the schema it is over.
    pub(super) expressions: Vec<(Arc<dyn PhysicalExpr>, SchemaRef)>,
}

pub(super) fn take_apart(stage: &StageExec) -> Parts {
    let program = stage.program();
    let mut types: Vec<&DataType> = program.types.iter().collect();
    let (mut constants, mut expressions) = (vec![], vec![]);
    for c in &program.constants {
        types.push(&c.data_type);
        constants.push(match &c.source {
            ConstantSource::Literal(v) => ConstantMessage::Literal(v.clone()),
            ConstantSource::Late(expr) => {
                expressions.push((Arc::clone(expr), Arc::new(Schema::empty())));
                ConstantMessage::Late
            }
        });
    }
    expressions.extend(program.calls.iter().map(|c| (Arc::clone(&c.expr), Arc::clone(&c.inputs))));
    if let Sink::Group { aggregates, .. } = stage.sink() {
        types.extend(aggregates.iter().map(|a| &a.returns));
    }
    let types = Schema::new(types.into_iter().map(|t| Field::new("", t.clone(), true)).collect::<Vec<_>>());
    let message = Message {
        id: stage.id().to_string(),
        scope: stage.scope(),
        placement: stage.placement().clone(),
        inputs: program.inputs.clone(),
        instrs: program.instrs.clone(),
        constants,
        per_entry: program.calls.iter().map(|c| c.per_entry).collect(),
        sink: stage.sink().clone(),
        filters: stage.filters().iter().filter_map(describe).collect(),
        builds: stage.builds().len(),
    };
    Parts { message, types: Arc::new(types), expressions }
}

/// # Errors
/// `Corrupt` when types or expressions are too few or too many.
pub(super) fn put_together(
    parts: Parts,
    input: Arc<dyn ExecutionPlan>,
    builds: Vec<Arc<dyn ExecutionPlan>>,
    schema: SchemaRef,
) -> Result<StageExec> {
    let Parts { message: m, types, expressions } = parts;
    let mut types: Vec<DataType> = types.fields().iter().map(|f| f.data_type().clone()).collect();
    let mut sink = m.sink;
    if let Sink::Group { aggregates, .. } = &mut sink {
        let at = types.len().checked_sub(aggregates.len()).ok_or_else(|| corrupt("types of aggregates are missing"))?;
        aggregates.iter_mut().zip(types.split_off(at)).for_each(|(a, t)| a.returns = t);
    }
    let at = types.len().checked_sub(m.constants.len()).ok_or_else(|| corrupt("types of constants are missing"))?;
    let constant_types = types.split_off(at);
    let mut expressions = expressions.into_iter();
    let mut next = || expressions.next().ok_or_else(|| corrupt("expressions are missing"));
    let mut constants = vec![];
    for (c, data_type) in m.constants.into_iter().zip(constant_types) {
        let source = match c {
            ConstantMessage::Literal(v) => ConstantSource::Literal(v),
            ConstantMessage::Late => ConstantSource::Late(next()?.0),
        };
        constants.push(Constant { source, data_type });
    }
    let mut calls = vec![];
    for per_entry in m.per_entry {
        let (expr, inputs) = next()?;
        calls.push(Call { expr, inputs, per_entry });
    }
    if expressions.next().is_some() {
        return Err(corrupt("expressions are left over"));
    }
    let program = Program { inputs: m.inputs, instrs: m.instrs, constants, calls, types };
    Ok(StageExec::new(m.id, Arc::new(program), sink, m.placement, input, builds, schema).with_scope(m.scope))
}
