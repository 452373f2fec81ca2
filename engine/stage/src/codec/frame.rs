//! The frame of a message: magic, version, checksum of what follows, then sections with their lengths.

use super::corrupt;
use crate::Result;
use millstream_kernels::hash;

const MAGIC: &[u8; 4] = b"MSTG";

/// The version that is written and the only one that is read. It changes with the meaning of any section,
/// the encoding of instructions included.
pub(super) const VERSION: u16 = 1;

/// The frame around `sections`.
pub(super) fn seal(sections: &[Vec<u8>]) -> Vec<u8> {
    let mut body = vec![];
    for s in sections {
        body.extend((s.len() as u64).to_le_bytes());
        body.extend(s);
    }
    let mut out = MAGIC.to_vec();
    out.extend(VERSION.to_le_bytes());
    out.extend(hash::bytes(&body).to_le_bytes());
    out.extend(body);
    out
}

/// The sections of a frame.
///
/// # Errors
/// `Corrupt` when the frame is cut or changed; `Unsupported` for another version.
pub(super) fn open(bytes: &[u8]) -> Result<Vec<&[u8]>> {
    let rest = bytes.strip_prefix(MAGIC).ok_or_else(|| corrupt("it does not begin as one"))?;
    let (version, rest) = rest.split_first_chunk().ok_or_else(cut)?;
    let version = u16::from_le_bytes(*version);
    if version != VERSION {
        return Err(crate::Error::unsupported(format!("a stage's message has version {version}, this build reads {VERSION}")));
    }
    let (checksum, mut rest) = rest.split_first_chunk().ok_or_else(cut)?;
    if hash::bytes(rest) != u64::from_le_bytes(*checksum) {
        return Err(corrupt("its checksum is another"));
    }
    let mut sections = vec![];
    while !rest.is_empty() {
        let (len, after) = rest.split_first_chunk().ok_or_else(cut)?;
        let len = usize::try_from(u64::from_le_bytes(*len)).map_err(corrupt)?;
        let (section, after) = after.split_at_checked(len).ok_or_else(cut)?;
        sections.push(section);
        rest = after;
    }
    Ok(sections)
}

fn cut() -> crate::Error {
    corrupt("it ends too early")
}
