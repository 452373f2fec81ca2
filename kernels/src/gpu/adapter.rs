//! Which devices this machine has, and which of them is used.

use crate::{Error, ErrorKind, Result};
use millstream_shaders::layout;
use serde::{Deserialize, Serialize};

/// How much of a device's abilities may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CapabilityClass {
    /// Everything the adapter offers.
    All,
    /// What every adapter offers: wgpu's default limits (16 KiB workgroup memory, 256 invocations,
    /// 65,535 workgroups, 256 MiB buffers, 128 MiB bindings, 8 storage buffers) and no feature at all.
    Floor,
}

/// A device of this machine, for people and for profiles.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdapterInfo {
    /// Name, as the driver gives it.
    pub name: String,
    /// PCI vendor, by name where it is a known one.
    pub vendor: String,
    /// Vulkan, Metal or Dx12.
    pub backend: String,
    /// Driver name and version.
    pub driver: String,
    /// A CPU pretending to be a device: for tests, never chosen for speed.
    pub is_software: bool,
    /// Shares memory with the CPU.
    pub is_integrated: bool,
    /// 64-bit integers in shaders.
    pub int64: bool,
    /// 64-bit floats in shaders.
    pub f64: bool,
    /// Subgroup operations in shaders.
    pub subgroups: bool,
    /// Timestamps of the device's own clock.
    pub timestamps: bool,
    /// Memory of a workgroup, in bytes.
    pub workgroup_memory_bytes: u32,
    /// Invocations of a workgroup, at most.
    pub invocations_max: u32,
    /// Workgroups of a dispatch in one dimension, at most.
    pub workgroups_max: u32,
    /// Bytes of a buffer, at most.
    pub buffer_bytes_max: u64,
    /// Bytes of a buffer that a shader can see at once, at most.
    pub binding_bytes_max: u64,
    /// Storage buffers of a shader, at most.
    pub storage_buffers_max: u32,
}

/// All devices of this machine that can compute, best first. Creates and drops a wgpu instance.
///
/// # Errors
/// `Closed` when a driver panicked.
pub fn adapters() -> Result<Vec<AdapterInfo>> {
    // A thread of its own, so that a driver's panic ends there.
    std::thread::spawn(|| usable(&instance()).iter().map(|a| describe(a, &a.limits(), a.features())).collect())
        .join()
        .map_err(|_| Error::new(ErrorKind::Closed, "a graphics driver panicked while its devices were listed"))
}

/// The entry into wgpu: native compute backends only, nothing read from the environment.
pub(super) fn instance() -> wgpu::Instance {
    wgpu::Instance::new(wgpu::InstanceDescriptor {
        backends: wgpu::Backends::VULKAN | wgpu::Backends::METAL | wgpu::Backends::DX12,
        // Validation layers print; wgpu's own validation stays on.
        flags: wgpu::InstanceFlags::empty(),
        ..wgpu::InstanceDescriptor::new_without_display_handle()
    })
}

/// Adapters that can run our kernels, best first: discrete, integrated, virtual, software.
pub(super) fn usable(instance: &wgpu::Instance) -> Vec<wgpu::Adapter> {
    let mut found = pollster::block_on(instance.enumerate_adapters(wgpu::Backends::all()));
    found.retain(|adapter| {
        let limits = adapter.limits();
        adapter.get_downlevel_capabilities().flags.contains(wgpu::DownlevelFlags::COMPUTE_SHADERS)
            && limits.max_compute_invocations_per_workgroup >= layout::WORKGROUP_SIZE
            && limits.max_compute_workgroup_storage_size >= layout::LOCAL_WORDS_MAX * 4
            && limits.max_storage_buffers_per_shader_stage as usize >= layout::TABLES_MAX + 2
            && limits.max_uniform_buffer_binding_size >= size_of::<layout::Params>() as u64
    });
    // Stable: among equals the order of the backends decides.
    found.sort_by_key(|adapter| match adapter.get_info().device_type {
        wgpu::DeviceType::DiscreteGpu => 0,
        wgpu::DeviceType::IntegratedGpu => 1,
        wgpu::DeviceType::VirtualGpu => 2,
        wgpu::DeviceType::Other => 3,
        wgpu::DeviceType::Cpu => 4,
    });
    found
}

/// The limits and features to ask `adapter` for. Features nobody uses are not asked for.
pub(super) fn granted(adapter: &wgpu::Adapter, class: CapabilityClass) -> (wgpu::Limits, wgpu::Features) {
    let wanted = wgpu::Features::SHADER_INT64 | wgpu::Features::TIMESTAMP_QUERY;
    match class {
        CapabilityClass::All => (adapter.limits(), adapter.features() & wanted),
        CapabilityClass::Floor => (wgpu::Limits::defaults().or_worse_values_from(&adapter.limits()), wgpu::Features::empty()),
    }
}

/// What `adapter` is, under `limits` and `features` (its own, or those granted to a device).
pub(super) fn describe(adapter: &wgpu::Adapter, limits: &wgpu::Limits, features: wgpu::Features) -> AdapterInfo {
    let info = adapter.get_info();
    AdapterInfo {
        vendor: vendor(info.vendor),
        backend: format!("{:?}", info.backend),
        driver: format!("{} {}", info.driver, info.driver_info).trim().to_string(),
        is_software: info.device_type == wgpu::DeviceType::Cpu,
        is_integrated: info.device_type == wgpu::DeviceType::IntegratedGpu,
        name: info.name,
        int64: features.contains(wgpu::Features::SHADER_INT64),
        f64: features.contains(wgpu::Features::SHADER_F64),
        subgroups: features.contains(wgpu::Features::SUBGROUP),
        timestamps: features.contains(wgpu::Features::TIMESTAMP_QUERY),
        workgroup_memory_bytes: limits.max_compute_workgroup_storage_size,
        invocations_max: limits.max_compute_invocations_per_workgroup,
        workgroups_max: limits.max_compute_workgroups_per_dimension,
        buffer_bytes_max: limits.max_buffer_size,
        binding_bytes_max: limits.max_storage_buffer_binding_size,
        storage_buffers_max: limits.max_storage_buffers_per_shader_stage,
    }
}

fn vendor(id: u32) -> String {
    match id {
        0x1002 => "AMD".into(),
        0x106b => "Apple".into(),
        0x10de => "NVIDIA".into(),
        0x10005 => "Mesa".into(),
        0x13b5 => "Arm".into(),
        0x1414 => "Microsoft".into(),
        0x5143 => "Qualcomm".into(),
        0x8086 => "Intel".into(),
        other => format!("{other:#06x}"),
    }
}
