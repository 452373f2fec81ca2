//! The oracle of grouping: one row at a time, values compared by value.

use crate::program::AggregateOp;
use crate::value::Value;
use std::collections::BTreeMap;

/// One group: what came of each aggregate's argument, in order (null where filtered or null).
pub type Bag = Vec<Vec<Value>>;

/// Rows by key.
#[derive(Default)]
pub struct Reference {
    groups: BTreeMap<Vec<Value>, Bag>,
}

impl Reference {
    /// Adds a row: its key, and for each aggregate its argument (`None`: the filter dropped it).
    pub fn add(&mut self, key: Vec<Value>, args: Vec<Option<Value>>) {
        let bag = self.groups.entry(key).or_insert_with(|| vec![vec![]; args.len()]);
        for (values, arg) in bag.iter_mut().zip(args) {
            values.extend(arg);
        }
    }

    /// The groups, by key.
    pub fn groups(&self) -> &BTreeMap<Vec<Value>, Bag> {
        &self.groups
    }
}

/// The aggregate of what came.
pub fn aggregate(op: AggregateOp, has_arg: bool, values: &[Value]) -> Value {
    let some: Vec<&Value> = values.iter().filter(|v| !v.is_null()).collect();
    match op {
        AggregateOp::Count if has_arg => Value::Int(some.len() as i128),
        AggregateOp::Count => Value::Int(values.len() as i128),
        AggregateOp::CountDistinct => {
            let mut sorted = some;
            sorted.sort();
            sorted.dedup();
            Value::Int(sorted.len() as i128)
        }
        AggregateOp::Min => some.into_iter().min().cloned().unwrap_or(Value::Null),
        AggregateOp::Max => some.into_iter().max().cloned().unwrap_or(Value::Null),
        AggregateOp::Sum => some
            .into_iter()
            .cloned()
            .reduce(|a, b| match (a, b) {
                (Value::Int(a), Value::Int(b)) => Value::Int(a + b),
                (Value::F64(a), Value::F64(b)) => Value::F64(a + b),
                (a, _) => a,
            })
            .unwrap_or(Value::Null),
    }
}
