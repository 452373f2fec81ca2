//! Which calls of `date_bin` and `date_trunc` are bins of one width.
//!
//! Months have no width; neither have hours, days and weeks of a time zone, where clocks are put forward and back.

use arrow::datatypes::{DataType, IntervalDayTimeType, IntervalMonthDayNanoType, TimeUnit};
use datafusion::common::ScalarValue;
use datafusion::functions::datetime::date_bin::DateBinFunc;
use datafusion::functions::datetime::date_trunc::DateTruncFunc;
use datafusion::physical_expr::expressions::Literal;
use datafusion::physical_expr::{PhysicalExpr, ScalarFunctionExpr};
use std::sync::Arc;

/// Bins of the values of an expression, in the unit of its timestamps.
pub(super) struct Bins<'a> {
    pub(super) of: &'a Arc<dyn PhysicalExpr>,
    pub(super) width: i64,
    pub(super) origin: i64,
    /// What a value is multiplied by to be one of a type that must hold it: nanoseconds, or 1.
    pub(super) unit: i64,
}

const SECOND: i64 = 1_000_000_000;
const DAY: i64 = 86_400 * SECOND;
/// The Monday before 1970, a Thursday.
const MONDAY: i64 = -3 * DAY;

impl<'a> Bins<'a> {
    /// The bins of a call, if it is one of these functions, of type `ty`, and its bins have one width.
    pub(super) fn of(call: &'a ScalarFunctionExpr, ty: &DataType) -> Option<Self> {
        let DataType::Timestamp(unit, zone) = ty else { return None };
        let nanos = match unit {
            TimeUnit::Second => SECOND,
            TimeUnit::Millisecond => 1_000_000,
            TimeUnit::Microsecond => 1_000,
            TimeUnit::Nanosecond => 1,
        };
        let function = call.fun().inner();
        if function.is::<DateBinFunc>() {
            return date_bin(call.args(), nanos);
        }
        if function.is::<DateTruncFunc>() { date_trunc(call.args(), nanos, zone.is_some()) } else { None }
    }
}

fn literal(e: &Arc<dyn PhysicalExpr>) -> Option<&ScalarValue> {
    e.downcast_ref::<Literal>().map(Literal::value)
}

/// `date_bin(interval, timestamp[, origin])`: in nanoseconds what that is in the unit, if both divide.
fn date_bin(args: &[Arc<dyn PhysicalExpr>], nanos: i64) -> Option<Bins<'_>> {
    let (width, of, origin) = match args {
        [width, of] => (width, of, 0),
        [width, of, origin] => match literal(origin)? {
            ScalarValue::TimestampNanosecond(Some(origin), _) => (width, of, *origin),
            _ => return None,
        },
        _ => return None,
    };
    let (days, rest) = match literal(width)? {
        ScalarValue::IntervalDayTime(Some(v)) => {
            let (days, millis) = IntervalDayTimeType::to_parts(*v);
            (days, i64::from(millis).checked_mul(1_000_000)?)
        }
        ScalarValue::IntervalMonthDayNano(Some(v)) => match IntervalMonthDayNanoType::to_parts(*v) {
            (0, days, nanos) => (days, nanos),
            _ => return None,
        },
        _ => return None,
    };
    let width = i64::from(days).checked_mul(DAY)?.checked_add(rest)?;
    let divides = width > 0 && width % nanos == 0 && origin % nanos == 0;
    divides.then_some(Bins { of, width: width / nanos, origin: origin / nanos, unit: nanos })
}

/// `date_trunc(precision, timestamp)`.
fn date_trunc(args: &[Arc<dyn PhysicalExpr>], nanos: i64, zoned: bool) -> Option<Bins<'_>> {
    let [precision, of] = args else { return None };
    let precision = literal(precision)?.try_as_str().flatten()?.to_lowercase();
    let (width, origin) = match precision.as_str() {
        "microsecond" => (1_000, 0),
        "millisecond" => (1_000_000, 0),
        "second" => (SECOND, 0),
        "minute" => (60 * SECOND, 0),
        "hour" if !zoned => (3_600 * SECOND, 0),
        "day" if !zoned => (DAY, 0),
        "week" if !zoned => (7 * DAY, MONDAY),
        _ => return None,
    };
    // What is coarser already stays as it is.
    let width = (width / nanos).max(1);
    Some(Bins { of, width, origin: origin / nanos, unit: 1 })
}
