// SPDX-License-Identifier: Apache-2.0
//! The lint over code made by hand, and over the kernel where it has been built.
#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

#[path = "made/program.rs"]
mod made;

use enclave_image::lint::{Finding, Rule, lint};
use proptest::prelude::*;

fn rules(code: &[u8]) -> Vec<Rule> {
    let found = lint(&made::elf(code)).unwrap();
    found.into_iter().map(|finding| finding.rule).collect()
}

#[test]
fn every_forbidden_kind_is_found() {
    for (code, rule) in [
        (&b"\x0f\xa2"[..], Rule::Cpuid),
        (b"\x0f\x05", Rule::HostKernel),
        (b"\x0f\x34", Rule::HostKernel),
        (b"\xcd\x80", Rule::HostKernel),
        (b"\xf1", Rule::HostKernel),
        (b"\xec", Rule::Port),
        (b"\xe6\x80", Rule::Port),
        (b"\x6e", Rule::Port),
        (b"\x48\xcf", Rule::Segment),
        (b"\xcb", Rule::Segment),
        (b"\xff\x28", Rule::Segment),
        (b"\x8e\xd8", Rule::Segment),
        (b"\x0f\xa1", Rule::Segment),
        (b"\xf4", Rule::Privileged),
        (b"\x0f\x30", Rule::Privileged),
        (b"\x0f\x33", Rule::Privileged),
        (b"\x0f\x01\xf8", Rule::Privileged),
        (b"\x0f\x01\xc1", Rule::Privileged),
        (b"\x0f\x01\x08", Rule::Privileged),
        (b"\x0f\x22\xc0", Rule::Privileged),
        (b"\xc7\xf8\0\0\0\0", Rule::Transaction),
        (b"\x06", Rule::Undecodable),
    ] {
        let mut padded = b"\x90\x90".to_vec();
        padded.extend_from_slice(code);
        padded.push(0xc3);
        assert_eq!(rules(&padded), [rule], "{code:x?}");
    }
}

#[test]
fn what_the_kernel_needs_is_allowed() {
    // enclu; rdrand; xsave; xrstor; xgetbv; wrfsbase; wrgsbase; rdtsc; int3; ud2;
    // lfence; verw; cli-free pause; mov ax, fs
    let code = b"\x0f\x01\xd7\x48\x0f\xc7\xf0\x48\x0f\xae\x27\x48\x0f\xae\x2f\x0f\x01\xd0\
        \xf3\x48\x0f\xae\xd0\xf3\x48\x0f\xae\xd8\x0f\x31\xcc\x0f\x0b\x0f\xae\xe8\
        \x0f\x00\x2c\x24\xf3\x90\x8c\xe0\xc3";
    assert_eq!(rules(code), []);
}

#[test]
fn only_one_enclu_is_allowed() {
    let found = lint(&made::elf(b"\x0f\x01\xd7\xc3\x0f\x01\xd7\xc3")).unwrap();
    let address = made::CODE_ADDRESS as u64 + 4;
    let rule = Rule::SecondEnclu;
    assert_eq!(found, [Finding { address, rule }]);
}

#[test]
fn operands_are_not_instructions() {
    // mov eax, 0x0000050f; mov eax, 0x0000a20f
    assert_eq!(rules(b"\xb8\x0f\x05\0\0\xb8\x0f\xa2\0\0\xc3"), []);
}

/// The real kernel; the test chore builds it and names its place in `ENSCONCE_DIST`.
#[test]
fn the_kernel_holds_no_forbidden_instruction() {
    let Some(dist) = std::env::var_os("ENSCONCE_DIST") else {
        assert!(
            std::env::var("CI").as_deref() != Ok("true"),
            "ENSCONCE_DIST must be set in CI"
        );
        eprintln!("skipped: ENSCONCE_DIST is not set");
        return;
    };
    let path = std::path::Path::new(&dist).join("libexec/kernel.elf");
    let kernel = std::fs::read(&path).expect("the kernel is built");
    assert_eq!(lint(&kernel).unwrap(), [], "{path:?}");
}

proptest! {
    #[test]
    fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..2048)) {
        let _ = lint(&bytes);
        let _ = lint(&made::elf(&bytes));
    }
}
