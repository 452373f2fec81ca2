//! Profiles on disk, and the machine that a session prices its stages for.

use crate::{Error, ErrorKind, MachineProfile, Options, Result};
use millstream_cost::Gpu;
use millstream_kernels::gpu::AdapterInfo;
use millstream_plan::Machine;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The machine of these options; none without a profile.
pub(crate) fn machine_of(options: &Options) -> Option<Arc<Machine>> {
    let profile = Arc::clone(options.profile.as_ref()?);
    let threads = u32::try_from(options.threads).unwrap_or(u32::MAX);
    Some(Arc::new(if options.recorded { Machine::recorded(profile) } else { Machine::here(profile, threads, Box::new(is_best)) }))
}

/// Whether the device of a profile is the one that stages would run on: the best adapter, with the same driver. A driver
/// that panics has none.
fn is_best(gpu: &Gpu) -> bool {
    millstream_kernels::gpu::adapters().ok().and_then(|all| all.into_iter().next()).is_some_and(|best| is_same(gpu, &best))
}

fn is_same(gpu: &Gpu, adapter: &AdapterInfo) -> bool {
    gpu.name == adapter.name && gpu.backend == adapter.backend && gpu.driver == adapter.driver
}

/// Reads the profile of a machine.
///
/// ```
/// let error = millstream::load_profile("no such file".as_ref()).unwrap_err();
/// assert!(error.to_string().contains("no such file"));
/// ```
///
/// # Errors
/// `Invalid` when there is no such file, or it is no profile of this version.
pub fn load_profile(file: &Path) -> Result<MachineProfile> {
    let said = |e: &dyn std::fmt::Display| Error::new(ErrorKind::Invalid, format!("{}: {e}", file.display()));
    let text = std::fs::read_to_string(file).map_err(|e| said(&e))?;
    MachineProfile::parse(&text).map_err(|e| said(&e))
}

/// The profile in a folder that was measured last; none where there is none that this version understands. Which adapter it
/// is of is looked at when a stage is to run on it.
///
/// ```
/// assert!(millstream::newest_profile("no such folder".as_ref()).is_none());
/// ```
pub fn newest_profile(folder: &Path) -> Option<MachineProfile> {
    let files = std::fs::read_dir(folder).ok()?.flatten();
    let dated = files.filter(|f| f.path().extension().is_some_and(|e| e == "json"));
    let mut dated: Vec<_> = dated.filter_map(|f| Some((f.metadata().ok()?.modified().ok()?, f.path()))).collect();
    dated.sort();
    dated.into_iter().rev().find_map(|(_, path)| load_profile(&path).ok())
}

/// Writes a profile into a folder, which is made where it is missing, as a file of its own for each adapter, driver and
/// version. Says where.
///
/// ```
/// # let folder = tempfile::tempdir().unwrap();
/// # let text = include_str!("../../cost/profiles/h100.json");
/// let profile = millstream::MachineProfile::parse(text)?;
/// let file = millstream::store_profile(folder.path(), &profile)?;
/// assert_eq!(millstream::load_profile(&file)?, profile);
/// assert_eq!(millstream::newest_profile(folder.path()), Some(profile));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// `Invalid` for a profile that cannot be calculated with, and where the folder cannot be written to.
pub fn store_profile(folder: &Path, profile: &MachineProfile) -> Result<PathBuf> {
    let said = |e: &dyn std::fmt::Display| Error::new(ErrorKind::Invalid, format!("{}: {e}", folder.display()));
    profile.check().map_err(|e| said(&e))?;
    let of = profile.gpu.as_ref().map_or_else(|| format!("cpu {}", profile.cpu.isa), |g| format!("{} {} {}", g.name, g.backend, g.driver));
    let name = format!("{} v{} {}", of, profile.version, env!("CARGO_PKG_VERSION"));
    let file = folder.join(file_name(&name));
    std::fs::create_dir_all(folder).map_err(|e| said(&e))?;
    let text = profile.to_json().map_err(|e| said(&e))?;
    // Whole or not at all: another process may be reading.
    let part = file.with_extension("part");
    std::fs::write(&part, text + "\n").and_then(|()| std::fs::rename(&part, &file)).map_err(|e| said(&e))?;
    Ok(file)
}

/// Letters, digits and dots stay; anything else is one dash.
fn file_name(of: &str) -> String {
    let kept: String = of.chars().map(|c| if c.is_ascii_alphanumeric() || c == '.' { c.to_ascii_lowercase() } else { '-' }).collect();
    let words: Vec<&str> = kept.split('-').filter(|w| !w.is_empty()).collect();
    format!("{}.json", words.join("-"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_adapters_become_names_of_files() {
        assert_eq!(file_name("llvmpipe (LLVM 15.0.7, 256 bits) Vulkan  v1"), "llvmpipe-llvm-15.0.7-256-bits-vulkan-v1.json");
        assert_eq!(file_name("../../etc v1"), "..-..-etc-v1.json");
    }

    #[test]
    fn a_profile_of_another_version_is_not_found() {
        let folder = tempfile::tempdir().unwrap();
        let text = include_str!("../../cost/profiles/m4.json");
        std::fs::write(folder.path().join("a.json"), text.replace("\"version\": 1", "\"version\": 2")).unwrap();
        assert!(newest_profile(folder.path()).is_none());
        std::fs::write(folder.path().join("b.json"), text).unwrap();
        assert_eq!(newest_profile(folder.path()).map(|p| p.name), Some("Apple M4, 10 cores (synthetic)".into()));
    }

    #[test]
    fn another_driver_is_another_device() {
        let gpu = MachineProfile::parse(include_str!("../../cost/profiles/h100.json")).unwrap().gpu.unwrap();
        let adapter = |driver: &str| AdapterInfo {
            name: gpu.name.clone(),
            vendor: "NVIDIA".into(),
            backend: gpu.backend.clone(),
            driver: driver.into(),
            is_software: false,
            is_integrated: false,
            int64: true,
            f64: true,
            subgroups: true,
            timestamps: true,
            workgroup_memory_bytes: 0,
            invocations_max: 0,
            workgroups_max: 0,
            buffer_bytes_max: 0,
            binding_bytes_max: 0,
            storage_buffers_max: 0,
        };
        assert!(is_same(&gpu, &adapter(&gpu.driver)));
        assert!(!is_same(&gpu, &adapter("NVIDIA 999")));
    }
}
