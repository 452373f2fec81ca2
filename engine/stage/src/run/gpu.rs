//! A group stage on a wgpu device.

use crate::exec::StageExec;

/// Why the GPU cannot run a stage, if it cannot.
///
/// # Errors
/// The reason, for EXPLAIN.
pub fn covers(stage: &StageExec) -> Result<(), String> {
    Err(format!("no compute shader covers a {} sink", stage.sink().name()))
}
