//! Zone maps: the least and greatest value of each morsel, and the morsels that a predicate rules out.

use super::ResidentTable;
use crate::Result;
use crate::convert::to_array;
use crate::run::MORSEL_ROWS;
use crate::run::best::Ends as KeyEnds;
use crate::scan::prune::keep;
use arrow::array::{ArrayRef, BooleanArray, UInt64Array};
use arrow::datatypes::DataType;
use datafusion::common::pruning::PruningStatistics;
use datafusion::common::{Column, ScalarValue};
use datafusion::physical_expr::PhysicalExpr;
use millstream_kernels::{Values, Vector};
use std::collections::HashSet;
use std::sync::Arc;

/// What is known of each morsel of a column.
#[derive(Debug)]
pub(super) struct Zones {
    /// Nulls a morsel.
    nulls: UInt64Array,
    /// Least and greatest values of numeric columns, null where a morsel has none or has a NaN.
    ends: Option<Ends>,
}

#[derive(Debug)]
struct Ends {
    min: ArrayRef,
    max: ArrayRef,
    /// Least and greatest value of the column, in its narrow type; none with a NaN or without values.
    column: Option<Vector>,
}

impl Zones {
    /// The zones of a column of logical type `t`.
    pub fn of(v: &Vector, t: &DataType, rows: usize) -> Result<Self> {
        let morsels = || (0..rows).step_by(MORSEL_ROWS).map(|from| from..(from + MORSEL_ROWS).min(rows));
        let nulls = |r: std::ops::Range<usize>| match (&v.values, &v.valid) {
            (Values::Any(a), _) => a.slice(r.start, r.len()).logical_null_count() as u64,
            (_, Some(valid)) => valid[r].iter().filter(|v| **v == 0).count() as u64,
            (_, None) => 0,
        };
        let nulls: UInt64Array = morsels().map(nulls).collect::<Vec<_>>().into();
        macro_rules! typed {
            ($kind:ident, $values:expr) => {{
                let zones: Vec<_> = morsels().map(|r| ends(&$values[r.clone()], v.valid.as_ref().map(|valid| &valid[r]))).collect();
                let array = |side: fn(&(_, _)) -> _| {
                    let valid = zones.iter().map(|z| u8::from(z.is_some())).collect::<Vec<_>>();
                    let values = zones.iter().map(|z| z.as_ref().map_or(Default::default(), side)).collect::<Vec<_>>();
                    to_array(&Vector::with_valid(Values::$kind(values.into()), Some(valid.into())), t, zones.len())
                };
                // A morsel that has values but no ends has a NaN.
                let unknown =
                    zones.iter().enumerate().any(|(m, z)| z.is_none() && nulls.value(m) < MORSEL_ROWS.min(rows - m * MORSEL_ROWS) as u64);
                let all =
                    zones.iter().flatten().copied().reduce(|a, b| (if b.0 < a.0 { b.0 } else { a.0 }, if b.1 > a.1 { b.1 } else { a.1 }));
                let column = all.filter(|_| !unknown).map(|(a, b)| Vector::new(Values::$kind(vec![a, b].into())));
                Some(Ends { min: array(|z| z.0)?, max: array(|z| z.1)?, column })
            }};
        }
        let ends = match &v.values {
            Values::I32(values) => typed!(I32, values),
            Values::I64(values) => typed!(I64, values),
            Values::I128(values) => typed!(I128, values),
            Values::F64(values) => typed!(F64, values),
            _ => None,
        };
        Ok(Self { nulls, ends })
    }

    /// What is known of morsel `m`.
    pub fn ends(&self, m: usize) -> KeyEnds {
        let of = |a: &ArrayRef| a.slice(m, 1);
        let (least, greatest) = self.ends.as_ref().map(|e| (of(&e.min), of(&e.max))).unzip();
        KeyEnds { least, greatest, nulls: Some(self.nulls.value(m)) }
    }

    /// Nulls of the column.
    pub fn null_count(&self) -> usize {
        self.nulls.values().iter().sum::<u64>() as usize
    }

    /// Least and greatest value of the column, two rows.
    pub fn bounds(&self) -> Option<Vector> {
        self.ends.as_ref()?.column.clone()
    }
}

/// Numbers whose least and greatest tell where a comparison can hold.
trait Zoned: Copy + PartialOrd {
    /// Whether comparisons order it as `<` does.
    fn is_ordered(self) -> bool {
        true
    }

    /// As the least or greatest value of a zone.
    fn as_end(self, _least: bool) -> Self {
        self
    }
}

impl Zoned for i32 {}
impl Zoned for i64 {}
impl Zoned for i128 {}
impl Zoned for f64 {
    fn is_ordered(self) -> bool {
        !self.is_nan()
    }

    /// -0 equals +0, but pruning tells them apart.
    fn as_end(self, least: bool) -> Self {
        match (self == 0.0, least) {
            (true, true) => -0.0,
            (true, false) => 0.0,
            _ => self,
        }
    }
}

/// Integers between which those of a column lie; none for other types, and without a value.
pub(super) fn bounds(v: &Vector) -> Option<(i64, i64)> {
    let valid = v.valid.as_deref();
    match &v.values {
        Values::I32(all) => ends(all, valid).map(|(least, most)| (least.into(), most.into())),
        Values::I64(all) => ends(all, valid),
        _ => None,
    }
}

/// Least and greatest valid value; none without one or with a NaN.
fn ends<T: Zoned>(values: &[T], valid: Option<&[u8]>) -> Option<(T, T)> {
    let mut out: Option<(T, T)> = None;
    for (i, v) in values.iter().enumerate() {
        if valid.is_some_and(|valid| valid[i] == 0) {
            continue;
        }
        if !v.is_ordered() {
            return None;
        }
        out = Some(out.map_or((*v, *v), |(lo, hi)| (if *v < lo { *v } else { lo }, if *v > hi { *v } else { hi })));
    }
    out.map(|(lo, hi)| (lo.as_end(true), hi.as_end(false)))
}

impl ResidentTable {
    /// Those of `morsels` in which `predicate` (over the table's columns) may hold for some row.
    pub(super) fn keep(&self, predicate: Option<&Arc<dyn PhysicalExpr>>, morsels: Vec<usize>) -> Vec<usize> {
        let statistics = Statistics { table: self, morsels: &morsels };
        match keep(predicate, self.schema(), &statistics) {
            Some(keep) => morsels.iter().zip(keep).filter(|(_, k)| *k).map(|(m, _)| *m).collect(),
            None => morsels,
        }
    }
}

struct Statistics<'a> {
    table: &'a ResidentTable,
    morsels: &'a [usize],
}

impl Statistics<'_> {
    fn zones(&self, c: &Column) -> Option<&Zones> {
        Some(&self.table.columns[self.table.schema.index_of(&c.name).ok()?].zones)
    }

    fn chosen(&self, all: &ArrayRef) -> Option<ArrayRef> {
        let rows: UInt64Array = self.morsels.iter().map(|m| *m as u64).collect::<Vec<_>>().into();
        arrow::compute::take(all, &rows, None).ok()
    }
}

impl PruningStatistics for Statistics<'_> {
    fn min_values(&self, c: &Column) -> Option<ArrayRef> {
        self.chosen(&self.zones(c)?.ends.as_ref()?.min)
    }

    fn max_values(&self, c: &Column) -> Option<ArrayRef> {
        self.chosen(&self.zones(c)?.ends.as_ref()?.max)
    }

    fn num_containers(&self) -> usize {
        self.morsels.len()
    }

    fn null_counts(&self, c: &Column) -> Option<ArrayRef> {
        let all: ArrayRef = Arc::new(self.zones(c)?.nulls.clone());
        self.chosen(&all)
    }

    fn row_counts(&self) -> Option<ArrayRef> {
        Some(Arc::new(UInt64Array::from_iter_values(self.morsels.iter().map(|m| self.table.rows_of(*m).len() as u64))))
    }

    fn contained(&self, _: &Column, _: &HashSet<ScalarValue>) -> Option<BooleanArray> {
        None
    }
}
