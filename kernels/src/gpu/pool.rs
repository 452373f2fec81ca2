//! Device buffers, used again: drivers allocate slowly, and queries ask for the same sizes.

use crate::{Error, ErrorKind, Result};
use std::collections::HashMap;

/// What a buffer is for; decides how wgpu may use it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Role {
    /// Written by the host, read by shaders.
    Input,
    /// Read and written by shaders, copied out.
    Output,
    /// The uniform.
    Params,
    /// Copied into, read by the host.
    Readback,
    /// Holds a column between queries; copied into and out of.
    Kept,
}

impl Role {
    fn usage(self) -> wgpu::BufferUsages {
        use wgpu::BufferUsages as U;
        match self {
            Role::Input => U::STORAGE | U::COPY_DST | U::COPY_SRC,
            Role::Output => U::STORAGE | U::COPY_DST | U::COPY_SRC,
            Role::Params => U::UNIFORM | U::COPY_DST,
            Role::Readback => U::MAP_READ | U::COPY_DST,
            Role::Kept => U::COPY_DST | U::COPY_SRC,
        }
    }
}

/// A buffer on loan from the pool; goes back by [`Pool::give`] or, if its state is in doubt, [`Pool::discard`].
#[derive(Debug)]
pub(super) struct Lease {
    pub buffer: wgpu::Buffer,
    role: Role,
    bytes: u64,
}

impl Lease {
    /// Bytes that it takes of the device's memory.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

/// Buffers of one device.
pub(super) struct Pool {
    free: HashMap<(Role, u64), Vec<wgpu::Buffer>>,
    live_bytes: u64,
    pooled_bytes: u64,
    /// Live and pooled bytes together stay at or under this.
    pub limit_bytes: u64,
    buffer_bytes_max: u64,
}

/// Buffers that wait for their next use hold at most this much.
const POOLED_BYTES_MAX: u64 = 256 << 20;
/// Sizes are rounded up to this at least.
const GRAIN_BYTES: u64 = 4096;

impl Pool {
    pub fn new(buffer_bytes_max: u64) -> Self {
        Self { free: HashMap::new(), live_bytes: 0, pooled_bytes: 0, limit_bytes: u64::MAX, buffer_bytes_max }
    }

    pub fn live_bytes(&self) -> u64 {
        self.live_bytes
    }

    pub fn pooled_bytes(&self) -> u64 {
        self.pooled_bytes
    }

    /// A buffer of at least `bytes`; what is in it is arbitrary.
    pub fn take(&mut self, device: &wgpu::Device, role: Role, bytes: u64) -> Result<Lease> {
        let size = rounded(bytes).min(self.buffer_bytes_max);
        if size < bytes {
            return Err(Error::new(ErrorKind::Exhausted, format!("a device buffer of {bytes} bytes is too large")));
        }
        let used = self.free.get_mut(&(role, size)).and_then(Vec::pop);
        let buffer = if let Some(buffer) = used {
            self.pooled_bytes -= size;
            buffer
        } else {
            if self.live_bytes + self.pooled_bytes + size > self.limit_bytes {
                self.trim();
            }
            if self.live_bytes + size > self.limit_bytes {
                let limit = self.limit_bytes;
                return Err(Error::new(ErrorKind::Exhausted, format!("device memory limit of {limit} bytes reached")));
            }
            device.create_buffer(&wgpu::BufferDescriptor { label: None, size, usage: role.usage(), mapped_at_creation: false })
        };
        self.live_bytes += size;
        Ok(Lease { buffer, role, bytes: size })
    }

    /// Takes a buffer back for its next use.
    pub fn give(&mut self, lease: Lease) {
        self.live_bytes -= lease.bytes;
        if self.pooled_bytes + lease.bytes <= POOLED_BYTES_MAX {
            self.pooled_bytes += lease.bytes;
            self.free.entry((lease.role, lease.bytes)).or_default().push(lease.buffer);
        } else {
            lease.buffer.destroy();
        }
    }

    /// Takes a buffer back that must not be used again: it may still be mapped, or never have existed.
    pub fn discard(&mut self, lease: Lease) {
        self.live_bytes -= lease.bytes;
        lease.buffer.destroy();
    }

    /// Frees what waits.
    pub fn trim(&mut self) {
        for buffer in self.free.drain().flat_map(|(_, buffers)| buffers) {
            buffer.destroy();
        }
        self.pooled_bytes = 0;
    }
}

/// Up to the next quarter of a power of two, so that sizes repeat and waste stays below a quarter.
pub(super) fn rounded(bytes: u64) -> u64 {
    let bytes = bytes.max(GRAIN_BYTES);
    let step = (1u64 << (63 - bytes.leading_zeros())) / 4;
    bytes.next_multiple_of(step.max(GRAIN_BYTES))
}

#[cfg(test)]
mod tests {
    use super::rounded;

    #[test]
    fn sizes_round_to_a_few_classes() {
        assert_eq!(rounded(0), 4096);
        assert_eq!(rounded(4097), 8192);
        assert_eq!(rounded((1 << 20) + 1), (1 << 20) + (1 << 18));
        assert_eq!(rounded(128 << 20), 128 << 20);
        for bytes in [1u64, 5000, 70_000, 1 << 21, (1 << 27) - 4] {
            assert!(rounded(bytes) >= bytes && rounded(bytes).is_multiple_of(4));
        }
    }
}
