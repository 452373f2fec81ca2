//! What this machine computes on.

use crate::{Error, ErrorKind, Result};
pub use millstream_kernels::gpu::AdapterInfo;

/// The devices of this machine.
///
/// ```
/// let devices = millstream::devices()?;
/// assert!(!devices.isa.is_empty());
/// # Ok::<(), millstream::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Devices {
    /// The instruction set that the CPU kernels use.
    pub isa: &'static str,
    /// Hardware threads.
    pub threads: usize,
    /// GPU adapters, best first; empty where there are none.
    pub adapters: Vec<AdapterInfo>,
}

/// Lists the devices of this machine.
///
/// # Errors
/// `Bug` when a graphics driver panicked.
pub fn devices() -> Result<Devices> {
    let adapters = millstream_kernels::gpu::adapters().map_err(|e| Error::new(ErrorKind::Bug, e))?;
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    Ok(Devices { isa: millstream_kernels::cpu::isa().name(), threads, adapters })
}
