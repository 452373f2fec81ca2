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
}

/// The row of a group whose value is picked: the first or last that came, or by a second argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Pick {
    /// The order of the second argument, if there is one. Of rows that are equal in it any may be picked.
    pub by: Option<KeyOrder>,
    /// The last row, else the first.
    pub last: bool,
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
