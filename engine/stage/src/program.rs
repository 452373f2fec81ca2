//! What a stage does, as plain data: instructions over registers, a sink, a scope, a placement.

use arrow::datatypes::{DataType, SchemaRef};
use datafusion::physical_expr::PhysicalExpr;
use millstream_kernels::CHUNK_ROWS;
pub use millstream_kernels::Value;
use millstream_kernels::group::KeyType;
pub use millstream_kernels::program::{
    AggregateOp, BoolOp, CompareOp, Fraction, Instr, JoinKind, KeyOrder, KeyOrders, Listing, Moment, Pick, Probe, Reg, Residual, Type,
};
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

/// Where a constant comes from.
#[derive(Clone, Debug)]
pub enum ConstantSource {
    /// Known when planning.
    Literal(Value),
    /// Known when the stage starts: a scalar subquery, a parameter.
    Late(Arc<dyn PhysicalExpr>),
}

/// A constant and its type.
#[derive(Clone, Debug)]
pub struct Constant {
    /// Its value or where it comes from.
    pub source: ConstantSource,
    /// Its logical type.
    pub data_type: DataType,
}

/// An expression that no kernel covers, evaluated by DataFusion over the live rows.
#[derive(Clone, Debug)]
pub struct Call {
    /// The expression, over the columns of `inputs`.
    pub expr: Arc<dyn PhysicalExpr>,
    /// Names and types of the inputs.
    pub inputs: SchemaRef,
    /// Whether it may be evaluated once per dictionary entry instead of once per row.
    pub per_entry: bool,
}

/// A straight-line program. Registers `0 .. inputs.len()` are the input columns.
#[derive(Clone, Debug, Default)]
pub struct Program {
    /// Column of the stage's input behind each input register.
    pub inputs: Vec<usize>,
    /// What to do, in order.
    pub instrs: Vec<Instr>,
    /// Literals and late-bound values.
    pub constants: Vec<Constant>,
    /// Expressions left to DataFusion.
    pub calls: Vec<Call>,
    /// The logical (Arrow) type of every register.
    pub types: Vec<DataType>,
}

impl Program {
    /// The logical type of a register.
    pub fn data_type(&self, r: Reg) -> &DataType {
        &self.types[r as usize]
    }

    /// The physical type of a register.
    pub fn ty(&self, r: Reg) -> Type {
        physical(self.data_type(r))
    }

    /// The key type of a register.
    pub fn key_type(&self, r: Reg) -> KeyType {
        key_type(self.data_type(r))
    }

    /// Drops what `sink` does not need, gathers build columns as late as possible and numbers the
    /// registers anew. Returns the sink in the new numbers.
    pub fn finish(&mut self, mut sink: Sink) -> Sink {
        let live = self.live(&sink);
        self.instrs.retain(|i| match i {
            Instr::Filter { .. } | Instr::Probe(_) => true,
            i => i.out().is_some_and(|r| live[r as usize]),
        });
        self.sink_gathers();
        self.join_ranges();
        let mut order: Vec<Reg> = (0..self.inputs.len() as Reg).filter(|r| live[*r as usize]).collect();
        let kept = order.len();
        let mut rest: Vec<Reg> = vec![];
        for i in &mut self.instrs {
            i.each_register(&mut |r| {
                if *r as usize >= self.inputs.len() && !rest.contains(r) {
                    rest.push(*r);
                }
            });
        }
        order.extend(rest);
        let mut new = vec![Reg::MAX; self.types.len()];
        order.iter().enumerate().for_each(|(i, r)| new[*r as usize] = i as Reg);
        self.instrs.iter_mut().for_each(|i| i.each_register(&mut |r| *r = new[*r as usize]));
        sink.each_register(&mut |r| *r = new[*r as usize]);
        self.types = order.iter().map(|r| self.types[*r as usize].clone()).collect();
        self.inputs = order[..kept].iter().map(|r| self.inputs[*r as usize]).collect();
        sink
    }

    fn live(&self, sink: &Sink) -> Vec<bool> {
        let mut live = vec![false; self.types.len()];
        sink.reads().into_iter().for_each(|r| live[r as usize] = true);
        for i in self.instrs.iter().rev() {
            let needed = matches!(i, Instr::Filter { .. } | Instr::Probe(_)) || i.out().is_some_and(|r| live[r as usize]);
            if needed {
                i.reads().into_iter().for_each(|r| live[r as usize] = true);
            }
        }
        live
    }

    /// Moves each gather to just before its first reader: rows filtered in between are not gathered.
    fn sink_gathers(&mut self) {
        let mut waiting: Vec<Instr> = vec![];
        let mut out = Vec::with_capacity(self.instrs.len());
        for i in std::mem::take(&mut self.instrs) {
            let reads = i.reads();
            let (now, later): (Vec<_>, Vec<_>) = waiting.into_iter().partition(|g: &Instr| g.out().is_some_and(|r| reads.contains(&r)));
            waiting = later;
            out.extend(now);
            if matches!(i, Instr::Gather { .. }) { waiting.push(i) } else { out.push(i) }
        }
        out.extend(waiting);
        self.instrs = out;
    }

    /// One filter where two in a row compare the same register (a range): comparing it once more costs
    /// less than to gather it for the rows that passed the first.
    fn join_ranges(&mut self) {
        let constant: HashSet<Reg> = self.instrs.iter().filter(|i| matches!(i, Instr::Const { .. })).filter_map(Instr::out).collect();
        let mut out: Vec<Instr> = Vec::with_capacity(self.instrs.len());
        // The comparison that the last filter of `out` keeps the rows of: its register and what it reads.
        let mut last: Option<(Reg, Reg)> = None;
        for i in std::mem::take(&mut self.instrs) {
            let range = match (&i, out.last(), last) {
                (Instr::Filter { cond }, Some(Instr::Compare { a, b, out: c, .. }), now) if c == cond => {
                    let read = [*a, *b].into_iter().filter(|r| !constant.contains(r)).collect::<Vec<_>>();
                    match (read.as_slice(), now) {
                        ([r], Some((before, same))) if *r == same => Some((*r, Some((before, *cond)))),
                        ([r], _) => Some((*r, None)),
                        _ => None,
                    }
                }
                _ => None,
            };
            match range {
                Some((r, Some((before, cond)))) => {
                    let at = out.iter().rposition(|i| matches!(i, Instr::Filter { cond } if *cond == before));
                    at.into_iter().for_each(|at| drop(out.remove(at)));
                    let both = self.types.len() as Reg;
                    self.types.push(DataType::Boolean);
                    out.push(Instr::Bool { op: BoolOp::And, a: before, b: cond, out: both });
                    out.push(Instr::Filter { cond: both });
                    last = Some((both, r));
                }
                Some((r, None)) => {
                    if let Instr::Filter { cond } = &i {
                        last = Some((*cond, r));
                    }
                    out.push(i);
                }
                None => {
                    if !matches!(i, Instr::Const { .. } | Instr::Compare { .. }) {
                        last = None;
                    }
                    out.push(i);
                }
            }
        }
        self.instrs = out;
    }

    /// Whether as many rows leave the program as come.
    pub fn keeps_rows(&self) -> bool {
        !self.instrs.iter().any(|i| matches!(i, Instr::Filter { .. } | Instr::Probe(_)))
    }

    /// Rows a chunk of this program has.
    pub fn chunk_rows(&self) -> usize {
        CHUNK_ROWS
    }
}

/// The physical type that holds values of a logical type.
pub fn physical(t: &DataType) -> Type {
    match t {
        DataType::Boolean => Type::Bool,
        DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::UInt8 | DataType::UInt16 => Type::I32,
        DataType::Date32 => Type::I32,
        DataType::Int64 | DataType::UInt32 | DataType::Timestamp(..) | DataType::Date64 => Type::I64,
        DataType::Decimal32(..) | DataType::Decimal64(..) | DataType::Decimal128(..) => Type::Decimal,
        DataType::Float64 => Type::F64,
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => Type::Str,
        DataType::Dictionary(_, v) if physical(v) == Type::Str => Type::Str,
        _ => Type::Any,
    }
}

/// The key type of a logical type.
pub fn key_type(t: &DataType) -> KeyType {
    let precision = match t {
        DataType::Decimal128(p, _) | DataType::Decimal64(p, _) | DataType::Decimal32(p, _) => *p,
        _ => 0,
    };
    KeyType::new(physical(t), precision)
}

/// An aggregate of a group sink, as SQL names it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AggregateCall {
    /// What to compute; `avg` is a sum and a count, divided at the end.
    pub function: AggregateFunction,
    /// Its arguments; none for `count(*)`.
    pub args: Vec<Reg>,
    /// Only rows where this register is true.
    pub filter: Option<Reg>,
    /// The logical type of its result. Arrow types have an encoding of their own: the codec sends it beside.
    #[serde(skip, default = "untyped")]
    pub returns: DataType,
}

fn untyped() -> DataType {
    DataType::Null
}

/// The functions a group sink knows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AggregateFunction {
    /// Rows or non-null values.
    Count,
    /// Distinct non-null values.
    CountDistinct,
    /// Exact sum.
    Sum,
    /// Sum divided by count.
    Avg,
    /// Least.
    Min,
    /// Greatest.
    Max,
    /// Whether all are true.
    BoolAnd,
    /// Whether any is true.
    BoolOr,
    /// Bits that all have.
    BitAnd,
    /// Bits that any has.
    BitOr,
    /// Bits that an odd number have.
    BitXor,
    /// Variances, standard deviations, covariances, correlation, regression.
    Moment(Moment),
    /// The middle value.
    Median,
    /// `percentile_cont`.
    Quantile(Fraction),
    /// `first_value` and `last_value`; the keys that order the rows are the arguments behind the value.
    Pick(Pick),
    /// `array_agg`; the keys that order the values are the arguments behind them.
    ArrayAgg(Listing),
    /// `string_agg` with what stands between two values; keys as those of `array_agg`.
    StringAgg(Listing, String),
}

impl AggregateFunction {
    /// The states it needs, in order.
    pub fn states(&self) -> Vec<AggregateOp> {
        match *self {
            Self::Count => vec![AggregateOp::Count],
            Self::CountDistinct => vec![AggregateOp::CountDistinct],
            Self::Sum => vec![AggregateOp::Sum],
            Self::Avg => vec![AggregateOp::Sum, AggregateOp::Count],
            // False is less than true.
            Self::Min | Self::BoolAnd => vec![AggregateOp::Min],
            Self::Max | Self::BoolOr => vec![AggregateOp::Max],
            Self::BitAnd => vec![AggregateOp::BitAnd],
            Self::BitOr => vec![AggregateOp::BitOr],
            Self::BitXor => vec![AggregateOp::BitXor],
            Self::Moment(m) => vec![AggregateOp::Moment(m)],
            Self::Median => vec![AggregateOp::Median],
            Self::Quantile(f) => vec![AggregateOp::Quantile(f)],
            Self::Pick(p) => vec![AggregateOp::Pick(p)],
            Self::ArrayAgg(l) | Self::StringAgg(l, _) => vec![AggregateOp::List(l)],
        }
    }

    /// How many states that are.
    pub fn width(&self) -> usize {
        if *self == Self::Avg { 2 } else { 1 }
    }

    /// As in SQL.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Count => "count",
            Self::CountDistinct => "count distinct",
            Self::Sum => "sum",
            Self::Avg => "avg",
            Self::Min => "min",
            Self::Max => "max",
            Self::BoolAnd => "bool_and",
            Self::BoolOr => "bool_or",
            Self::BitAnd => "bit_and",
            Self::BitOr => "bit_or",
            Self::BitXor => "bit_xor",
            Self::Moment(m) => match m {
                Moment::VarSamp => "var_samp",
                Moment::VarPop => "var_pop",
                Moment::StddevSamp => "stddev_samp",
                Moment::StddevPop => "stddev_pop",
                Moment::CovarSamp => "covar_samp",
                Moment::CovarPop => "covar_pop",
                Moment::Corr => "corr",
                Moment::RegrSlope => "regr_slope",
                Moment::RegrIntercept => "regr_intercept",
                Moment::RegrR2 => "regr_r2",
                Moment::RegrAvgX => "regr_avgx",
                Moment::RegrAvgY => "regr_avgy",
                Moment::RegrSxx => "regr_sxx",
                Moment::RegrSyy => "regr_syy",
                Moment::RegrSxy => "regr_sxy",
            },
            Self::Median => "median",
            Self::Quantile(_) => "percentile_cont",
            Self::Pick(p) if p.last => "last_value",
            Self::Pick(_) => "first_value",
            Self::ArrayAgg(_) => "array_agg",
            Self::StringAgg(..) => "string_agg",
        }
    }
}

/// The keys of one of several groupings of the same rows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupingSet {
    /// Keys that are not of this set are constant nulls; one more constant tells the sets apart.
    pub keys: Vec<Reg>,
    /// The set of no key: all keys are constants, and there is a group also without rows.
    pub total: bool,
}

/// One column of a sort order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SortKey {
    /// Position among the sink's columns.
    pub column: usize,
    /// Greatest first.
    pub descending: bool,
    /// Nulls before all values.
    pub nulls_first: bool,
}

impl SortKey {
    /// How its column is ordered.
    pub fn order(&self) -> KeyOrder {
        KeyOrder { descending: self.descending, nulls_first: self.nulls_first }
    }
}

/// Where a stage ends.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Sink {
    /// Batches of these registers.
    Collect {
        /// What leaves, in order.
        columns: Vec<Reg>,
    },
    /// Groups: keys, then aggregates.
    Group {
        /// What the groups are of; of none there is one group, also without rows.
        keys: Vec<Reg>,
        /// `GROUPING SETS`: each row is in a group of each of these, and not of `keys`, which says their types only.
        sets: Vec<GroupingSet>,
        /// What is computed of each group.
        aggregates: Vec<AggregateCall>,
    },
    /// A join table on `keys` that holds `columns`.
    Build {
        /// What rows are found by.
        keys: Vec<Reg>,
        /// What a probe may gather.
        columns: Vec<Reg>,
        /// Null keys match null keys (`IS NOT DISTINCT FROM`).
        null_equals_null: bool,
    },
    /// All rows in order, or the first `fetch` of them, or of each group, of which there is no order then.
    /// `columns` may end in hidden sort columns: only the first `visible` leave.
    Sort {
        /// What is sorted, in order; hidden sort columns at the end.
        columns: Vec<Reg>,
        /// How many of the columns leave.
        visible: usize,
        /// The first key decides, then the next.
        order: Vec<SortKey>,
        /// Only so many rows; all where there is none.
        fetch: Option<usize>,
        /// Positions of the columns that `fetch` rows are of each value of; none to fetch of all rows.
        groups: Vec<usize>,
    },
}

impl Sink {
    /// Its name in EXPLAIN.
    pub fn name(&self) -> &'static str {
        match self {
            Sink::Collect { .. } => "collect",
            Sink::Group { .. } => "group",
            Sink::Build { .. } => "build",
            Sink::Sort { fetch: Some(_), .. } => "top-n",
            Sink::Sort { .. } => "sort",
        }
    }

    /// Calls `f` on every register that the sink names.
    pub fn each_register(&mut self, f: &mut dyn FnMut(&mut Reg)) {
        match self {
            Sink::Collect { columns } | Sink::Sort { columns, .. } => columns.iter_mut().for_each(f),
            Sink::Build { keys, columns, .. } => keys.iter_mut().chain(columns).for_each(f),
            Sink::Group { keys, sets, aggregates } => {
                keys.iter_mut().chain(sets.iter_mut().flat_map(|s| &mut s.keys)).for_each(&mut *f);
                aggregates.iter_mut().for_each(|a| a.args.iter_mut().chain(a.filter.as_mut()).for_each(&mut *f));
            }
        }
    }

    /// The registers it reads.
    pub fn reads(&self) -> Vec<Reg> {
        match self {
            Sink::Collect { columns } | Sink::Sort { columns, .. } => columns.clone(),
            Sink::Build { keys, columns, .. } => keys.iter().chain(columns).copied().collect(),
            Sink::Group { keys, sets, aggregates } => {
                let args = aggregates.iter().flat_map(|a| a.args.iter().copied().chain(a.filter));
                keys.iter().chain(sets.iter().flat_map(|s| &s.keys)).copied().chain(args).collect()
            }
        }
    }
}

/// How much of the input a sink sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Scope {
    /// All of it: one process finishes the work.
    Whole,
    /// A part of it: the output is merged by a `Final` stage.
    Partial,
    /// The outputs of `Partial` stages.
    Final,
}

/// Where a program runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Device {
    /// SIMD kernels on the pool.
    Cpu,
    /// Compute shaders.
    Gpu,
    /// The oracle: one row at a time, for tests.
    Reference,
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Device::Cpu => "cpu",
            Device::Gpu => "gpu",
            Device::Reference => "reference",
        })
    }
}

/// The device of a stage and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placement {
    /// Where.
    pub device: Device,
    /// Why, for EXPLAIN.
    pub reason: String,
    /// What it is expected to take; none without a profile, or where nobody knows how many rows there are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prices: Option<Prices>,
}

/// What the planner expects a stage to take by the profile of a machine, corrected by what runs before took.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prices {
    /// Nanoseconds on the CPU.
    pub cpu_ns: u64,
    /// Nanoseconds on the machine's device; none where none runs the stage.
    pub gpu_ns: Option<u64>,
    /// Rows that are expected to enter.
    pub rows: u64,
    /// Threads that share the host's part.
    pub threads: u32,
    /// The profile is another machine's: where the stage would run there.
    pub there: Option<Device>,
}

impl Prices {
    /// Nanoseconds on `device`.
    pub fn of(&self, device: Device) -> Option<u64> {
        match device {
            Device::Cpu => Some(self.cpu_ns),
            Device::Gpu => self.gpu_ns,
            Device::Reference => None,
        }
    }
}

impl Placement {
    /// On `device`, because `reason`.
    pub fn new(device: Device, reason: impl Into<String>) -> Self {
        Self { device, reason: reason.into(), prices: None }
    }

    /// On the CPU, because `reason`.
    pub fn cpu(reason: impl Into<String>) -> Self {
        Self::new(Device::Cpu, reason)
    }

    /// With what it is expected to take.
    pub fn priced(self, prices: Option<Prices>) -> Self {
        Self { prices, ..self }
    }
}
