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

/// An operator.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OperatorMetrics {
    /// Its id.
    pub id: String,
    /// Rows that came.
    pub rows_in: u64,
    /// Rows that it brought.
    pub rows_out: u64,
    /// Rows that it put aside: windows the late ones.
    pub rows_aside: u64,
    /// Rows that came when some of their windows were closed: they count in the others.
    pub partly_late_rows: u64,
    /// Microseconds that it worked.
    pub busy_us: u64,
    /// Bytes of state in memory.
    pub state_bytes: u64,
    /// Bytes of state on disk, for which there was no memory.
    pub state_on_disk_bytes: u64,
    /// What it ran on last.
    pub device: &'static str,
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
    /// Bytes of state on disk, for which there was no memory.
    pub state_on_disk_bytes: u64,
    /// The most in memory, when a checkpoint was made.
    pub state_bytes_max: u64,
    /// Checkpoints committed.
    pub checkpoints: u64,
    /// Milliseconds from the last row of the last one until it was published.
    pub checkpoint_ms: u64,
    /// Microseconds that the last one kept the job from working.
    pub checkpoint_pause_us: u64,
    /// The longest.
    pub checkpoint_pause_us_max: u64,
    /// Bytes of state that the last one wrote.
    pub checkpoint_bytes: u64,
    /// Microseconds without rows, asleep.
    pub idle_us: u64,
    /// Microseconds that the job waited for rows that it had asked for.
    pub source_us: u64,
    /// Microseconds that rows lay fetched while the job was busy: that much faster the source could have been.
    pub backpressure_us: u64,
    /// Microseconds that the sink took to take rows.
    pub sink_us: u64,
    /// How often the job was opened again after a failure.
    pub restarts: u64,
    /// Why, the last time.
    pub last_failure: Option<String>,
    /// Every operator, in the order in which rows pass them.
    pub operators: Vec<OperatorMetrics>,
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
        line("checkpoint_pause_us", "gauge", "", self.checkpoint_pause_us.to_string());
        line("checkpoint_pause_us_max", "gauge", "", self.checkpoint_pause_us_max.to_string());
        line("state_bytes", "gauge", "", self.state_bytes.to_string());
        line("state_on_disk_bytes", "gauge", "", self.state_on_disk_bytes.to_string());
        line("idle_us_total", "counter", "", self.idle_us.to_string());
        line("source_us_total", "counter", "", self.source_us.to_string());
        line("backpressure_us_total", "counter", "", self.backpressure_us.to_string());
        line("sink_us_total", "counter", "", self.sink_us.to_string());
        line("restarts_total", "counter", "", self.restarts.to_string());
        if let Some(watermark) = self.watermark {
            line("watermark", "gauge", "", watermark.to_string());
        }
        for o in &self.operators {
            let labels = format!(",operator=\"{}\",device=\"{}\"", quoted(&o.id), o.device);
            line("operator_rows_in_total", "counter", &labels, o.rows_in.to_string());
            line("operator_rows_out_total", "counter", &labels, o.rows_out.to_string());
            line("operator_rows_aside_total", "counter", &labels, o.rows_aside.to_string());
            line("operator_busy_us_total", "counter", &labels, o.busy_us.to_string());
            line("operator_state_bytes", "gauge", &labels, o.state_bytes.to_string());
            line("operator_state_on_disk_bytes", "gauge", &labels, o.state_on_disk_bytes.to_string());
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
