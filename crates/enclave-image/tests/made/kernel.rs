// SPDX-License-Identifier: Apache-2.0
//! A kernel made byte by byte: three segments, one relocation, one gate.

use enclave_abi::entry::GATE_BYTES;

/// Address and file offset of the code.
pub(crate) const CODE: u64 = 0x1000;
/// The entry point inside the code.
pub(crate) const ENTRY: u64 = 0x10;
/// The gate inside the code.
pub(crate) const GATE: u64 = 0x20;
/// Address and file offset of the data.
pub(crate) const DATA: u64 = 0x2000;

/// What may be varied.
pub(crate) struct Kernel {
    pub(crate) elf_type: u16,
    pub(crate) entry: u64,
    pub(crate) code: Vec<u8>,
    pub(crate) code_flags: u32,
    pub(crate) data_address: u64,
    /// Address and type.
    pub(crate) relocation: (u64, u32),
}

impl Default for Kernel {
    fn default() -> Self {
        let mut code = vec![0x90; 0x40];
        let gate = place(GATE);
        code[gate..gate + GATE_BYTES.len()].copy_from_slice(&GATE_BYTES);
        code[gate + GATE_BYTES.len()] = 0xc3;
        Self {
            elf_type: 3,
            entry: CODE + ENTRY,
            code,
            code_flags: 5,
            data_address: DATA,
            relocation: (DATA + 0x100, 8),
        }
    }
}

impl Kernel {
    /// The file.
    pub(crate) fn elf(&self) -> Vec<u8> {
        let mut out = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
        for half in [self.elf_type, 62] {
            out.extend_from_slice(&half.to_le_bytes());
        }
        out.extend_from_slice(&1u32.to_le_bytes());
        for word in [self.entry, 64, 0] {
            out.extend_from_slice(&word.to_le_bytes());
        }
        out.extend_from_slice(&0u32.to_le_bytes());
        for half in [64u16, 56, 4, 64, 0, 0] {
            out.extend_from_slice(&half.to_le_bytes());
        }
        let code_len = self.code.len() as u64;
        for (kind, flags, offset, address, file, memory) in [
            (1u32, 4u32, 0, 0, 0x200, 0x200),
            (1, self.code_flags, CODE, CODE, code_len, code_len),
            (1, 6, DATA, self.data_address, 0x200, 0x2100),
            (2, 6, DATA + 0x40, DATA + 0x40, 0x40, 0x40),
        ] {
            out.extend_from_slice(&kind.to_le_bytes());
            out.extend_from_slice(&flags.to_le_bytes());
            for word in [offset, address, address, file, memory, 0x1000] {
                out.extend_from_slice(&u64::to_le_bytes(word));
            }
        }
        out.resize(place(CODE), 0);
        out.extend_from_slice(&self.code);
        out.resize(place(DATA), 0);
        out.extend_from_slice(b"writable");
        out.resize(place(DATA) + 0x40, 0);
        // DT_RELA, DT_RELASZ, DT_RELAENT, DT_NULL
        for word in [7, DATA + 0x80, 8, 24, 9, 24, 0, 0] {
            out.extend_from_slice(&word.to_le_bytes());
        }
        let (address, kind) = self.relocation;
        for word in [address, u64::from(kind), 0x1000] {
            out.extend_from_slice(&word.to_le_bytes());
        }
        out.resize(place(DATA) + 0x200, 0);
        out
    }
}

fn place(offset: u64) -> usize {
    usize::try_from(offset).expect("offsets here are small")
}
