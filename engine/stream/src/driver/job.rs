//! What a driver runs, and whether it holds together.

use crate::operator::Operator;
use crate::sink::{Committer, Delivery, Sink};
use crate::source::Source;
use crate::watermark::EventTime;
use crate::{Error, ErrorKind, Result};
use arrow::datatypes::SchemaRef;
use std::sync::Arc;

/// A source and how event time is told from its rows.
pub struct Input {
    /// Where rows come from.
    pub source: Arc<dyn Source>,
    /// Its event time; none where nothing downstream asks for one.
    pub time: Option<EventTime>,
}

/// What a driver runs: rows of all inputs through the operators, one after the other, to the sink.
pub struct Job {
    /// All of one schema.
    pub inputs: Vec<Input>,
    /// In the order in which rows pass them.
    pub operators: Vec<Box<dyn Operator>>,
    /// Where the rows go.
    pub sink: Box<dyn Sink>,
    /// Where rows go that operators put aside; those of others are counted only.
    pub sides: Vec<Side>,
}

/// A side output.
pub struct Side {
    /// The id of the operator: windows put late rows aside.
    pub operator: String,
    /// Where the rows go.
    pub sink: Box<dyn Sink>,
}

impl Job {
    /// What its state depends on.
    ///
    /// # Errors
    /// `Invalid` for a job that does not hold together, with the reason.
    pub(super) fn fingerprint(&self) -> Result<String> {
        let mut schemas = self.inputs.iter().map(|i| i.source.schema());
        let first = schemas.next().ok_or_else(|| Error::new(ErrorKind::Invalid, "a job needs an input"))?;
        if let Some(other) = schemas.find(|s| s.fields() != first.fields()) {
            return Err(Error::new(ErrorKind::Invalid, format!("the inputs of a job have one schema: {first} is not {other}")));
        }
        self.check_delivery()?;
        let mut text = format!("rows {first}");
        for input in &self.inputs {
            let time = input.time.as_ref().map_or("no event time".into(), EventTime::fingerprint);
            text = format!("{text} | {} by {time}", input.source.name());
        }
        for (i, operator) in self.operators.iter().enumerate() {
            if self.operators[..i].iter().any(|o| o.id() == operator.id()) {
                return Err(Error::new(ErrorKind::Invalid, format!("two operators have the id `{}`", operator.id())));
            }
            text = format!("{text} | {} {}", operator.id(), operator.fingerprint());
        }
        for side in &self.sides {
            if !self.operators.iter().any(|o| o.id() == side.operator) {
                let text = format!("`{}` is for rows that `{}` puts aside: there is no such operator", side.sink.name(), side.operator);
                return Err(Error::new(ErrorKind::Invalid, text));
            }
        }
        Ok(text)
    }

    /// Rows that readers see at once have to come again as they were.
    fn check_delivery(&self) -> Result<()> {
        let invalid = |name: &str, why: String| Error::new(ErrorKind::Invalid, format!("`{name}` cannot be delivered per epoch: {why}"));
        if let Some(side) = self.sides.iter().find(|s| s.sink.delivery() != Delivery::Committed) {
            return Err(invalid(side.sink.name(), "it takes rows that were put aside, others perhaps when epochs are run again".into()));
        }
        let Delivery::Epoch(key) = self.sink.delivery() else { return Ok(()) };
        let Some(unique) = self.operators.iter().fold(None, |key, o| o.key(key)) else {
            let text = "its rows have no key whose last value a replay brings again, as those of closed windows do";
            return Err(invalid(self.sink.name(), text.into()));
        };
        match unique.iter().find(|c| !key.contains(c)) {
            Some(missing) => Err(invalid(
                self.sink.name(),
                format!("`{missing}` is of the key of the rows and not of that of the sink ({})", key.join(", ")),
            )),
            None => Ok(()),
        }
    }

    /// The columns of the rows that go to the sink.
    pub(super) fn schema(&self) -> SchemaRef {
        self.operators.last().map_or_else(|| self.input_schema(), |o| o.schema())
    }

    fn input_schema(&self) -> SchemaRef {
        self.inputs.first().map_or_else(|| Arc::new(arrow::datatypes::Schema::empty()), |i| i.source.schema())
    }

    /// The columns of the rows of each sink.
    pub(super) fn schemas(&self) -> Vec<SchemaRef> {
        let aside = |s: &Side| self.operators.iter().find(|o| o.id() == s.operator).map_or_else(|| self.schema(), |o| o.side_schema());
        std::iter::once(self.schema()).chain(self.sides.iter().map(aside)).collect()
    }

    pub(super) fn sinks(&mut self) -> impl Iterator<Item = &mut Box<dyn Sink>> {
        std::iter::once(&mut self.sink).chain(self.sides.iter_mut().map(|s| &mut s.sink))
    }

    /// Those of the sinks, in their order.
    pub(super) fn committers(&self) -> Vec<Arc<dyn Committer>> {
        std::iter::once(&self.sink).chain(self.sides.iter().map(|s| &s.sink)).map(|s| s.committer()).collect()
    }
}
