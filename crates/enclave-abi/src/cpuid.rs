// SPDX-License-Identifier: Apache-2.0
//! The CPU that programs inside an enclave see (rule S13).
//!
//! The kernel answers CPUID from this table, masked by XFRM; the host is never
//! asked. It is the common part of every CPU with SGX2, FLC and KSS (Ice
//! Lake-SP and later), so it is a constant. The launcher compares it with the
//! real CPU ([`missing`]) and refuses where something listed does not exist.

/// EAX, EBX, ECX, EDX.
pub type Registers = [u32; 4];

/// XCR0 bits of AVX.
const XFRM_AVX: u64 = 0x4;
/// XCR0 bits of AVX-512: opmask, upper halves, high registers.
const XFRM_AVX512: u64 = 0xe0;

/// Highest basic leaf.
const MAX_BASIC: u32 = 0x16;
/// Highest extended leaf.
const MAX_EXTENDED: u32 = 0x8000_0008;

/// Leaf 1 EAX: family 6, model 106, stepping 6.
const SIGNATURE: u32 = 0x0006_06a6;

const fn bits(list: &[u32]) -> u32 {
    let mut word = 0;
    let mut at = 0;
    while at < list.len() {
        word |= 1 << list[at];
        at += 1;
    }
    word
}

/// Leaf 1 ECX without AVX: SSE3 PCLMULQDQ SSSE3 CX16 SSE4.1 SSE4.2 MOVBE POPCNT
/// AES XSAVE OSXSAVE RDRAND.
const LEAF1_ECX: u32 = bits(&[0, 1, 9, 13, 19, 20, 22, 23, 25, 26, 27, 30]);
/// FMA AVX F16C.
const LEAF1_ECX_AVX: u32 = bits(&[12, 28, 29]);
/// FPU TSC CX8 CMOV CLFSH MMX FXSR SSE SSE2 (and SEP and MSR absent: useless in
/// ring 3), PAE-class bits as every 64-bit CPU shows them.
const LEAF1_EDX: u32 = bits(&[0, 1, 2, 3, 4, 6, 8, 13, 15, 16, 19, 23, 24, 25, 26]);
/// FSGSBASE BMI1 BMI2 ERMS RDSEED ADX CLFLUSHOPT CLWB SHA.
const LEAF7_EBX: u32 = bits(&[0, 3, 8, 9, 18, 19, 23, 24, 29]);
/// AVX2.
const LEAF7_EBX_AVX: u32 = bits(&[5]);
/// AVX-512 F DQ IFMA CD BW VL.
const LEAF7_EBX_AVX512: u32 = bits(&[16, 17, 21, 28, 30, 31]);
/// GFNI RDPID.
const LEAF7_ECX: u32 = bits(&[8, 22]);
/// VAES VPCLMULQDQ.
const LEAF7_ECX_AVX: u32 = bits(&[9, 10]);
/// AVX-512 VBMI VBMI2 VNNI BITALG VPOPCNTDQ.
const LEAF7_ECX_AVX512: u32 = bits(&[1, 6, 11, 12, 14]);
/// FSRM.
const LEAF7_EDX: u32 = bits(&[4]);
/// XSAVEOPT XSAVEC XGETBV(1).
const LEAF13_1_EAX: u32 = bits(&[0, 1, 2]);
/// LAHF LZCNT PREFETCHW.
const EXTENDED1_ECX: u32 = bits(&[0, 5, 8]);
/// SYSCALL NX 1-GiB pages RDTSCP LM.
const EXTENDED1_EDX: u32 = bits(&[11, 20, 26, 27, 29]);

const NAME: &[u8; 48] = b"Ensconce enclave CPU (Ice Lake-SP class)\0\0\0\0\0\0\0\0";

fn avx(xfrm: u64, word: u32) -> u32 {
    if xfrm & XFRM_AVX != 0 { word } else { 0 }
}

fn avx512(xfrm: u64, word: u32) -> u32 {
    if xfrm & XFRM_AVX512 == XFRM_AVX512 && xfrm & XFRM_AVX != 0 {
        word
    } else {
        0
    }
}

/// Offset and size of each state component in XSAVE's standard form
/// (SDM vol. 1 §13.5).
const COMPONENTS: [(u32, u32, u32); 4] = [
    (2, 256, 576),
    (5, 64, 1088),
    (6, 512, 1152),
    (7, 1024, 1664),
];

/// Bytes of an XSAVE area in standard form for these components.
#[must_use]
pub fn xsave_size(xfrm: u64) -> u32 {
    COMPONENTS
        .iter()
        .filter(|(index, ..)| xfrm >> index & 1 != 0)
        .map(|(_, size, offset)| size + offset)
        .max()
        .unwrap_or(576)
}

/// Bytes in compacted form.
fn compact_size(xfrm: u64) -> u32 {
    let parts: u32 = COMPONENTS
        .iter()
        .filter(|(index, ..)| xfrm >> index & 1 != 0)
        .map(|(_, size, _)| size)
        .sum();
    576 + parts
}

/// The answer to CPUID inside an enclave with this XFRM.
#[must_use]
pub fn answer(leaf: u32, subleaf: u32, xfrm: u64) -> Registers {
    match leaf {
        0 => vendor(MAX_BASIC),
        1 => [
            SIGNATURE,
            8 << 8 | 1 << 16,
            LEAF1_ECX | avx(xfrm, LEAF1_ECX_AVX),
            LEAF1_EDX,
        ],
        // One descriptor: see leaf 4 and no leaf-2 TLB details.
        2 => [0x00fe_ff01, 0, 0, 0],
        4 => cache(subleaf),
        7 if subleaf == 0 => [
            0,
            LEAF7_EBX | avx(xfrm, LEAF7_EBX_AVX) | avx512(xfrm, LEAF7_EBX_AVX512),
            LEAF7_ECX | avx(xfrm, LEAF7_ECX_AVX) | avx512(xfrm, LEAF7_ECX_AVX512),
            LEAF7_EDX,
        ],
        // One level of one thread: topology is the host's secret and ours.
        0xb => [
            0,
            u32::from(subleaf < 2),
            subleaf & 0xff | if subleaf < 2 { (subleaf + 1) << 8 } else { 0 },
            0,
        ],
        0xd => extended_state(subleaf, xfrm),
        0x8000_0000 => [MAX_EXTENDED, 0, 0, 0],
        0x8000_0001 => [0, 0, EXTENDED1_ECX, EXTENDED1_EDX],
        0x8000_0002..=0x8000_0004 => name((leaf - 0x8000_0002) as usize),
        // 256-byte L2 line information: 64-byte lines, 8-way, 1280 KiB.
        0x8000_0006 => [0, 0, 64 | 7 << 12 | 1280 << 16, 0],
        // Invariant TSC.
        0x8000_0007 => [0, 0, 0, 1 << 8],
        // 46 physical, 48 linear address bits.
        0x8000_0008 => [0x302e, 0, 0, 0],
        _ => [0; 4],
    }
}

fn vendor(max: u32) -> Registers {
    let word = |text: &[u8; 4]| u32::from_le_bytes(*text);
    [max, word(b"Genu"), word(b"ntel"), word(b"ineI")]
}

fn name(part: usize) -> Registers {
    let mut out = [0; 4];
    for (index, word) in out.iter_mut().enumerate() {
        let at = part * 16 + index * 4;
        let mut bytes = [0; 4];
        if let Some(piece) = NAME.get(at..at + 4) {
            bytes.copy_from_slice(piece);
        }
        *word = u32::from_le_bytes(bytes);
    }
    out
}

/// Deterministic cache parameters: 48 KiB L1d, 32 KiB L1i, 1280 KiB L2, 24 MiB L3.
fn cache(subleaf: u32) -> Registers {
    let (kind, level, ways, sets) = match subleaf {
        0 => (1, 1, 12, 64),
        1 => (2, 1, 8, 64),
        2 => (3, 2, 20, 1024),
        3 => (3, 3, 12, 32768),
        _ => return [0; 4],
    };
    [
        kind | level << 5 | 1 << 8,
        63 | (ways - 1) << 22,
        sets - 1,
        0,
    ]
}

fn extended_state(subleaf: u32, xfrm: u64) -> Registers {
    match subleaf {
        0 => {
            let size = xsave_size(xfrm);
            [(xfrm & 0xffff_ffff) as u32, size, size, (xfrm >> 32) as u32]
        }
        1 => [LEAF13_1_EAX, compact_size(xfrm), 0, 0],
        _ => COMPONENTS
            .iter()
            .find(|(index, ..)| *index == subleaf && xfrm >> index & 1 != 0)
            .map_or([0; 4], |&(_, size, offset)| [size, offset, 0, 0]),
    }
}

/// Feature bits of the table that a real CPU lacks, as (leaf, subleaf,
/// register, bits); `real` is its CPUID. Empty: programs can run.
pub fn missing(
    xfrm: u64,
    real: impl Fn(u32, u32) -> Registers,
) -> impl Iterator<Item = (u32, u32, usize, u32)> {
    const FEATURES: [(u32, u32, usize); 7] = [
        (1, 0, 2),
        (1, 0, 3),
        (7, 0, 1),
        (7, 0, 2),
        (0xd, 1, 0),
        (0x8000_0001, 0, 2),
        (0x8000_0001, 0, 3),
    ];
    FEATURES
        .into_iter()
        .filter_map(move |(leaf, subleaf, register)| {
            let lacking = answer(leaf, subleaf, xfrm)[register] & !real(leaf, subleaf)[register];
            (lacking != 0).then_some((leaf, subleaf, register, lacking))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn features_follow_xfrm() {
        assert_eq!(
            answer(7, 0, 0x3)[1] & 1 << 5,
            0,
            "no AVX2 without AVX state"
        );
        assert_ne!(answer(7, 0, 0x7)[1] & 1 << 5, 0);
        assert_eq!(
            answer(7, 0, 0x7)[1] & 1 << 16,
            0,
            "no AVX-512 without its state"
        );
        assert_ne!(answer(7, 0, 0xe7)[1] & 1 << 16, 0);
        assert_eq!(answer(7, 0, 0xe7)[3] & 1 << 24, 0, "no AMX ever");
    }

    #[test]
    fn sizes_agree_with_the_manual() {
        assert_eq!(xsave_size(0x7), 832);
        assert_eq!(xsave_size(0xe7), 2688);
        assert_eq!(answer(0xd, 0, 0xe7), [0xe7, 2688, 2688, 0]);
        assert_eq!(answer(0xd, 2, 0x7), [256, 576, 0, 0]);
        assert_eq!(answer(0xd, 5, 0x7), [0; 4]);
    }

    #[test]
    fn missing_names_exactly_what_lacks() {
        let full = |leaf, subleaf| answer(leaf, subleaf, 0xe7);
        assert_eq!(missing(0xe7, full).count(), 0);
        let no_sha = |leaf, subleaf| {
            let mut regs = answer(leaf, subleaf, 0xe7);
            if leaf == 7 {
                regs[1] &= !(1 << 29);
            }
            regs
        };
        let mut lacking = missing(0xe7, no_sha);
        assert_eq!(lacking.next(), Some((7, 0, 1, 1 << 29)));
        assert_eq!(lacking.next(), None);
    }
}
