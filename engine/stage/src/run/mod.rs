//! Running a stage: chunks through the program, rows into the sink.

pub(crate) mod best;
pub mod chunk;
mod deal;
mod divide;
mod drain;
mod driver;
mod finish;
mod flush;
pub mod gpu;
mod late;
mod learned;
mod listed;
mod merge;
mod metrics;
mod parts;
mod probe;
pub mod reference;
pub mod sink;
mod source;
mod spill;
mod stateless;
mod top;
mod window;
mod worker;

pub use deal::deal;
pub use divide::DiskBuild;
pub use driver::{Held, Output, run_stage};
pub(crate) use driver::{MORSEL_ROWS, see_through};
pub use learned::InTable;
pub use metrics::{Fallback, GpuMetrics, StageMetrics};
pub use parts::Parts;
pub use stateless::RowStage;
pub use window::{Combine, KEY_GROUPS, ReduceStage, StateRows, WINDOW_COLUMNS, WindowStage, Windows, greatest_time};

use crate::convert::Block;
use crate::program::{Constant, ConstantSource, Program, physical};
use crate::{Error, Result};
use arrow::array::{Array, RecordBatch};
use arrow::datatypes::{DataType, Schema};
use datafusion::logical_expr::ColumnarValue;
use millstream_kernels::group::KeyType;
use millstream_kernels::join::JoinTable;
use millstream_kernels::{Value, Vector};
use std::collections::HashSet;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, OnceLock};

/// A join table with its rows: what a build sink leaves and a probe reads.
pub struct Built {
    /// Rows by key.
    pub table: JoinTable,
    /// The columns that a probe gathers.
    pub columns: Vec<Vector>,
    /// Their logical types.
    pub types: Vec<DataType>,
    /// The key columns, for filters on the probe side's scan and for the device.
    pub keys: Vec<Vector>,
    /// Which of `columns` a key is, if any.
    pub key_columns: Vec<Option<usize>>,
    /// 1 where a probe matched the build row; written by all workers of one run, there from the first mark on.
    matched: OnceLock<Vec<AtomicU8>>,
    /// Whether a probe key was null (`NOT IN`).
    probe_null: AtomicU8,
    /// Whether there was any probe row (`NOT IN`).
    probed: AtomicU8,
    /// The memory that it takes.
    held: Held,
}

impl std::fmt::Debug for Built {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Built({} table of {} rows)", self.table.kind(), self.table.rows())
    }
}

impl Built {
    /// A table over `rows` rows.
    ///
    /// # Errors
    /// As [`JoinTable::build`].
    pub fn new(
        keys: Vec<Vector>,
        key_types: &[KeyType],
        columns: Vec<Vector>,
        types: Vec<DataType>,
        rows: usize,
        null_equals_null: bool,
    ) -> Result<Self> {
        let table = JoinTable::build(&keys, key_types, rows, null_equals_null)?;
        let key_columns = vec![None; keys.len()];
        Ok(Self {
            table,
            columns,
            types,
            keys,
            key_columns,
            matched: OnceLock::new(),
            probe_null: AtomicU8::new(0),
            probed: AtomicU8::new(0),
            held: Held::default(),
        })
    }

    /// With the reservation of the memory that it takes.
    pub(crate) fn holding(mut self, held: Held) -> Self {
        self.held = held;
        self
    }

    fn mark(&self, row: usize) {
        let all = self.matched.get_or_init(|| (0..self.table.rows()).map(|_| AtomicU8::new(0)).collect());
        all[row].store(1, Ordering::Relaxed);
    }

    fn is_matched(&self, row: usize) -> bool {
        self.matched.get().is_some_and(|all| all[row].load(Ordering::Relaxed) != 0)
    }

    /// Bytes of memory held.
    pub fn size(&self) -> usize {
        self.columns.iter().chain(&self.keys).map(vector_size).sum::<usize>() + self.table_size()
    }

    /// Bytes of the table and of what it remembers of its rows, without the rows.
    pub fn table_size(&self) -> usize {
        self.table.size() + self.table.rows()
    }
}

/// Bytes of a register, dictionaries left out (they are shared).
pub fn vector_size(v: &Vector) -> usize {
    use millstream_kernels::{Strings, Values};
    let width = match &v.values {
        Values::Bool(_) => 1,
        Values::I32(_) | Values::Str(Strings::Dict { .. }) => 4,
        Values::I64(_) | Values::F64(_) => 8,
        Values::I128(_) => 16,
        Values::Str(Strings::View(s)) => return s.len() * 16 + s.data_buffers().iter().map(|b| b.len()).sum::<usize>(),
        Values::Any(a) => return a.get_array_memory_size(),
    };
    v.values.len() * width + v.valid.as_ref().map_or(0, |v| v.len())
}

/// Bytes of blocks, text that several of their columns share counted once.
pub(crate) fn blocks_size(blocks: &[Block]) -> usize {
    use millstream_kernels::{Strings, Values};
    let mut texts = HashSet::new();
    let columns = blocks.iter().flat_map(|b| &b.columns).map(|v| match &v.values {
        Values::Str(Strings::View(s)) => {
            let new = s.data_buffers().iter().filter(|b| texts.insert(b.as_ptr())).map(|b| b.len());
            s.len() * 16 + new.sum::<usize>() + v.valid.as_ref().map_or(0, |v| v.len())
        }
        _ => vector_size(v),
    });
    columns.sum()
}

/// A program with everything known that is the same for all chunks of a run.
#[derive(Clone)]
pub struct Bound {
    /// The program.
    pub program: Arc<Program>,
    /// Its constants as registers.
    pub constants: Vec<Vector>,
    /// Its constants as values, for the reference and the device.
    pub values: Vec<Value>,
    /// The tables it probes.
    pub tables: Vec<Arc<Built>>,
    /// Those that are on disk; their place in `tables` is taken by one without rows, or by a part.
    pub(crate) disk: Vec<Option<Arc<DiskBuild>>>,
}

impl Bound {
    /// Evaluates late constants.
    ///
    /// # Errors
    /// What the expression of a late constant raises.
    pub fn new(program: Arc<Program>, tables: Vec<Arc<Built>>) -> Result<Self> {
        let constants: Vec<Vector> = program.constants.iter().map(constant).collect::<Result<_>>()?;
        let values = constants
            .iter()
            .map(|c| match &c.values {
                millstream_kernels::Values::Any(_) => Ok(Value::Null),
                _ => c.value(0),
            })
            .collect::<Result<_, _>>()?;
        Ok(Self { program, constants, values, tables, disk: vec![] })
    }

    /// Table `table`, if it is on disk.
    pub(crate) fn on_disk(&self, table: u16) -> Option<&Arc<DiskBuild>> {
        self.disk.get(usize::from(table))?.as_ref()
    }
}

fn constant(c: &Constant) -> Result<Vector> {
    match &c.source {
        ConstantSource::Literal(v) => Ok(Vector::constant(v, physical(&c.data_type))?),
        ConstantSource::Late(expr) => {
            let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(1));
            let one = RecordBatch::try_new_with_options(Arc::new(Schema::empty()), vec![], &options)?;
            let array = match expr.evaluate(&one)? {
                ColumnarValue::Array(a) => a,
                ColumnarValue::Scalar(s) => s.to_array()?,
            };
            let v = crate::convert::Reader::default().vector(&array)?;
            if v.values.len() != 1 {
                return Err(Error::bug("a constant expression of many rows"));
            }
            Ok(Vector { constant: true, ..v })
        }
    }
}

/// What a stage carries from one epoch to the next.
#[derive(Default)]
pub struct Carried {
    /// The group sink's tables.
    pub(crate) groups: Option<sink::GroupSink>,
    /// Tables of the sides that do not change.
    pub(crate) tables: Option<Vec<Arc<Built>>>,
    /// Groups of the reference sink.
    pub(crate) reference: Option<reference::ReferenceSink>,
}

impl std::fmt::Debug for Carried {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Carried").finish_non_exhaustive()
    }
}

/// A part of a block that one worker takes.
pub(crate) fn split(blocks: Vec<Block>, rows: usize) -> Vec<Block> {
    let mut out = vec![];
    for b in blocks {
        let mut at = 0;
        while at < b.rows {
            let len = rows.min(b.rows - at);
            let columns = if len == b.rows { b.columns.clone() } else { b.columns.iter().map(|c| c.slice(at, len)).collect() };
            out.push(Block { columns, rows: len });
            at += len;
        }
    }
    out
}
