// SPDX-License-Identifier: Apache-2.0
//! The measurement stream: MRENCLAVE is the SHA-256 of 64-byte records that
//! ECREATE, EADD and EEXTEND append (SDM vol. 3D §37.3, operation sections).

use sha2::{Digest, Sha256};

use crate::PAGE_SIZE;
use crate::secinfo::SecInfo;

/// Bytes that one EEXTEND measures.
pub const EXTEND_SIZE: usize = 256;

/// Computes MRENCLAVE from the same calls that build the enclave.
#[derive(Clone, Debug)]
pub struct Measurement(Sha256);

impl Measurement {
    /// ECREATE: SSA frame size in pages, ELRANGE size in bytes.
    #[must_use]
    pub fn ecreate(ssa_frame_size: u32, size: u64) -> Self {
        let mut record = [0; 64];
        record[..8].copy_from_slice(b"ECREATE\0");
        record[8..12].copy_from_slice(&ssa_frame_size.to_le_bytes());
        record[12..20].copy_from_slice(&size.to_le_bytes());
        let mut hash = Sha256::new();
        hash.update(record);
        Self(hash)
    }

    /// EADD of the page at `offset` (bytes from the enclave's base).
    pub fn eadd(&mut self, offset: u64, secinfo: &SecInfo) {
        let mut record = [0; 64];
        record[..8].copy_from_slice(b"EADD\0\0\0\0");
        record[8..16].copy_from_slice(&offset.to_le_bytes());
        // The record holds the first 48 bytes of SECINFO.
        record[16..64].copy_from_slice(&secinfo.to_bytes()[..48]);
        self.0.update(record);
    }

    /// EEXTEND of the 256 bytes at `offset`.
    pub fn eextend(&mut self, offset: u64, bytes: &[u8; EXTEND_SIZE]) {
        let mut record = [0; 64];
        record[..8].copy_from_slice(b"EEXTEND\0");
        record[8..16].copy_from_slice(&offset.to_le_bytes());
        self.0.update(record);
        self.0.update(bytes);
    }

    /// EADD followed by sixteen EEXTENDs: a whole measured page.
    pub fn measured_page(&mut self, offset: u64, secinfo: &SecInfo, page: &[u8; PAGE_SIZE]) {
        self.eadd(offset, secinfo);
        let mut at = offset;
        for chunk in page.as_chunks::<EXTEND_SIZE>().0 {
            self.eextend(at, chunk);
            at += EXTEND_SIZE as u64;
        }
    }

    /// EINIT: the final value.
    #[must_use]
    pub fn finish(self) -> [u8; 32] {
        self.0.finalize().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secinfo::PageFlags;

    #[test]
    fn every_input_changes_the_value() {
        let value = |frame: u32, size: u64, offset: u64, flags: PageFlags, fill: u8| {
            let mut m = Measurement::ecreate(frame, size);
            m.measured_page(offset, &SecInfo::reg(flags), &[fill; PAGE_SIZE]);
            m.finish()
        };
        let rx = PageFlags::R | PageFlags::X;
        let base = value(1, 0x10000, 0x1000, rx, 0);
        assert_ne!(base, value(2, 0x10000, 0x1000, rx, 0));
        assert_ne!(base, value(1, 0x20000, 0x1000, rx, 0));
        assert_ne!(base, value(1, 0x10000, 0x2000, rx, 0));
        assert_ne!(base, value(1, 0x10000, 0x1000, PageFlags::R, 0));
        assert_ne!(base, value(1, 0x10000, 0x1000, rx, 1));
    }
}
