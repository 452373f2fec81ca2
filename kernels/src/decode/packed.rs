//! Bit-packed values 16 at a time, where the machine moves bytes across a register (AVX-512 VBMI): the four bytes that
//! hold a value go to its lane, and are shifted and masked there. `cargo bench --bench kernels -- decode` shows what it
//! gains over the portable loop.

use std::mem::MaybeUninit;

/// Wider values may lie in five bytes.
const WIDTH_MOST: u32 = 25;

/// Writes groups of 8 values to the front of `out` and says how many groups those are; none where the machine cannot.
/// The last groups of `packed` are left: a whole register is read at a time.
#[cfg(target_arch = "x86_64")]
pub(super) fn by_words(packed: &[u8], width: u32, out: &mut [MaybeUninit<i32>]) -> Option<usize> {
    let here = (1..=WIDTH_MOST).contains(&width) && packed.len() >= 64 && is_x86_feature_detected!("avx512vbmi");
    if !here || crate::cpu::isa() != crate::cpu::Isa::Avx512 {
        return None;
    }
    // SAFETY: the machine has AVX-512 F, BW and VBMI.
    Some(unsafe { x86::unpack(packed, width as usize, out) })
}

#[cfg(not(target_arch = "x86_64"))]
pub(super) fn by_words(_: &[u8], _: u32, _: &mut [MaybeUninit<i32>]) -> Option<usize> {
    None
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{MaybeUninit, WIDTH_MOST};
    use std::arch::x86_64::*;

    /// Of a width: the bytes of each lane's value, and how far it is shifted in them.
    struct Lanes {
        bytes: [u8; 64],
        shifts: [u32; 16],
    }

    static LANES: [Lanes; WIDTH_MOST as usize + 1] = {
        let mut all = [const { Lanes { bytes: [0; 64], shifts: [0; 16] } }; WIDTH_MOST as usize + 1];
        let mut width = 0;
        while width <= WIDTH_MOST as usize {
            let mut lane = 0;
            while lane < 16 {
                let bit = lane * width;
                let mut byte = 0;
                while byte < 4 {
                    all[width].bytes[lane * 4 + byte] = (bit / 8 + byte) as u8;
                    byte += 1;
                }
                all[width].shifts[lane] = (bit % 8) as u32;
                lane += 1;
            }
            width += 1;
        }
        all
    };

    /// As [`super::by_words`], of a width from 1 to `WIDTH_MOST`.
    #[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
    pub(super) fn unpack(packed: &[u8], width: usize, out: &mut [MaybeUninit<i32>]) -> usize {
        let lanes = &LANES[width];
        // SAFETY: both arrays are 64 bytes long.
        let (bytes, shifts) =
            unsafe { (_mm512_loadu_si512(lanes.bytes.as_ptr().cast()), _mm512_loadu_si512(lanes.shifts.as_ptr().cast())) };
        let mask = _mm512_set1_epi32((1i32 << width) - 1);
        let (mut at, mut done) = (0, 0);
        let (sixteens, _) = out.as_chunks_mut::<16>();
        for sixteen in sixteens {
            if at + 64 > packed.len() {
                break;
            }
            // SAFETY: 64 bytes from `at` on are in `packed`.
            let read = unsafe { _mm512_loadu_si512(packed.as_ptr().add(at).cast()) };
            let values = _mm512_and_si512(_mm512_srlv_epi32(_mm512_permutexvar_epi8(bytes, read), shifts), mask);
            // SAFETY: 16 values of 4 bytes.
            unsafe { _mm512_storeu_si512(sixteen.as_mut_ptr().cast(), values) };
            (at, done) = (at + 2 * width, done + 2);
        }
        done
    }
}
