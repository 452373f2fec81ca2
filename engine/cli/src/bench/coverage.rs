//! How much of a suite ran on the GPU, and what did not, why.

use millstream::{Profile, StageReport};
use std::fmt;

/// Stages that filter, join or group, and their rows: how many there are, and how many of them the device took.
#[derive(Default)]
pub struct Coverage {
    stages: usize,
    stages_on_device: usize,
    /// Stages for a device that met no row: they are on it where anything is.
    empty: usize,
    rows: usize,
    rows_on_device: usize,
    /// Stages that only compute, sort, collect or fill a join table.
    others: usize,
    refused: Vec<Refused>,
}

/// Stages that did not run on the device for the same reason.
struct Refused {
    why: String,
    stages: usize,
    rows: usize,
    queries: Vec<&'static str>,
}

impl Coverage {
    /// Adds what ran of query `id`.
    pub fn add(&mut self, id: &'static str, profile: &Profile) {
        for s in &profile.stages {
            if s.is_work { self.stage(id, s) } else { self.others += 1 }
        }
    }

    fn stage(&mut self, id: &'static str, s: &StageReport) {
        self.stages += 1;
        self.rows += s.input_rows;
        self.rows_on_device += s.gpu.rows;
        if s.device == "gpu" && s.input_rows == 0 && s.fallbacks == 0 {
            self.empty += 1;
            return;
        }
        let is_on_device = s.device == "gpu" && s.gpu.rows > 0;
        self.stages_on_device += usize::from(is_on_device);
        let missing = s.input_rows - s.gpu.rows.min(s.input_rows);
        if is_on_device && missing == 0 {
            return;
        }
        let why = match s.device.as_str() {
            // It had another part of the stage to do, a sort for instance.
            "gpu" if s.gpu.rows == 0 && s.fallbacks == 0 => s.reason.clone(),
            "gpu" => format!("{}: {}", s.sink, refusal(s)),
            _ => s.reason.clone(),
        };
        let known = self.refused.iter().position(|r| r.why == why).unwrap_or_else(|| {
            self.refused.push(Refused { why, stages: 0, rows: 0, queries: vec![] });
            self.refused.len() - 1
        });
        let refused = &mut self.refused[known];
        refused.stages += 1;
        refused.rows += missing;
        if refused.queries.last() != Some(&id) {
            refused.queries.push(id);
        }
    }
}

/// Why rows of a stage on the device were not taken there.
fn refusal(s: &StageReport) -> String {
    let text = |why: &str| match why {
        "values" => "values or strings that the device does not take".to_string(),
        "device memory" => "the device's memory is used up".into(),
        "host memory" => "no memory to keep rows for the device".into(),
        "device" => "no device, or one that was lost".into(),
        "spilled" => "a join table is partly on disk".into(),
        other => other.into(),
    };
    s.fallback_reasons.iter().map(|(why, _)| text(why)).collect::<Vec<_>>().join("; ")
}

fn percent(part: usize, of: usize) -> f64 {
    if of == 0 { 100.0 } else { part as f64 * 100.0 / of as f64 }
}

impl fmt::Display for Coverage {
    /// One line with the numbers, one a reason.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let on_device = self.stages_on_device + if self.rows_on_device > 0 { self.empty } else { 0 };
        let (stages, rows) = (percent(on_device, self.stages), percent(self.rows_on_device, self.rows));
        writeln!(
            f,
            "on the GPU: {} of {} filter, aggregate and join stages ({stages:.1} %), {} of {} of their rows ({rows:.1} %)",
            on_device, self.stages, self.rows_on_device, self.rows
        )?;
        writeln!(f, "{} other stages only compute, sort, collect or fill a join table", self.others)?;
        for r in &self.refused {
            writeln!(f, "on the CPU: {} stages, {} rows ({}): {}", r.stages, r.rows, r.queries.join(" "), r.why)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use millstream::GpuReport;

    fn stage(device: &str, is_work: bool, input_rows: usize, rows: usize) -> StageReport {
        let gpu = GpuReport { rows, ..GpuReport::default() };
        StageReport {
            sink: "group".into(),
            device: device.into(),
            reason: "why".into(),
            is_work,
            input_rows,
            fallbacks: usize::from(device == "gpu" && rows < input_rows),
            fallback_reasons: if device == "gpu" && rows < input_rows { vec![("device memory".into(), 1)] } else { vec![] },
            gpu,
            ..StageReport::default()
        }
    }

    #[test]
    fn stages_and_rows_are_counted_apart() {
        let mut coverage = Coverage::default();
        let stages = vec![stage("gpu", true, 100, 60), stage("cpu", true, 40, 0), stage("gpu", true, 0, 0), stage("cpu", false, 7, 0)];
        coverage.add("q1", &Profile { stages, stock: vec![] });
        coverage.add("q2", &Profile { stages: vec![stage("cpu", true, 2, 0), stage("gpu", true, 5, 0)], stock: vec![] });
        // The device sorts what the host has filtered.
        let sorted = StageReport { fallbacks: 0, fallback_reasons: vec![], reason: "sorted there".into(), ..stage("gpu", true, 9, 0) };
        coverage.add("q3", &Profile { stages: vec![sorted], stock: vec![] });
        let text = coverage.to_string();
        assert!(text.contains("2 of 6 filter, aggregate and join stages (33.3 %), 60 of 156 of their rows (38.5 %)"), "{text}");
        assert!(text.contains("1 other stages"), "{text}");
        assert!(text.contains("2 stages, 42 rows (q1 q2): why"), "{text}");
        assert!(text.contains("1 stages, 9 rows (q3): sorted there"), "{text}");
        assert!(text.contains("2 stages, 45 rows (q1 q2): group: the device's memory is used up"), "{text}");
    }

    #[test]
    fn where_nothing_is_on_a_device_neither_is_a_stage_without_rows() {
        let mut coverage = Coverage::default();
        let none = StageReport { fallback_reasons: vec![("device".into(), 1)], ..stage("gpu", true, 5, 0) };
        coverage.add("q1", &Profile { stages: vec![stage("gpu", true, 0, 0), none], stock: vec![] });
        let text = coverage.to_string();
        assert!(text.contains("0 of 2 filter, aggregate and join stages (0.0 %), 0 of 5"), "{text}");
        assert!(text.contains("1 stages, 5 rows (q1): group: no device, or one that was lost"), "{text}");
    }
}
