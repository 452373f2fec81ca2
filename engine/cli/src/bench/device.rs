//! What a GPU did of each stage: bytes, times, and how near the memory's bandwidth its kernels came.

use millstream::{GpuReport, MachineProfile, Profile};
use std::fmt;

/// The stages that a GPU took rows of.
#[derive(Default)]
pub struct DeviceStages {
    /// Bytes a second that the device reads of its memory, as measured; none without a profile of it.
    read_bytes_per_s: Option<f64>,
    stages: Vec<(String, GpuReport)>,
}

impl DeviceStages {
    /// None yet; `profile` tells what the device could do.
    pub fn new(profile: Option<&MachineProfile>) -> Self {
        let read_bytes_per_s = profile.and_then(|p| p.gpu.as_ref()).map(|g| g.read_bytes_per_s);
        Self { read_bytes_per_s, stages: vec![] }
    }

    /// Adds what ran of query `id`.
    pub fn add(&mut self, id: &str, profile: &Profile) {
        let on_device = profile.stages.iter().filter(|s| s.gpu.chunks > 0);
        self.stages.extend(on_device.map(|s| (format!("{id} {} {}", s.id, s.sink), s.gpu)));
    }
}

/// The share, in percent, of its kernels' time that a device needs to read the columns once; none where nobody knows.
pub fn roofline_percent(g: &GpuReport, read_bytes_per_s: Option<f64>) -> Option<f64> {
    // Its own clock leaves out the way there and back.
    let ms = if g.device_ms > 0.0 { g.device_ms } else { g.kernel_ms };
    let bytes = (g.upload_bytes + g.kept_bytes) as f64;
    Some(bytes / read_bytes_per_s? / (ms / 1e3) * 100.0).filter(|percent| percent.is_finite())
}

impl fmt::Display for DeviceStages {
    /// A line a stage.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.stages.is_empty() {
            return Ok(());
        }
        let head = ["MB there", "brought", "upload ms", "kernel ms", "own clock", "back ms", "roofline"];
        let [there, brought, upload, kernel, own, back, roofline] = head;
        writeln!(
            f,
            "{:<18} {:>10} {there:>9} {brought:>9} {upload:>9} {kernel:>9} {own:>9} {back:>9} {roofline:>9}",
            "stage on the GPU", "rows"
        )?;
        for (name, g) in &self.stages {
            let (there, brought) = (g.kept_bytes as f64 / 1e6, g.upload_bytes as f64 / 1e6);
            let percent = roofline_percent(g, self.read_bytes_per_s).map_or_else(|| "unknown".into(), |p| format!("{p:.0} %"));
            writeln!(
                f,
                "{name:<18} {:>10} {there:>9.1} {brought:>9.1} {:>9.2} {:>9.2} {:>9.2} {:>9.2} {percent:>9}",
                g.rows, g.upload_ms, g.kernel_ms, g.device_ms, g.readback_ms
            )?;
        }
        writeln!(f, "roofline: the part of its kernels' time in which the device's memory could have read these bytes once")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_roofline_is_by_the_devices_own_clock_where_it_has_one() {
        let g = GpuReport { upload_bytes: 1_000_000, kept_bytes: 3_000_000, kernel_ms: 8.0, ..GpuReport::default() };
        assert_eq!(roofline_percent(&g, Some(1e9)), Some(50.0));
        assert_eq!(roofline_percent(&GpuReport { device_ms: 5.0, ..g }, Some(1e9)), Some(80.0));
        assert_eq!(roofline_percent(&g, None), None);
        assert_eq!(roofline_percent(&GpuReport { kernel_ms: 0.0, ..g }, Some(1e9)), None);
    }
}
