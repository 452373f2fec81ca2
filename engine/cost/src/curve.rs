//! What a row costs by the size of the table that it is looked up in.

use serde::{Deserialize, Serialize};

/// Points (bytes of the table, nanoseconds a row), least bytes first. Between two points the cost is linear in the logarithm
/// of the bytes; beyond the ends it stays. A kernel without a table has one point.
///
/// ```
/// let curve = millstream_cost::Curve(vec![(1024.0, 1.0), (4096.0, 3.0)]);
/// assert_eq!([curve.at(0.0), curve.at(1e12)], [1.0, 3.0]);
/// assert!((curve.at(2048.0) - 2.0).abs() < 1e-9);
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Curve(pub Vec<(f64, f64)>);

impl Curve {
    /// The same for every size.
    pub fn flat(ns: f64) -> Self {
        Self(vec![(0.0, ns)])
    }

    /// Nanoseconds a row with a table of so many bytes; 0 of a curve without points.
    pub fn at(&self, bytes: f64) -> f64 {
        let above = self.0.iter().position(|p| p.0 >= bytes);
        match above {
            Some(0) => self.0[0].1,
            None => self.0.last().map_or(0.0, |p| p.1),
            Some(i) => {
                let ((x0, y0), (x1, y1)) = (self.0[i - 1], self.0[i]);
                let (from, to) = (x0.max(1.0).ln(), x1.max(1.0).ln());
                if to <= from { y1 } else { y0 + (y1 - y0) * ((bytes.max(1.0).ln() - from) / (to - from)).clamp(0.0, 1.0) }
            }
        }
    }

    /// Whether there are points, in order, all finite and none negative.
    pub(crate) fn is_sound(&self) -> bool {
        let finite = self.0.iter().all(|(bytes, ns)| bytes.is_finite() && *bytes >= 0.0 && ns.is_finite() && *ns >= 0.0);
        !self.0.is_empty() && finite && self.0.windows(2).all(|w| w[0].0 < w[1].0)
    }
}
