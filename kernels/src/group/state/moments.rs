//! Means, variances and covariances, a value at a time (Welford 1962) and of parts (Chan, Golub, LeVeque 1979).
//!
//! A column of one value has a variance of exactly 0, in whatever parts it comes: nothing is ever divided by
//! what was multiplied before.

use crate::program::Moment;

/// Mean and spread of one column.
#[derive(Clone, Copy, Default)]
pub struct Spread {
    n: f64,
    mean: f64,
    /// Sum of the squared deviations from the mean.
    m2: f64,
}

impl Spread {
    pub(super) fn of([n, mean, m2]: [f64; 3]) -> Self {
        Self { n, mean, m2 }
    }

    pub(super) fn parts(&self) -> [f64; 3] {
        [self.n, self.mean, self.m2]
    }

    #[inline]
    pub(super) fn add(&mut self, v: f64) {
        self.n += 1.0;
        let before = v - self.mean;
        self.mean += before / self.n;
        self.m2 += before * (v - self.mean);
    }

    pub(super) fn merge(&mut self, other: &Self) {
        if self.n == 0.0 || other.n == 0.0 {
            if self.n == 0.0 {
                *self = *other;
            }
            return;
        }
        let n = self.n + other.n;
        let apart = other.mean - self.mean;
        self.m2 += other.m2 + apart * apart * self.n * other.n / n;
        self.mean += apart * (other.n / n);
        self.n = n;
    }

    /// None of too few values.
    pub(super) fn result(&self, moment: Moment) -> Option<f64> {
        let over = |n: f64| (n > 0.0).then(|| self.m2 / n);
        match moment {
            Moment::VarSamp => over(self.n - 1.0),
            Moment::StddevSamp => over(self.n - 1.0).map(f64::sqrt),
            Moment::VarPop => over(self.n),
            Moment::StddevPop => over(self.n).map(f64::sqrt),
            _ => None,
        }
    }
}

/// Means and spreads of two columns, and how they go together.
#[derive(Clone, Copy, Default)]
pub struct Joint {
    n: f64,
    mean: [f64; 2],
    m2: [f64; 2],
    /// Sum of the products of both deviations.
    product: f64,
}

impl Joint {
    pub(super) fn of([n, y, x, yy, xx, product]: [f64; 6]) -> Self {
        Self { n, mean: [y, x], m2: [yy, xx], product }
    }

    pub(super) fn parts(&self) -> [f64; 6] {
        let ([y, x], [yy, xx]) = (self.mean, self.m2);
        [self.n, y, x, yy, xx, self.product]
    }

    #[inline]
    pub(super) fn add(&mut self, y: f64, x: f64) {
        self.n += 1.0;
        let share = 1.0 / self.n;
        let before = [y - self.mean[0], x - self.mean[1]];
        self.mean[0] += before[0] * share;
        self.mean[1] += before[1] * share;
        let after = [y - self.mean[0], x - self.mean[1]];
        self.m2[0] += before[0] * after[0];
        self.m2[1] += before[1] * after[1];
        self.product += before[0] * after[1];
    }

    pub(super) fn merge(&mut self, other: &Self) {
        if self.n == 0.0 || other.n == 0.0 {
            if self.n == 0.0 {
                *self = *other;
            }
            return;
        }
        let n = self.n + other.n;
        let weight = self.n * other.n / n;
        let apart = [other.mean[0] - self.mean[0], other.mean[1] - self.mean[1]];
        for side in [0, 1] {
            self.m2[side] += other.m2[side] + apart[side] * apart[side] * weight;
            self.mean[side] += apart[side] * (other.n / n);
        }
        self.product += other.product + apart[0] * apart[1] * weight;
        self.n = n;
    }

    /// None of too few pairs, or where a constant column leaves no answer.
    pub(super) fn result(&self, moment: Moment) -> Option<f64> {
        let Self { n, mean: [mean_y, mean_x], m2: [yy, xx], product } = *self;
        let some = |v: f64| (n > 0.0).then_some(v);
        let slope = || (n > 1.0 && xx != 0.0).then(|| product / xx);
        match moment {
            Moment::CovarSamp => (n > 1.0).then(|| product / (n - 1.0)),
            Moment::CovarPop => some(product / n),
            // A column of NaN alone has no correlation with another, two such columns have NaN.
            Moment::Corr if mean_y.is_nan() && mean_x.is_nan() => Some(f64::NAN),
            Moment::Corr if mean_y.is_nan() || mean_x.is_nan() => None,
            Moment::Corr => (n > 1.0 && yy != 0.0 && xx != 0.0).then(|| product / yy.sqrt() / xx.sqrt()),
            Moment::RegrSlope => slope(),
            Moment::RegrIntercept => slope().map(|s| mean_y - s * mean_x),
            Moment::RegrR2 => (n > 1.0 && yy != 0.0 && xx != 0.0).then(|| product / yy * (product / xx)),
            Moment::RegrAvgX => some(mean_x),
            Moment::RegrAvgY => some(mean_y),
            Moment::RegrSxx => some(xx),
            Moment::RegrSyy => some(yy),
            Moment::RegrSxy => some(product),
            Moment::VarSamp | Moment::VarPop | Moment::StddevSamp | Moment::StddevPop => None,
        }
    }
}
