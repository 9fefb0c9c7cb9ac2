// SPDX-License-Identifier: Apache-2.0
//! System-call sites of files made by hand and of files made by real compilers.
#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

#[path = "made/program.rs"]
mod made;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use enclave_abi::startup::Site;
use enclave_image::elf::{Elf, ElfError};
use enclave_image::sites::find;
use made::{CODE_OFFSET, elf};
use proptest::prelude::*;

/// Sites of this code, relative to its beginning; 16 NOPs stand on either side so
/// that the code is credible.
fn sites_of(code: &[u8]) -> Vec<(usize, u8, u8)> {
    let mut padded = vec![0x90; 16];
    padded.extend_from_slice(code);
    padded.extend_from_slice(&[0x90; 24]);
    let found = find(&elf(&padded)).unwrap();
    found
        .sites
        .iter()
        .map(|site| {
            let at = usize::try_from(site.at).unwrap() - CODE_OFFSET - 16;
            (at, site.before, site.after)
        })
        .collect()
}

#[test]
fn number_before_the_call_is_replaced_alone() {
    // mov eax, 39; syscall; ret
    assert_eq!(sites_of(b"\xb8\x27\0\0\0\x0f\x05\xc3"), [(5, 5, 0)]);
}

#[test]
fn short_instructions_before_the_call_add_up() {
    // mov eax, esi; mov edi, ebx; xor edx, edx; syscall; ret
    assert_eq!(
        sites_of(b"\x89\xf0\x89\xdf\x31\xd2\x0f\x05\xc3"),
        [(6, 6, 0)]
    );
}

#[test]
fn comparison_behind_the_call_is_taken_when_nothing_before_can_be() {
    // lea rax, [rip+0]; syscall; cmp rax, -4095; ret
    let code = b"\x48\x8d\x05\0\0\0\0\x0f\x05\x48\x3d\x01\xf0\xff\xff\xc3";
    assert_eq!(sites_of(code), [(7, 0, 6)]);
}

#[test]
fn signal_return_is_never_listed() {
    // glibc: mov rax, 15; syscall. musl's short form: mov eax, 15; syscall.
    assert_eq!(sites_of(b"\x48\xc7\xc0\x0f\0\0\0\x0f\x05\xc3"), []);
    assert_eq!(sites_of(b"\xb8\x0f\0\0\0\x0f\x05\xc3"), []);
}

#[test]
fn bytes_that_are_jumped_into_are_left_alone() {
    // mov eax, 1; L: mov edi, ebx; syscall; jmp L. Only `mov edi` may move with the call.
    let code = b"\xb8\x01\0\0\0\x89\xdf\x0f\x05\xeb\xfa";
    assert_eq!(
        sites_of(code),
        [],
        "two bytes and two are no room for a jump"
    );
    // The same with a comparison behind, which is enough by itself.
    let code = b"\xb8\x01\0\0\0\x89\xdf\x0f\x05\x48\x3d\x01\xf0\xff\xff\xeb\xf4";
    assert_eq!(sites_of(code), [(7, 0, 6)]);
    // mov eax, 1; L: syscall; cmp rax, -4095; jmp L: the call stays where it is.
    let code = b"\xb8\x01\0\0\0\x0f\x05\x48\x3d\x01\xf0\xff\xff\xeb\xf6";
    assert_eq!(sites_of(code), [(5, 5, 0)]);
    // Somebody jumps to the comparison: it cannot be covered.
    let code = b"\x48\x8d\x05\0\0\0\0\x0f\x05\x48\x3d\x01\xf0\xff\xff\xeb\xf8";
    assert_eq!(sites_of(code), []);
}

#[test]
fn instructions_that_depend_on_their_address_do_not_move() {
    // mov eax, [rip+0]; syscall; ret
    assert_eq!(sites_of(b"\x8b\x05\0\0\0\0\x0f\x05\xc3"), []);
    // call; syscall
    assert_eq!(sites_of(b"\xe8\0\0\0\0\x0f\x05\xc3"), []);
}

#[test]
fn constants_that_look_like_a_call_are_not_listed() {
    // mov ecx, 0x050f0000: the bytes 0f 05 inside an operand.
    assert_eq!(sites_of(b"\xb8\x01\0\0\0\xb9\0\0\x0f\x05\xc3"), []);
    // Undecodable bytes close by: perhaps data.
    assert_eq!(sites_of(b"\x06\x07\xb8\x27\0\0\0\x0f\x05\x06"), []);
}

#[test]
fn pointers_in_data_count_as_jumps() {
    // mov eax, 1; mov edi, 2; syscall; ret, with the address of the second
    // instruction in a table: five bytes there are enough. Were the table's
    // address inside an instruction, nothing could be replaced.
    let mut code = vec![0x90; 16];
    code.extend_from_slice(b"\xb8\x01\0\0\0\x0f\x05\xc3");
    code.extend_from_slice(&[0x90; 24]);
    assert_eq!(find(&elf(&code)).unwrap().sites.len(), 1);
    let mut file = elf(&code);
    let inside = u64::try_from(made::CODE_ADDRESS + 16 + 2).unwrap();
    let aligned = file.len().next_multiple_of(8);
    file.resize(aligned, 0);
    file.extend_from_slice(&inside.to_le_bytes());
    assert_eq!(find(&file).unwrap().sites, []);
}

#[test]
fn other_machines_and_formats_are_refused_by_name() {
    let good = elf(&[0x90; 32]);
    assert_eq!(find(b"#!/bin/sh\n"), Err(ElfError::NotElf));
    assert_eq!(find(b""), Err(ElfError::NotElf));
    let with = |at: usize, byte: u8| {
        let mut bad = good.clone();
        bad[at] = byte;
        find(&bad).unwrap_err()
    };
    assert_eq!(with(4, 1), ElfError::Class32);
    assert_eq!(with(5, 2), ElfError::Machine { machine: 0 });
    assert_eq!(with(18, 183), ElfError::Machine { machine: 183 });
    assert_eq!(with(16, 1), ElfError::Type { got: 1 });
}

/// A second opinion: instructions and jump targets as objdump sees them, by file offset.
struct Disassembly {
    lengths: BTreeMap<u64, u64>,
    calls: BTreeSet<u64>,
    targets: BTreeSet<u64>,
}

fn disassemble(path: &Path) -> Disassembly {
    let file = std::fs::read(path).unwrap();
    let elf = Elf::parse(&file).unwrap();
    let out = Command::new("objdump")
        .args(["-d", "-w", "--no-show-raw-insn"])
        .arg(path)
        .output()
        .expect("objdump is installed");
    let text = String::from_utf8(out.stdout).unwrap();
    let mut addresses = Vec::new();
    let (mut calls, mut targets) = (BTreeSet::new(), BTreeSet::new());
    for line in text.lines() {
        let Some((address, rest)) = line.trim().split_once(":\t") else {
            continue;
        };
        let address = u64::from_str_radix(address, 16).unwrap();
        let offset = elf.file_offset(address).unwrap();
        addresses.push(offset);
        if rest.trim() == "syscall" {
            calls.insert(offset);
        }
        let mut words = rest.split_whitespace();
        let mnemonic = words.next().unwrap_or("");
        let is_jump = mnemonic.starts_with('j') || mnemonic.starts_with("call");
        let operand = words
            .next()
            .and_then(|word| u64::from_str_radix(word, 16).ok());
        if let Some(target) = operand.filter(|_| is_jump).and_then(|t| elf.file_offset(t)) {
            targets.insert(target);
        }
    }
    addresses.sort_unstable();
    let lengths = addresses.windows(2).map(|w| (w[0], w[1] - w[0])).collect();
    Disassembly {
        lengths,
        calls,
        targets,
    }
}

/// Checks every promise of `Site` against objdump; gives listed and existing calls.
fn check(path: &Path) -> (usize, usize) {
    let file = std::fs::read(path).unwrap();
    let found = find(&file).unwrap();
    let seen = disassemble(path);
    let mut free_from = 0;
    for &Site { at, before, after } in &found.sites {
        let at = u64::from(at);
        assert!(
            seen.calls.contains(&at),
            "{at:#x} of {path:?} is no syscall"
        );
        let start = at - u64::from(before);
        let end = at + 2 + u64::from(after);
        assert!(
            start >= free_from,
            "{at:#x} of {path:?} overlaps the site before"
        );
        free_from = end;
        let mut boundary = start;
        while boundary < end {
            let len = seen.lengths.get(&boundary);
            boundary += len.unwrap_or_else(|| panic!("{boundary:#x} splits an instruction"));
        }
        assert_eq!(boundary, end, "{at:#x} of {path:?} splits an instruction");
        let covered_to = if before >= 5 { at } else { end };
        let inside = seen.targets.range(start + 1..covered_to).next();
        assert_eq!(inside, None, "{path:?} jumps into the site {at:#x}");
        assert!(if before >= 5 {
            after == 0
        } else {
            before + 2 + after >= 5
        });
    }
    (found.sites.len(), seen.calls.len())
}

fn compile(compiler: &str, args: &[&str], out: &Path) {
    let source = out.with_extension("c");
    std::fs::write(
        &source,
        "#include <stdio.h>\nint main(void) { puts(\"hi\"); return 0; }\n",
    )
    .unwrap();
    let status = Command::new(compiler)
        .args(args)
        .arg("-o")
        .args([out, &source])
        .status()
        .unwrap_or_else(|error| panic!("{compiler} is installed: {error}"));
    assert!(status.success());
}

#[test]
fn sites_of_glibc_are_right_and_nearly_complete() {
    let (listed, all) = check(Path::new("/lib/x86_64-linux-gnu/libc.so.6"));
    assert!(all > 400, "{all} calls");
    assert!(listed * 100 >= all * 95, "{listed} of {all}");
    check(Path::new("/lib64/ld-linux-x86-64.so.2"));
}

#[test]
fn sites_of_static_programs_are_right_with_and_without_symbols() {
    let dir = tempfile::tempdir().unwrap();
    for (name, compiler, args) in [
        ("glibc", "gcc", &["-static", "-O2"][..]),
        ("glibc-stripped", "gcc", &["-static", "-O2", "-s"]),
        ("glibc-pie", "gcc", &["-static-pie", "-O2"]),
        ("musl", "musl-gcc", &["-static", "-O2"]),
        ("musl-stripped", "musl-gcc", &["-static", "-O2", "-s"]),
    ] {
        let path = dir.path().join(name);
        compile(compiler, args, &path);
        let (listed, all) = check(&path);
        assert!(listed * 100 >= all * 85, "{name}: {listed} of {all}");
    }
}

#[test]
fn musl_is_right() {
    let (listed, all) = check(Path::new("/usr/lib/x86_64-linux-musl/libc.so"));
    assert!(listed * 100 >= all * 95, "{listed} of {all}");
}

#[test]
fn time_does_not_grow_out_of_hand_with_the_size_of_a_library() {
    let file = std::fs::read("/lib/x86_64-linux-gnu/libc.so.6").unwrap();
    let start = Instant::now();
    find(&file).unwrap();
    assert!(
        start.elapsed() < Duration::from_secs(2),
        "{:?}",
        start.elapsed()
    );
}

proptest! {
    #[test]
    fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..2048)) {
        let _ = find(&bytes);
        let _ = find(&elf(&bytes));
    }

    #[test]
    fn damaged_headers_are_survived(at in 0usize..0x200, byte in any::<u8>(), cut in 0usize..0x1200) {
        let mut file = elf(b"\xb8\x27\0\0\0\x0f\x05\xc3");
        file[at] = byte;
        let _ = find(&file);
        file.truncate(cut);
        let _ = find(&file);
    }

    #[test]
    fn sites_of_any_code_are_calls_with_room_for_a_jump(code in code()) {
        let file = elf(&code);
        let mut free_from = 0;
        for site in find(&file).unwrap().sites {
            let at = usize::try_from(site.at).unwrap();
            prop_assert_eq!(&file[at..at + 2], b"\x0f\x05");
            let (before, after) = (usize::from(site.before), usize::from(site.after));
            prop_assert!(before + 2 + after >= 5);
            prop_assert!(at - before >= free_from);
            free_from = at + 2 + after;
        }
    }
}

/// Random sequences of instructions that matter here.
fn code() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        Just(b"\x0f\x05".to_vec()),
        Just(b"\xb8\x01\0\0\0".to_vec()),
        Just(b"\x89\xdf".to_vec()),
        Just(b"\x48\x3d\x01\xf0\xff\xff".to_vec()),
        Just(b"\xc3".to_vec()),
        any::<u8>().prop_map(|distance| vec![0xeb, distance]),
        Just(b"\x48\x8d\x05\0\0\0\0".to_vec()),
    ];
    prop::collection::vec(piece, 1..200).prop_map(|pieces| pieces.concat())
}
