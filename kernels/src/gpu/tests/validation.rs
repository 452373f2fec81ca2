//! Vulkan's validation layers, where `tests/validation` loads them.

use super::*;
use wgpu::hal::Device as _;

/// A buffer of no bytes, which wgpu would refuse: it is made behind its back.
#[test]
#[ignore = "tests/validation runs it, and looks into the log of the layers"]
fn a_violation_on_purpose() {
    let Some(device) = private_device() else { return };
    device
        .call(|worker| {
            // SAFETY: the device outlives the guard.
            let vulkan = unsafe { worker.device.as_hal::<wgpu::hal::api::Vulkan>() }.ok_or_else(|| Error::bug("no Vulkan"))?;
            let usage = wgpu::wgt::BufferUses::COPY_DST;
            let nothing = wgpu::hal::BufferDescriptor { label: None, size: 0, usage, memory_flags: wgpu::hal::MemoryFlags::empty() };
            // SAFETY: a violation of Vulkan's rules on purpose; a buffer without bytes is never written nor read.
            if let Ok(buffer) = unsafe { vulkan.create_buffer(&nothing) } {
                // SAFETY: nothing uses it.
                unsafe { vulkan.destroy_buffer(buffer) };
            }
            Ok(())
        })
        .unwrap();
}
