//! What a group sink computes of each group. Plain data.

use super::{Reg, Type};
use serde::{Deserialize, Serialize};

/// What a group sink computes of each group. Null arguments are skipped, and so are rows where one of two is null.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum AggregateOp {
    /// Rows, or non-null values where there is an argument. Never null.
    Count,
    /// Exact sum of integers and decimals; floats in order of arrival. Null of no values.
    Sum,
    /// Least value. Null of no values.
    Min,
    /// Greatest value. Null of no values.
    Max,
    /// Distinct non-null values. Never null.
    CountDistinct,
    /// The bits that all integers have. Null of no values.
    BitAnd,
    /// The bits that any integer has. Null of no values.
    BitOr,
    /// The bits that an odd number of integers have. Null of no values.
    BitXor,
    /// A statistic of one float, or of pairs of them. Null of too few.
    Moment(Moment),
    /// The middle value, of an even number the mean of the two in the middle: of decimals towards zero. Null of
    /// no values. Floats by their total order, in which -0 is less than 0.
    Median,
    /// The value that a fraction of the floats is not above, between two of them a point on the line. Null of no values.
    Quantile(Fraction),
    /// The value of one row, nulls included.
    Pick(Pick),
    /// All values, nulls included. Null of no rows.
    List(Listing),
}

/// The row of a group whose value is picked: the first or last that came, or by further arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Pick {
    /// The orders of the arguments behind the value. Of rows that are equal in all of them any may be picked.
    pub by: KeyOrders,
    /// The last row, else the first.
    pub last: bool,
    /// Rows whose value is null do not count.
    pub skip_nulls: bool,
}

/// The values of a group as a list: as they came, or by further arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Listing {
    /// The orders of the arguments behind the value.
    pub by: KeyOrders,
    /// Rows whose value is null do not count.
    pub skip_nulls: bool,
}

/// How a key is ordered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct KeyOrder {
    /// Greatest first.
    pub descending: bool,
    /// Nulls before all values.
    pub nulls_first: bool,
}

/// How several keys are ordered, the first of which decides. Plain data of a fixed size: no more than 32 keys.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct KeyOrders {
    len: u8,
    /// A bit for each key, that of the first one lowest.
    descending: u32,
    nulls_first: u32,
}

impl KeyOrders {
    /// None of more than 32 keys.
    pub fn new(orders: &[KeyOrder]) -> Option<Self> {
        let bits = |of: fn(&KeyOrder) -> bool| orders.iter().enumerate().fold(0, |bits, (i, o)| bits | u32::from(of(o)) << i);
        let len = u8::try_from(orders.len()).ok().filter(|n| *n <= 32)?;
        Some(Self { len, descending: bits(|o| o.descending), nulls_first: bits(|o| o.nulls_first) })
    }

    /// How many keys there are.
    pub fn len(self) -> usize {
        self.len.into()
    }

    /// Whether there is none.
    pub fn is_empty(self) -> bool {
        self.len == 0
    }

    /// The order of each key.
    pub fn iter(self) -> impl Iterator<Item = KeyOrder> {
        let bit = |bits: u32, i: u8| bits.checked_shr(i.into()).is_some_and(|b| b & 1 == 1);
        (0..self.len).map(move |i| KeyOrder { descending: bit(self.descending, i), nulls_first: bit(self.nulls_first, i) })
    }

    /// Last first.
    pub fn reversed(self) -> Self {
        let all = (1u64 << self.len.min(32)) as u32;
        let flipped = |bits: u32| bits ^ all.wrapping_sub(1);
        Self { len: self.len, descending: flipped(self.descending), nulls_first: flipped(self.nulls_first) }
    }
}

/// What is read off the mean, the variance and the covariance. Of two arguments the first is y, the second x.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Moment {
    /// Variance over n - 1.
    VarSamp,
    /// Variance over n.
    VarPop,
    /// Root of [`Moment::VarSamp`].
    StddevSamp,
    /// Root of [`Moment::VarPop`].
    StddevPop,
    /// Covariance over n - 1.
    CovarSamp,
    /// Covariance over n.
    CovarPop,
    /// Pearson's correlation. Null where x or y is the same in all rows.
    Corr,
    /// Slope of the line of least squares. Null where x is the same in all rows.
    RegrSlope,
    /// Where that line meets x = 0.
    RegrIntercept,
    /// Square of the correlation. Null where it is.
    RegrR2,
    /// Mean of x.
    RegrAvgX,
    /// Mean of y.
    RegrAvgY,
    /// Sum of the squared deviations of x from its mean.
    RegrSxx,
    /// Sum of the squared deviations of y.
    RegrSyy,
    /// Sum of the products of both deviations.
    RegrSxy,
}

impl Moment {
    /// How many arguments it has.
    pub fn arguments(self) -> usize {
        use Moment::*;
        if matches!(self, VarSamp | VarPop | StddevSamp | StddevPop) { 1 } else { 2 }
    }
}

/// A fraction from 0 to 1, by its bits: plain data that can be compared and sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Fraction(u64);

impl Fraction {
    /// None outside 0 to 1.
    pub const fn new(of: f64) -> Option<Self> {
        if of >= 0.0 && of <= 1.0 { Some(Self(of.to_bits())) } else { None }
    }

    /// As a float.
    pub fn get(self) -> f64 {
        f64::from_bits(self.0)
    }
}

/// One aggregate of a group sink.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Aggregate {
    /// What to compute.
    pub op: AggregateOp,
    /// Its argument; none for `count(*)`.
    pub arg: Option<Reg>,
    /// Only rows where this boolean is true count (`FILTER (WHERE ...)`).
    pub filter: Option<Reg>,
    /// The physical type of the argument (`I64` for `count(*)`).
    pub ty: Type,
}
