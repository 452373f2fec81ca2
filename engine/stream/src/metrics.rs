//! What a driver says of itself.

use std::fmt::Write as _;

/// A split, and whether it holds the watermark back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SplitMetrics {
    /// Its source.
    pub source: String,
    /// Its id.
    pub split: String,
    /// Rows read by this driver.
    pub rows: u64,
    /// The offset behind the last row.
    pub offset: u64,
    /// Its watermark; none before its first row.
    pub watermark: Option<i64>,
    /// No rows for longer than the idleness timeout.
    pub idle: bool,
    /// Read to its end.
    pub ended: bool,
}

/// Counters since the driver was opened, and gauges.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metrics {
    /// Epochs run.
    pub epochs: u64,
    /// Rows read.
    pub rows_in: u64,
    /// Rows that went to the sink.
    pub rows_out: u64,
    /// Rows whose windows were all closed when they came.
    pub late_rows: u64,
    /// Rows that came when some of their windows were closed: they count in the others.
    pub partly_late_rows: u64,
    /// Event times before it are complete; none before there are rows.
    pub watermark: Option<i64>,
    /// Who holds the watermark back: `source/split`.
    pub held_back_by: Option<String>,
    /// Bytes of state in memory.
    pub state_bytes: u64,
    /// Checkpoints committed.
    pub checkpoints: u64,
    /// Milliseconds that the last one took.
    pub checkpoint_ms: u64,
    /// Bytes of state that the last one wrote.
    pub checkpoint_bytes: u64,
    /// Every split that is known and read.
    pub splits: Vec<SplitMetrics>,
}

impl Metrics {
    /// As Prometheus reads it. `job` labels every line.
    pub fn prometheus(&self, job: &str) -> String {
        let job = quoted(job);
        let mut out = String::new();
        let mut line = |name: &str, kind: &str, labels: &str, value: String| {
            let known = format!("# TYPE millstream_{name} {kind}\n");
            if !out.contains(&known) {
                out.push_str(&known);
            }
            // Writing to a string cannot fail.
            let _ = writeln!(out, "millstream_{name}{{job=\"{job}\"{labels}}} {value}");
        };
        line("epochs_total", "counter", "", self.epochs.to_string());
        line("rows_in_total", "counter", "", self.rows_in.to_string());
        line("rows_out_total", "counter", "", self.rows_out.to_string());
        line("late_rows_total", "counter", "", self.late_rows.to_string());
        line("partly_late_rows_total", "counter", "", self.partly_late_rows.to_string());
        line("checkpoints_total", "counter", "", self.checkpoints.to_string());
        line("checkpoint_duration_ms", "gauge", "", self.checkpoint_ms.to_string());
        line("checkpoint_bytes", "gauge", "", self.checkpoint_bytes.to_string());
        line("state_bytes", "gauge", "", self.state_bytes.to_string());
        if let Some(watermark) = self.watermark {
            line("watermark", "gauge", "", watermark.to_string());
        }
        for s in &self.splits {
            let labels = format!(",source=\"{}\",split=\"{}\"", quoted(&s.source), quoted(&s.split));
            line("split_rows_total", "counter", &labels, s.rows.to_string());
            line("split_offset", "gauge", &labels, s.offset.to_string());
            line("split_idle", "gauge", &labels, u8::from(s.idle).to_string());
            if let Some(watermark) = s.watermark {
                line("split_watermark", "gauge", &labels, watermark.to_string());
            }
        }
        out
    }
}

fn quoted(label: &str) -> String {
    label.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
