// SPDX-License-Identifier: Apache-2.0
//! The bootable kernel image.

use std::path::PathBuf;

use anyhow::Result;

use super::program::remap;
use crate::run::{cargo, root, run};

const TARGET: &str = "x86_64-unknown-linux-gnu";

/// Flags of the image. Why they are as they are:
///
/// * a static PIE that relocates itself; `.data.rel.ro` stays writable
///   (`norelro`) because page permissions are fixed when pages are added;
/// * the crypto instructions of the CPU baseline are on, so that no detection
///   is compiled in, and no AVX: VEX instructions would clear the upper halves
///   of the program's registers, which system calls leave where they are;
/// * `target_env="sgx"` is how the detection of further instructions learns
///   that there is no CPUID here (VAES would use AVX); nothing else asks for it.
const FLAGS: &[&str] = &[
    "-C relocation-model=pie",
    "-C link-arg=-nostartfiles",
    "-C link-arg=-nostdlib",
    "-C link-arg=-static-pie",
    "-C link-arg=-Wl,-e,enclave_entry,-z,norelro,-z,separate-code,-z,max-page-size=4096,--build-id=none,--gc-sections",
    "-C target-feature=+aes,+pclmulqdq,+sse3,+ssse3,+sse4.1,+sse4.2,+popcnt,+sha,+rdrand,+rdseed,-avx",
    "-A explicit_builtin_cfgs_in_flags",
    "--cfg target_env=\"sgx\"",
];

/// Builds `kernel.elf`: a static PIE without a C library.
pub(crate) fn kernel() -> Result<PathBuf> {
    let target_dir = root().join("target/enclave/kernel");
    run(cargo()
        .env("RUSTFLAGS", format!("{} {}", FLAGS.join(" "), remap()))
        .args([
            "build",
            "--locked",
            "--profile",
            "enclave",
            "--target",
            TARGET,
        ])
        .args([
            "--package",
            "kernel",
            "--bin",
            "kernel",
            "--features",
            "image",
            "--target-dir",
        ])
        .arg(&target_dir))?;
    Ok(target_dir.join(TARGET).join("enclave/kernel"))
}
