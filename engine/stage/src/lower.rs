//! DataFusion's physical expressions to instructions. What no kernel covers becomes a call, so
//! lowering an expression never fails.

mod bins;

use crate::convert::call_schema;
use crate::program::{Call, Constant, ConstantSource, Program, physical};
use crate::{Error, Result};
use arrow::datatypes::{DataType, Field, Schema};
use bins::Bins;
use datafusion::common::ScalarValue;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::{Operator, Volatility};
use datafusion::physical_expr::expressions::{
    BinaryExpr, CaseExpr, CastExpr, Column, IsNotNullExpr, IsNullExpr, LikeExpr, Literal, NegativeExpr, NotExpr,
};
use datafusion::physical_expr::{PhysicalExpr, ScalarFunctionExpr};
use millstream_kernels::Value;
use millstream_kernels::program::{ArithOp, BoolOp, CompareOp, Instr, Reg, Type};
use millstream_kernels::text::Pattern;
use std::collections::HashMap;
use std::sync::Arc;

/// Builds a program, one expression after the other.
#[derive(Debug, Default)]
pub struct Lowering {
    /// The program so far.
    pub program: Program,
    /// Register of each instruction text already emitted: common subexpressions run once.
    known: HashMap<String, Reg>,
    /// Integer overflow is an error.
    checked: bool,
}

impl Lowering {
    /// An empty program; `checked` makes integer overflow an error.
    pub fn new(checked: bool) -> Self {
        Self { checked, ..Self::default() }
    }

    /// A new register of a logical type.
    pub fn register(&mut self, t: &DataType) -> Result<Reg> {
        let r = Reg::try_from(self.program.types.len()).map_err(|_| Error::unsupported("a program of more than 65,535 registers"))?;
        self.program.types.push(t.clone());
        Ok(r)
    }

    /// Lowers `expr` over columns that stand in registers `columns`.
    ///
    /// # Errors
    /// `Bug` when DataFusion cannot type the expression.
    pub fn expr(&mut self, expr: &Arc<dyn PhysicalExpr>, columns: &[Reg]) -> Result<Reg> {
        let schema = self.schema(columns);
        self.lower(expr, columns, &schema)
    }

    fn schema(&self, columns: &[Reg]) -> Schema {
        let field = |(i, r): (usize, &Reg)| Field::new(format!("c{i}"), self.program.data_type(*r).clone(), true);
        Schema::new(columns.iter().enumerate().map(field).collect::<Vec<_>>())
    }

    fn lower(&mut self, expr: &Arc<dyn PhysicalExpr>, columns: &[Reg], schema: &Schema) -> Result<Reg> {
        if let Some(c) = expr.downcast_ref::<Column>() {
            return columns.get(c.index()).copied().ok_or_else(|| Error::bug(format!("column {c} is not there")));
        }
        let ty = expr.data_type(schema)?;
        if let Some(l) = expr.downcast_ref::<Literal>() {
            return self.literal(l.value(), &ty, expr);
        }
        if is_late(expr) {
            // In Debug text, as for calls: two scalar subqueries read alike in Display.
            return self.constant(ConstantSource::Late(Arc::clone(expr)), &ty, &format!("late {expr:?}"));
        }
        let lowered = self.kernel(expr, columns, schema, &ty)?;
        match lowered {
            Some(r) => Ok(r),
            None => self.call(expr, columns, &ty),
        }
    }

    /// The expression by kernels, or none where they do not cover it.
    fn kernel(&mut self, expr: &Arc<dyn PhysicalExpr>, columns: &[Reg], schema: &Schema, ty: &DataType) -> Result<Option<Reg>> {
        if let Some(b) = expr.downcast_ref::<BinaryExpr>() {
            return self.binary(b, columns, schema, ty);
        }
        if let Some(n) = expr.downcast_ref::<NotExpr>() {
            let a = self.lower(n.arg(), columns, schema)?;
            return self.emit(ty, |out| Instr::Not { a, out }).map(Some);
        }
        if let Some(n) = expr.downcast_ref::<IsNullExpr>() {
            let a = self.lower(n.arg(), columns, schema)?;
            return self.emit(ty, |out| Instr::IsNull { a, negated: false, out }).map(Some);
        }
        if let Some(n) = expr.downcast_ref::<IsNotNullExpr>() {
            let a = self.lower(n.arg(), columns, schema)?;
            return self.emit(ty, |out| Instr::IsNull { a, negated: true, out }).map(Some);
        }
        if let Some(c) = expr.downcast_ref::<CastExpr>() {
            return self.cast(c, columns, schema, ty);
        }
        if let Some(c) = expr.downcast_ref::<CaseExpr>() {
            return self.case(c, columns, schema, ty);
        }
        if let Some(l) = expr.downcast_ref::<LikeExpr>() {
            return self.like(l, columns, schema, ty);
        }
        if let Some(f) = expr.downcast_ref::<ScalarFunctionExpr>() {
            return self.bin(f, columns, schema, ty);
        }
        if let Some(n) = expr.downcast_ref::<NegativeExpr>()
            && physical(ty) == Type::Decimal
        {
            let zero = self.constant(ConstantSource::Literal(Value::Int(0)), ty, "0")?;
            let a = self.lower(n.arg(), columns, schema)?;
            return self.arith(ArithOp::Sub, zero, a, ty).map(Some);
        }
        Ok(None)
    }

    fn like(&mut self, l: &LikeExpr, columns: &[Reg], schema: &Schema, ty: &DataType) -> Result<Option<Reg>> {
        let literal = l.pattern().downcast_ref::<Literal>().and_then(|p| p.value().try_as_str().flatten());
        let text = physical(&l.expr().data_type(schema)?) == Type::Str;
        let Some(pattern) = literal.filter(|p| text && !l.case_insensitive() && Pattern::parse(p).is_some()) else { return Ok(None) };
        let (pattern, negated) = (pattern.to_string(), l.negated());
        let a = self.lower(l.expr(), columns, schema)?;
        self.emit(ty, |out| Instr::Like { a, pattern: pattern.clone(), negated, out }).map(Some)
    }

    fn bin(&mut self, f: &ScalarFunctionExpr, columns: &[Reg], schema: &Schema, ty: &DataType) -> Result<Option<Reg>> {
        let Some(Bins { of, width, origin, unit }) = Bins::of(f, ty) else { return Ok(None) };
        if of.data_type(schema)? != *ty {
            return Ok(None);
        }
        let a = self.lower(of, columns, schema)?;
        self.emit(ty, |out| Instr::Bin { a, width, origin, unit, out }).map(Some)
    }

    fn binary(&mut self, b: &BinaryExpr, columns: &[Reg], schema: &Schema, ty: &DataType) -> Result<Option<Reg>> {
        let (lt, rt) = (b.left().data_type(schema)?, b.right().data_type(schema)?);
        if let Some(op) = bool_op(b.op()) {
            // The right side runs on every row here; where it can fail, DataFusion's lazy AND, OR must do it.
            if lt != DataType::Boolean || rt != DataType::Boolean || self.is_fallible(b.right(), schema) {
                return Ok(None);
            }
            let (a, b) = (self.lower(b.left(), columns, schema)?, self.lower(b.right(), columns, schema)?);
            return self.emit(ty, |out| Instr::Bool { op, a, b, out }).map(Some);
        }
        if let Some(op) = compare_op(b.op()) {
            let Some(common) = comparable(&lt, &rt) else { return Ok(None) };
            let (a, b) = (self.lower(b.left(), columns, schema)?, self.lower(b.right(), columns, schema)?);
            let (a, b) = (self.rescale(a, common)?, self.rescale(b, common)?);
            return self.emit(ty, |out| Instr::Compare { op, a, b, out }).map(Some);
        }
        let Some(op) = arith_op(b.op()) else { return Ok(None) };
        let scale = match (&lt, &rt, ty) {
            (DataType::Decimal128(_, a), DataType::Decimal128(_, b), DataType::Decimal128(_, s)) => match op {
                ArithOp::Mul if a + b == *s => None,
                ArithOp::Mul => return Ok(None),
                _ if (*a).max(*b) == *s => Some(*s),
                _ => return Ok(None),
            },
            (DataType::Int32, DataType::Int32, DataType::Int32)
            | (DataType::Int64, DataType::Int64, DataType::Int64)
            | (DataType::Float64, DataType::Float64, DataType::Float64) => None,
            _ => return Ok(None),
        };
        let (mut a, mut b) = (self.lower(b.left(), columns, schema)?, self.lower(b.right(), columns, schema)?);
        if let Some(s) = scale {
            (a, b) = (self.rescale(a, s)?, self.rescale(b, s)?);
        }
        self.arith(op, a, b, ty).map(Some)
    }

    fn arith(&mut self, op: ArithOp, a: Reg, b: Reg, ty: &DataType) -> Result<Reg> {
        let (kind, checked) = (physical(ty), self.checked);
        self.emit(ty, |out| Instr::Arith { op, a, b, ty: kind, checked, out })
    }

    /// A decimal register at a greater scale; anything else as it is.
    fn rescale(&mut self, r: Reg, scale: i8) -> Result<Reg> {
        let DataType::Decimal128(p, s) = *self.program.data_type(r) else { return Ok(r) };
        if s >= scale {
            return Ok(r);
        }
        let by = (scale - s) as u32;
        let ty = DataType::Decimal128((p + by as u8).min(38), scale);
        let factor =
            self.constant(ConstantSource::Literal(Value::Int(10i128.pow(by))), &DataType::Decimal128(38, 0), &format!("10^{by}"))?;
        self.arith(ArithOp::Mul, r, factor, &ty)
    }

    fn cast(&mut self, c: &CastExpr, columns: &[Reg], schema: &Schema, ty: &DataType) -> Result<Option<Reg>> {
        let from = c.expr().data_type(schema)?;
        use DataType::*;
        let digits = |t: &DataType| if *t == Int32 { 10 } else { 19 };
        let plan = match (&from, ty) {
            (a, b) if a == b => Some(None),
            (a, b) if physical(a) == Type::Str && physical(b) == Type::Str => Some(None),
            (Int32, Int64) => Some(Some((Type::I64, 0))),
            (Int32 | Int64, Float64) => Some(Some((Type::F64, 0))),
            (Decimal128(_, s), Float64) => Some(Some((Type::F64, *s))),
            (Int32 | Int64, Decimal128(p, s)) if i16::from(*p) - i16::from(*s) >= digits(&from) => Some(Some((Type::Decimal, 0))),
            (Decimal128(p, s), Decimal128(q, t)) if t >= s && i16::from(*q) - i16::from(*t) >= i16::from(*p) - i16::from(*s) => Some(None),
            _ => None,
        };
        let Some(plan) = plan else { return Ok(None) };
        let a = self.lower(c.expr(), columns, schema)?;
        let Some((to, scale)) = plan else {
            return match ty {
                Decimal128(_, t) => self.rescale(a, *t).map(Some),
                _ => Ok(Some(a)),
            };
        };
        if let Decimal128(_, s) = ty {
            let integer = self.emit(&Decimal128(digits(&from) as u8, 0), |out| Instr::Cast { a, to, scale: 0, out })?;
            return self.rescale(integer, *s).map(Some);
        }
        self.emit(ty, |out| Instr::Cast { a, to, scale, out }).map(Some)
    }

    fn case(&mut self, c: &CaseExpr, columns: &[Reg], schema: &Schema, ty: &DataType) -> Result<Option<Reg>> {
        let branches = c.when_then_expr();
        let covered = c.expr().is_none()
            && physical(ty) != Type::Any
            && branches.iter().enumerate().all(|(i, (w, t))| (i == 0 || !self.is_fallible(w, schema)) && !self.is_fallible(t, schema))
            && c.else_expr().is_none_or(|e| !self.is_fallible(e, schema));
        let mut same_type = true;
        for e in branches.iter().map(|(_, t)| t).chain(c.else_expr()) {
            same_type &= e.data_type(schema)? == *ty;
        }
        if !covered || !same_type {
            return Ok(None);
        }
        let mut out = match c.else_expr() {
            Some(e) => self.lower(e, columns, schema)?,
            None => self.constant(ConstantSource::Literal(Value::Null), ty, "null")?,
        };
        for (when, then) in branches.iter().rev() {
            let cond = self.lower(when, columns, schema)?;
            let (a, b) = (self.lower(then, columns, schema)?, out);
            out = self.emit(ty, |out| Instr::Select { cond, a, b, out })?;
        }
        Ok(Some(out))
    }

    fn literal(&mut self, v: &ScalarValue, ty: &DataType, expr: &Arc<dyn PhysicalExpr>) -> Result<Reg> {
        let source = match scalar(v) {
            Some(v) => ConstantSource::Literal(v),
            None => ConstantSource::Late(Arc::clone(expr)),
        };
        self.constant(source, ty, &format!("{v:?}"))
    }

    /// A constant register.
    pub fn constant(&mut self, source: ConstantSource, ty: &DataType, text: &str) -> Result<Reg> {
        let key = format!("const {ty} {text}");
        if let Some(r) = self.known.get(&key) {
            return Ok(*r);
        }
        let constant = self.program.constants.len() as u16;
        self.program.constants.push(Constant { source, data_type: ty.clone() });
        let out = self.register(ty)?;
        self.program.instrs.push(Instr::Const { constant, out });
        self.known.insert(key, out);
        Ok(out)
    }

    fn emit(&mut self, ty: &DataType, instr: impl Fn(Reg) -> Instr) -> Result<Reg> {
        let key = format!("{ty} {:?}", instr(Reg::MAX));
        if let Some(r) = self.known.get(&key) {
            return Ok(*r);
        }
        let out = self.register(ty)?;
        self.program.instrs.push(instr(out));
        self.known.insert(key, out);
        Ok(out)
    }

    /// Leaves an expression to DataFusion.
    fn call(&mut self, expr: &Arc<dyn PhysicalExpr>, columns: &[Reg], ty: &DataType) -> Result<Reg> {
        let mut inputs: Vec<Reg> = vec![];
        let rewritten = Arc::clone(expr).transform_down(|e| {
            let Some(c) = e.downcast_ref::<Column>() else { return Ok(Transformed::no(e)) };
            let r = columns[c.index()];
            let at = inputs.iter().position(|i| *i == r).unwrap_or_else(|| {
                inputs.push(r);
                inputs.len() - 1
            });
            Ok(Transformed::new(Arc::new(Column::new(&format!("c{at}"), at)) as _, true, TreeNodeRecursion::Jump))
        })?;
        let types: Vec<DataType> = inputs.iter().map(|r| self.program.data_type(*r).clone()).collect();
        let per_entry = inputs.len() == 1 && physical(&types[0]) == Type::Str && !is_volatile(expr);
        let key = format!("call {:?} {inputs:?}", rewritten.data);
        if let (Some(r), false) = (self.known.get(&key), is_volatile(expr)) {
            return Ok(*r);
        }
        let call = self.program.calls.len() as u16;
        self.program.calls.push(Call { expr: rewritten.data, inputs: call_schema(&types), per_entry });
        let out = self.register(ty)?;
        self.program.instrs.push(Instr::Call { call, inputs, out });
        self.known.insert(key, out);
        Ok(out)
    }

    /// Adds an instruction.
    pub fn push(&mut self, instr: Instr) {
        self.program.instrs.push(instr);
    }

    /// Lowers what `f` lowers into a list of its own (the residual of a probe); nothing of it is known
    /// to the program outside.
    ///
    /// # Errors
    /// What `f` returns.
    pub fn nested(&mut self, f: impl FnOnce(&mut Self) -> Result<Reg>) -> Result<(Vec<Instr>, Reg)> {
        let (at, known) = (self.program.instrs.len(), self.known.clone());
        let out = f(self)?;
        self.known = known;
        Ok((self.program.instrs.split_off(at), out))
    }

    /// Computes nothing from here on that an earlier instruction has computed: there will be rows for which
    /// that one did not run.
    pub fn forget(&mut self) {
        self.known.clear();
    }

    /// Adds a filter, one instruction a conjunct, so that a later conjunct sees only rows that reach it.
    ///
    /// # Errors
    /// As [`Lowering::expr`].
    pub fn filter(&mut self, predicate: &Arc<dyn PhysicalExpr>, columns: &[Reg]) -> Result<()> {
        for part in datafusion::physical_expr::split_conjunction(predicate) {
            let cond = self.expr(part, columns)?;
            self.program.instrs.push(Instr::Filter { cond });
        }
        Ok(())
    }

    /// Whether evaluating `expr` on a row that SQL would not evaluate it on could raise an error.
    fn is_fallible(&self, expr: &Arc<dyn PhysicalExpr>, schema: &Schema) -> bool {
        let mut fallible = false;
        let _ = expr.apply(|e| {
            let safe = e.is::<Column>()
                || e.is::<Literal>()
                || e.is::<NotExpr>()
                || e.is::<IsNullExpr>()
                || e.is::<IsNotNullExpr>()
                || e.is::<LikeExpr>()
                || e.is::<datafusion::physical_expr::expressions::InListExpr>()
                || e.is::<CaseExpr>()
                || e.downcast_ref::<CastExpr>().is_some_and(|c| is_safe_cast(c, schema))
                || e.downcast_ref::<ScalarFunctionExpr>().is_some_and(|f| e.data_type(schema).is_ok_and(|t| Bins::of(f, &t).is_some()))
                || e.downcast_ref::<BinaryExpr>().is_some_and(|b| is_safe_binary(b, self.checked, schema))
                || is_late(e);
            fallible |= !safe;
            Ok(if fallible || is_late(e) { TreeNodeRecursion::Jump } else { TreeNodeRecursion::Continue })
        });
        fallible
    }
}

fn is_safe_cast(c: &CastExpr, schema: &Schema) -> bool {
    let Ok(from) = c.expr().data_type(schema) else { return false };
    use DataType::*;
    match (&from, c.cast_type()) {
        (a, b) if a == b => true,
        (a, b) if physical(a) == Type::Str && physical(b) == Type::Str => true,
        (Int32, Int64) | (Int32 | Int64 | Decimal128(..), Float64) => true,
        (Int32 | Int64, Decimal128(p, s)) => i16::from(*p) - i16::from(*s) >= if from == Int32 { 10 } else { 19 },
        (Decimal128(p, s), Decimal128(q, t)) => t >= s && i16::from(*q) - i16::from(*t) >= i16::from(*p) - i16::from(*s),
        _ => false,
    }
}

fn is_safe_binary(b: &BinaryExpr, checked: bool, schema: &Schema) -> bool {
    if bool_op(b.op()).is_some() || compare_op(b.op()).is_some() {
        return true;
    }
    let Some(op) = arith_op(b.op()) else { return false };
    match (b.left().data_type(schema), b.right().data_type(schema)) {
        (Ok(DataType::Decimal128(p, s)), Ok(DataType::Decimal128(q, t))) => match op {
            ArithOp::Mul => p + q <= 38,
            _ => (i16::from(p) - i16::from(s)).max(i16::from(q) - i16::from(t)) + i16::from(s.max(t)) < 38,
        },
        (Ok(DataType::Float64), Ok(DataType::Float64)) => true,
        (Ok(DataType::Int32 | DataType::Int64), Ok(DataType::Int32 | DataType::Int64)) => !checked,
        _ => false,
    }
}

/// Whether the expression has the same value for every row of a run, not known when planning.
fn is_late(e: &Arc<dyn PhysicalExpr>) -> bool {
    let mut columns = false;
    let _ = e.apply(|e| {
        columns |= e.is::<Column>();
        Ok(TreeNodeRecursion::Continue)
    });
    !columns && !is_volatile(e)
}

fn is_volatile(e: &Arc<dyn PhysicalExpr>) -> bool {
    let mut volatile = false;
    let _ = e.apply(|e| {
        volatile |= e.is_volatile_node()
            || e.downcast_ref::<ScalarFunctionExpr>().is_some_and(|f| f.fun().signature().volatility == Volatility::Volatile);
        Ok(TreeNodeRecursion::Continue)
    });
    volatile
}

/// The scale two types are compared at, or none where no kernel compares them.
fn comparable(a: &DataType, b: &DataType) -> Option<i8> {
    match (a, b) {
        (DataType::Decimal128(p, s), DataType::Decimal128(q, t)) => {
            let scale = *s.max(t);
            let digits = (i16::from(*p) - i16::from(*s)).max(i16::from(*q) - i16::from(*t)) + i16::from(scale);
            (digits <= 38).then_some(scale)
        }
        (a, b) if physical(a) == Type::Str && physical(b) == Type::Str => Some(0),
        (a, b) if a == b && !matches!(physical(a), Type::Any | Type::Decimal) => Some(0),
        _ => None,
    }
}

fn bool_op(op: &Operator) -> Option<BoolOp> {
    match op {
        Operator::And => Some(BoolOp::And),
        Operator::Or => Some(BoolOp::Or),
        _ => None,
    }
}

fn compare_op(op: &Operator) -> Option<CompareOp> {
    Some(match op {
        Operator::Eq => CompareOp::Eq,
        Operator::NotEq => CompareOp::Ne,
        Operator::Lt => CompareOp::Lt,
        Operator::LtEq => CompareOp::Le,
        Operator::Gt => CompareOp::Gt,
        Operator::GtEq => CompareOp::Ge,
        _ => return None,
    })
}

fn arith_op(op: &Operator) -> Option<ArithOp> {
    Some(match op {
        Operator::Plus => ArithOp::Add,
        Operator::Minus => ArithOp::Sub,
        Operator::Multiply => ArithOp::Mul,
        _ => return None,
    })
}

/// A literal as a value; none for types without kernels.
pub fn scalar(v: &ScalarValue) -> Option<Value> {
    use ScalarValue as S;
    Some(match v {
        v if v.is_null() && physical(&v.data_type()) != Type::Any => Value::Null,
        S::Boolean(Some(b)) => Value::Bool(*b),
        S::Int8(Some(v)) => Value::Int((*v).into()),
        S::Int16(Some(v)) => Value::Int((*v).into()),
        S::Int32(Some(v)) | S::Date32(Some(v)) => Value::Int((*v).into()),
        S::UInt8(Some(v)) => Value::Int((*v).into()),
        S::UInt16(Some(v)) => Value::Int((*v).into()),
        S::UInt32(Some(v)) => Value::Int((*v).into()),
        S::Int64(Some(v)) | S::Date64(Some(v)) => Value::Int((*v).into()),
        S::TimestampSecond(Some(v), _)
        | S::TimestampMillisecond(Some(v), _)
        | S::TimestampMicrosecond(Some(v), _)
        | S::TimestampNanosecond(Some(v), _) => Value::Int((*v).into()),
        S::Decimal128(Some(v), ..) => Value::Int(*v),
        S::Float64(Some(v)) => Value::F64(*v),
        S::Utf8(Some(s)) | S::LargeUtf8(Some(s)) | S::Utf8View(Some(s)) => Value::Str(s.clone()),
        S::Dictionary(_, v) => return scalar(v),
        _ => return None,
    })
}
