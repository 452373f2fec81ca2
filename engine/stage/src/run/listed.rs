//! What `array_agg` and `string_agg` make of the values of each group.

use crate::convert::to_array;
use crate::program::{AggregateCall, AggregateFunction};
use crate::{Error, ErrorKind, Result};
use arrow::array::{ListArray, StringViewBuilder};
use arrow::buffer::{NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::DataType;
use millstream_kernels::{Strings, Values, Vector, gather};
use std::sync::Arc;

/// The result of each group, whose values are those of `values` between two of `bounds`; null of none.
///
/// # Errors
/// `Exhausted` for more values, or more of a text, than Arrow's arrays hold; `Bug` for another function.
pub(super) fn listed(call: &AggregateCall, (bounds, values): (Vec<usize>, Vector)) -> Result<Vector> {
    match &call.function {
        AggregateFunction::ArrayAgg(_) => array(&call.returns, &bounds, &values),
        AggregateFunction::StringAgg(_, between) => text(between, &bounds, &values),
        f => Err(Error::bug(format!("{} of lists", f.name()))),
    }
}

fn array(returns: &DataType, bounds: &[usize], values: &Vector) -> Result<Vector> {
    let DataType::List(field) = returns else { return Err(Error::bug(format!("lists of type {returns}"))) };
    let count = bounds.last().copied().unwrap_or(0);
    let too_many =
        |_| Error::new(ErrorKind::Exhausted, format!("array_agg: {count} values in one column of lists, more than 2,147,483,647"));
    let ends = bounds.iter().map(|b| i32::try_from(*b).map_err(too_many)).collect::<Result<Vec<_>>>()?;
    let nulls: NullBuffer = bounds.windows(2).map(|w| w[0] < w[1]).collect();
    let nulls = (nulls.null_count() > 0).then_some(nulls);
    let values = to_array(values, field.data_type(), count)?;
    let lists = ListArray::try_new(Arc::clone(field), OffsetBuffer::new(ScalarBuffer::from(ends)), values, nulls)?;
    Ok(Vector::new(Values::Any(Arc::new(lists))))
}

fn text(between: &str, bounds: &[usize], values: &Vector) -> Result<Vector> {
    let Values::Str(strings) = &values.values else { return Err(Error::bug("string_agg of what is no text")) };
    let views = gather::as_views(strings);
    let (mut joined, mut texts, mut valid) = (String::new(), StringViewBuilder::new(), vec![]);
    for w in bounds.windows(2) {
        joined.clear();
        for i in w[0]..w[1] {
            if i > w[0] {
                joined.push_str(between);
            }
            joined.push_str(views.value(i));
        }
        if u32::try_from(joined.len()).is_err() {
            return Err(Error::new(ErrorKind::Exhausted, format!("string_agg: a text of {} bytes, more than 4 GiB", joined.len())));
        }
        texts.append_value(&joined);
        valid.push(u8::from(w[0] < w[1]));
    }
    let valid = valid.contains(&0).then(|| valid.into());
    Ok(Vector::with_valid(Values::Str(Strings::View(texts.finish())), valid))
}
