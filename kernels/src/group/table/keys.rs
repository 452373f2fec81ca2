//! Keys of groups as columns again.

use super::{Groups, KeyType, prefetch};
use crate::program::Type;
use crate::vector::{Buf, Strings, Values, Vector};
use crate::{Error, Result};

/// Groups that are asked for before they are read.
const AHEAD: usize = 16;

impl Groups {
    /// The key columns of the groups `ids`.
    ///
    /// # Errors
    /// `Exhausted` when the distinct strings exceed 2 GiB.
    pub fn keys(&self, ids: &[u32]) -> Result<Vec<Vector>> {
        let mut words = self.transposed(ids).into_iter();
        let values = (0..self.types.len()).map(|k| self.typed(k, || words.next().unwrap_or_default()));
        let values = values.collect::<Result<Vec<_>>>()?;
        let nulls = words.next();
        let columns = values.into_iter().enumerate();
        Ok(columns.map(|(k, v)| Vector::with_valid(v, nulls.as_ref().map(|n| valid(n, k)))).collect())
    }

    /// One of the columns of [`Groups::keys`].
    ///
    /// # Errors
    /// As [`Groups::keys`].
    pub(in crate::group) fn key(&self, k: usize, ids: &[u32]) -> Result<Vector> {
        let first: usize = self.types[..k].iter().map(|t| t.words()).sum();
        let word = |at: usize| ids.iter().map(|g| self.words[*g as usize * self.stride + at]).collect::<Vec<_>>();
        let mut words = (first..).map(word);
        let values = self.typed(k, || words.next().unwrap_or_default())?;
        Ok(Vector::with_valid(values, self.has_null_word.then(|| valid(&word(self.stride - 1), k))))
    }

    /// Key column `k`, of which `words` gives the words.
    fn typed(&self, k: usize, mut words: impl FnMut() -> Vec<u64>) -> Result<Values> {
        Ok(match self.types[k] {
            KeyType { wide: true, .. } => {
                let (low, high) = (words(), words());
                Values::I128(low.iter().zip(high).map(|(l, h)| i128::from(h as i64) << 64 | i128::from(*l)).collect::<Vec<_>>().into())
            }
            KeyType { ty: Type::Bool, .. } => Values::Bool(words().iter().map(|w| *w as u8).collect::<Vec<_>>().into()),
            KeyType { ty: Type::I32, .. } => Values::I32(words().iter().map(|w| *w as i32).collect::<Vec<_>>().into()),
            KeyType { ty: Type::I64 | Type::Decimal, .. } => Values::I64(words().into_iter().map(|w| w as i64).collect::<Vec<_>>().into()),
            KeyType { ty: Type::F64, .. } => Values::F64(words().into_iter().map(f64::from_bits).collect::<Vec<_>>().into()),
            KeyType { ty: Type::Str, .. } => Values::Str(Strings::Dict {
                codes: words().iter().map(|w| *w as i32).collect::<Vec<_>>().into(),
                dict: self.interners[k].dictionary().map_err(|e| Error::new(crate::ErrorKind::Exhausted, e))?,
            }),
            KeyType { ty: Type::Any, .. } => return Err(Error::bug("group key of a type without kernels")),
        })
    }

    /// The words of the groups `ids`, word by word: one pass, for each group lies somewhere else.
    pub(super) fn transposed(&self, ids: &[u32]) -> Vec<Vec<u64>> {
        let mut columns: Vec<Vec<u64>> = (0..self.stride).map(|_| vec![0; ids.len()]).collect();
        for (i, g) in ids.iter().enumerate() {
            if let Some(later) = ids.get(i + AHEAD) {
                self.words.get(*later as usize * self.stride).iter().for_each(|w| prefetch(*w));
            }
            let row = &self.words[*g as usize * self.stride..][..self.stride];
            columns.iter_mut().zip(row).for_each(|(c, w)| c[i] = *w);
        }
        columns
    }
}

/// 1 where bit `k` of a null word is not set.
fn valid(nulls: &[u64], k: usize) -> Buf<u8> {
    nulls.iter().map(|n| 1 - (n >> k & 1) as u8).collect::<Vec<_>>().into()
}
