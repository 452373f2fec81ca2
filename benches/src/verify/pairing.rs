//! Pairs rows of an answer with rows of a result, each row once.
//!
//! Columns without floats are hashed as one key; among the rows of a key, floats are looked up within their tolerance.

use std::collections::HashMap;

use super::column::{Column, margin};

pub(super) struct Pairing<'a> {
    answer: &'a [Column],
    result: &'a [Column],
    /// Columns that are equal only exactly.
    exact: Vec<usize>,
    /// Columns in which either side has floats.
    near: Vec<usize>,
    /// Rows of the result by their exact columns; sorted by position in the first near column.
    groups: HashMap<Vec<u8>, Vec<(f64, usize)>>,
    taken: Vec<bool>,
}

impl<'a> Pairing<'a> {
    pub(super) fn new(answer: &'a [Column], result: &'a [Column], rows: usize) -> Self {
        let (near, exact): (Vec<usize>, Vec<usize>) =
            (0..answer.len()).partition(|column| answer[*column].is_float() || result[*column].is_float());
        let mut groups: HashMap<Vec<u8>, Vec<(f64, usize)>> = HashMap::with_capacity(rows);
        for row in 0..rows {
            let position = near.first().map_or(0.0, |column| result[*column].value(row).position());
            groups.entry(key(result, &exact, row)).or_default().push((position, row));
        }
        for group in groups.values_mut() {
            group.sort_by(|a, b| a.0.total_cmp(&b.0));
        }
        Self { answer, result, exact, near, groups, taken: vec![false; rows] }
    }

    /// Takes a row of the result that equals this row of the answer. False when none is left.
    pub(super) fn take(&mut self, of_answer: usize) -> bool {
        let Some(group) = self.groups.get(&key(self.answer, &self.exact, of_answer)) else { return false };
        let (position, margin) = self.near.first().map_or((0.0, 0.0), |column| {
            let position = self.answer[*column].value(of_answer).position();
            (position, margin(position, self.result[*column].slack()))
        });
        let from = group.partition_point(|(other, _)| *other < position - margin);
        let found = group[from..].iter().take_while(|(other, _)| *other <= position + margin).find(|(_, row)| {
            !self.taken[*row]
                && self.near.iter().all(|column| {
                    let result = &self.result[*column];
                    self.answer[*column].value(of_answer).matches(&result.value(*row), result.slack())
                })
        });
        let Some((_, row)) = found else { return false };
        self.taken[*row] = true;
        true
    }

    /// The rows of the result that were not taken, in order.
    pub(super) fn left(&self) -> Vec<usize> {
        (0..self.taken.len()).filter(|row| !self.taken[*row]).collect()
    }
}

fn key(columns: &[Column], exact: &[usize], row: usize) -> Vec<u8> {
    let mut key = Vec::with_capacity(exact.len() * 16);
    for column in exact {
        columns[*column].value(row).write_key(&mut key);
    }
    key
}
