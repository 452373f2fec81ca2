//! Accumulators that meet those of another part: as they are, as columns that may come from disk, or as results of a
//! device.

use super::moments::{Joint, Spread};
use super::places::{by_place, places};
use super::{Accumulators, Groups, State};
use crate::vector::{Values, Vector};
use crate::{Error, Result};

/// What a state holds of some groups, to be merged into another one.
#[derive(Clone, Debug)]
pub enum Raw {
    /// Columns with a row for each group.
    Rows(Vec<Vector>),
    /// Rows of values, and the group of each: its place among those asked for, ascending.
    Lists {
        /// The place of each row's group.
        groups: Vec<u32>,
        /// The values; of lists in an order the keys behind them.
        columns: Vec<Vector>,
    },
}

impl State {
    /// Adds the accumulators of `other`: its group `from[i]` is group `to[i]` of `groups` here.
    ///
    /// # Errors
    /// As [`State::update`].
    pub fn merge(&mut self, other: &State, from: &[u32], to: &[u32], groups: usize) -> Result<()> {
        if other.len() == 0 {
            // A worker that met no row: its groups, if it has any, have no values.
            return Ok(());
        }
        let map = || {
            let mut map = vec![u32::MAX; other.len()];
            from.iter().zip(to).for_each(|(f, t)| map[*f as usize] = *t);
            map
        };
        match (&mut self.values, &other.values) {
            (Accumulators::Lists(lists, n), Accumulators::Lists(more, _)) => {
                *n = groups;
                lists.merge(more, map());
                Ok(())
            }
            (Accumulators::Collected(values, n), Accumulators::Collected(more, _)) => {
                *n = groups;
                values.merge(more, &map())
            }
            (Accumulators::Distinct { .. }, Accumulators::Distinct { pairs, .. }) => {
                let (map, owner) = (map(), pair_owners(pairs)?);
                let mapped = |p: &u32| map[owner[*p as usize] as usize];
                let kept: Vec<u32> = (0..owner.len() as u32).filter(|p| mapped(p) != u32::MAX).collect();
                let ids: Vec<u32> = kept.iter().map(mapped).collect();
                self.update(&ids, groups, &[&pairs.key(1, &kept)?], None)
            }
            _ => self.merge_raw(&other.raw(from)?, to, groups),
        }
    }

    /// Adds what another state held: its group `i` is group `to[i]` of `groups`.
    ///
    /// # Errors
    /// As [`State::update`].
    pub fn merge_raw(&mut self, raw: &Raw, to: &[u32], groups: usize) -> Result<()> {
        let columns = match raw {
            Raw::Rows(columns) => columns,
            Raw::Lists { groups: of, columns } => {
                let ids: Vec<u32> = of.iter().map(|g| to[*g as usize]).collect();
                if let Accumulators::Collected(values, n) = &mut self.values {
                    *n = groups;
                    return values.merge_columns(&ids, columns);
                }
                return self.update(&ids, groups, &columns.iter().collect::<Vec<_>>(), None);
            }
        };
        match &mut self.values {
            Accumulators::Count(counts) => {
                counts.resize(groups, 0);
                if let [Vector { values: Values::I64(v), .. }] = &columns[..] {
                    to.iter().zip(v.iter()).for_each(|(t, v)| counts[*t as usize] += v);
                }
                Ok(())
            }
            Accumulators::Spread(all) => {
                all.resize(groups, Spread::default());
                let parts = floats::<3>(columns)?;
                to.iter().enumerate().for_each(|(i, t)| all[*t as usize].merge(&Spread::of(parts.map(|p| p[i]))));
                Ok(())
            }
            Accumulators::Joint(all) => {
                all.resize(groups, Joint::default());
                let parts = floats::<6>(columns)?;
                to.iter().enumerate().for_each(|(i, t)| all[*t as usize].merge(&Joint::of(parts.map(|p| p[i]))));
                Ok(())
            }
            Accumulators::Picks(picks) => {
                picks.grow(groups);
                picks.merge(to, columns)
            }
            _ => self.update(to, groups, &columns.iter().collect::<Vec<_>>(), None),
        }
    }

    /// What it holds of the groups `ids`.
    ///
    /// # Errors
    /// As [`Groups::key`].
    pub fn raw(&self, ids: &[u32]) -> Result<Raw> {
        let columns = |parts: Vec<Vec<f64>>| Raw::Rows(parts.into_iter().map(|p| Vector::new(Values::F64(p.into()))).collect());
        Ok(match &self.values {
            Accumulators::Spread(v) => columns(transposed(ids.iter().map(|g| v[*g as usize].parts()))),
            Accumulators::Joint(v) => columns(transposed(ids.iter().map(|g| v[*g as usize].parts()))),
            Accumulators::Lists(lists, n) => {
                let (bounds, values) = lists.values(&places(ids, *n), ids.len());
                Raw::Lists { groups: owners(&bounds), columns: vec![values] }
            }
            Accumulators::Collected(values, n) => {
                let (bounds, columns) = values.columns(&places(ids, *n), ids.len())?;
                Raw::Lists { groups: owners(&bounds), columns }
            }
            Accumulators::Distinct { pairs, counts } => {
                let owner = pair_owners(pairs)?;
                let all: Vec<u32> = (0..owner.len() as u32).collect();
                let (bounds, kept) = by_place(&[(&owner, &all, &places(ids, counts.len()))], ids.len());
                Raw::Lists { groups: owners(&bounds), columns: vec![pairs.key(1, &kept)?] }
            }
            Accumulators::Picks(picks) => Raw::Rows(picks.columns(ids)),
            _ => Raw::Rows(vec![self.results(ids)?]),
        })
    }

    /// Adds results computed elsewhere: `results[i]` is of rows that belong to group `ids[i]` of
    /// `groups`; none where no value counted. Integers only.
    ///
    /// # Errors
    /// As [`State::update`].
    pub fn absorb(&mut self, ids: &[u32], groups: usize, results: &[Option<i128>]) -> Result<()> {
        if let Accumulators::Count(counts) = &mut self.values {
            counts.resize(groups, 0);
            for (g, n) in ids.iter().zip(results) {
                counts[*g as usize] += i64::try_from(n.unwrap_or(0)).map_err(Error::bug)?;
            }
            return Ok(());
        }
        let narrow: Option<Vec<i64>> = results.iter().map(|v| i64::try_from(v.unwrap_or(0)).ok()).collect();
        let values = match narrow {
            Some(v) => Values::I64(v.into()),
            None => Values::I128(results.iter().map(|v| v.unwrap_or(0)).collect::<Vec<_>>().into()),
        };
        let valid: Vec<u8> = results.iter().map(|v| u8::from(v.is_some())).collect();
        let valid = valid.contains(&0).then(|| valid.into());
        self.update(ids, groups, &[&Vector::with_valid(values, valid)], None)
    }
}

/// The group of each (group, value) pair.
fn pair_owners(pairs: &Groups) -> Result<Vec<u32>> {
    let all: Vec<u32> = (0..pairs.len() as u32).collect();
    let owners = pairs.key(0, &all)?;
    let Values::I32(owners) = &owners.values else { return Err(Error::bug("pairs without a group")) };
    Ok(owners.iter().map(|g| *g as u32).collect())
}

/// The place of each value, of places that begin here.
fn owners(bounds: &[usize]) -> Vec<u32> {
    bounds.windows(2).enumerate().flat_map(|(g, w)| std::iter::repeat_n(g as u32, w[1] - w[0])).collect()
}

/// Rows of floats as columns.
fn transposed<const N: usize>(rows: impl Iterator<Item = [f64; N]>) -> Vec<Vec<f64>> {
    let mut columns = vec![vec![]; N];
    rows.for_each(|r| columns.iter_mut().zip(r).for_each(|(c, v)| c.push(v)));
    columns
}

fn floats<const N: usize>(columns: &[Vector]) -> Result<[&[f64]; N]> {
    let all: Option<Vec<&[f64]>> = columns.iter().map(|c| if let Values::F64(v) = &c.values { Some(&v[..]) } else { None }).collect();
    all.and_then(|all| all.try_into().ok()).ok_or_else(|| Error::bug(format!("{N} columns of floats expected")))
}
