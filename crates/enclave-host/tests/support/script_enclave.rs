// SPDX-License-Identifier: Apache-2.0
//! An enclave that performs a list of host calls and compares the results:
//! the launcher's other end without a kernel.
//!
//! A script is a list of [`Step`]s per thread. The first mismatch ends the
//! process with the step's number plus one as exit status.

#![allow(
    dead_code,
    clippy::unwrap_used,
    reason = "each test binary uses a part; tests stop at the first surprise"
)]

use std::arch::global_asm;
use std::path::{Path, PathBuf};
use std::process::Command;

use aws_lc_rs::rsa::KeyPair;
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_SHA256};
use enclave_abi::boot::{BootPage, Extent};
use enclave_abi::call::Op;
use enclave_abi::image::{Header, Run};
use enclave_abi::layout::{Layout, thread};
use enclave_abi::manifest::{Dlopen, Manifest, StartMode};
use sgx::PAGE_SIZE;
use sgx::attributes::{Attributes, Flags, MiscSelect};
use sgx::measurement::Measurement;
use sgx::secinfo::{PageFlags, SecInfo};
use sgx::sigstruct::{Body, KEY_SIZE, Sigstruct};
use sgx::tcs::Tcs;

/// Threads of the image.
pub(crate) const THREADS: u32 = 4;
const HEAP: u64 = 64 << 20;
const PAGE: u64 = PAGE_SIZE as u64;
/// Pages for one thread's script, results and data.
const SCRIPT_PAGES: u64 = 8;
const RESULTS: usize = 5 * PAGE_SIZE;
const DATA: usize = 6 * PAGE_SIZE;
const STEP: usize = 80;

/// Whatever the result is.
pub(crate) const ANY: i64 = i64::MIN;
/// A number that is no error.
pub(crate) const SUCCESS: i64 = i64::MIN + 1;

/// A value that an earlier step of the same thread has given.
pub(crate) fn result_of(step: usize) -> u64 {
    0x5e5e << 48 | step as u64
}

/// One step: a host call, or something that the enclave does itself.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Step {
    op: u64,
    args: [u64; 8],
    expected: i64,
}

/// A host call with its argument words.
pub(crate) fn call(op: Op, args: &[u64], expected: i64) -> Step {
    raw(op as u64, args, expected)
}

/// A call by number.
pub(crate) fn raw(op: u64, args: &[u64], expected: i64) -> Step {
    let mut words = [0; 8];
    words[..args.len()].copy_from_slice(args);
    Step {
        op,
        args: words,
        expected,
    }
}

/// Continues at `target`.
pub(crate) fn jump(target: usize) -> Step {
    raw(0xf001, &[target as u64], ANY)
}

/// Continues at `target` if hints have come; forgets them.
pub(crate) fn jump_if_hinted(target: usize) -> Step {
    raw(0xf002, &[target as u64], ANY)
}

/// Continues at `target` if `value` is not negative.
pub(crate) fn jump_if_success(value: u64, target: usize) -> Step {
    raw(0xf003, &[target as u64, value], ANY)
}

/// Ends the process.
pub(crate) fn exit(status: u64) -> Step {
    call(Op::Exit, &[status], ANY)
}

unsafe extern "C" {
    static script_begin: u8;
    static script_end: u8;
    static script_entry: u8;
}

global_asm!(
    r#"
    .pushsection .rodata.script, "a", @progbits
    .p2align 12
    .globl script_begin, script_end, script_entry
script_begin:
70:
    .byte 0x0f, 0x01, 0xd7, 0x66, 0x0f, 0x1f, 0x44, 0x00, 0x00, 0x0f, 0x1f, 0x44, 0x00, 0x00
    ret

script_entry:
    cld
    mov gs:[0], rsp
    mov gs:[8], rbp
    mov gs:[16], rcx
    test rax, rax
    jnz 60f
    cmp qword ptr gs:[72], 0
    jne 20f
    # first entry
    mov gs:[24], rdi
    mov qword ptr gs:[72], 1
    mov qword ptr gs:[32], 0
    # a first thread leaves the start block where it is
    test rdx, rdx
    jnz 10f
    mov rsi, gs:[56]
    lea rdi, [rdi + 256]
    mov rcx, gs:[64]
    rep movsb
10: # the next step
    mov r13, gs:[24]
    mov rax, gs:[32]
    imul rax, rax, 80
    mov r12, gs:[40]
    add r12, rax
    mov r14, gs:[48]
    mov rax, [r12]
    mov [r13], rax
    xor ecx, ecx
11:
    mov rax, [r12 + 8 + rcx * 8]
    mov rdx, rax
    shr rdx, 48
    cmp edx, 0x5e5e
    jne 12f
    movzx eax, ax
    mov rax, [r14 + rax * 8]
12:
    mov [r13 + 8 + rcx * 8], rax
    inc ecx
    cmp ecx, 8
    jb 11b
    mov rax, [r13]
    cmp rax, 0xf001
    je 31f
    cmp rax, 0xf002
    je 32f
    cmp rax, 0xf003
    je 33f
    cmp rax, 0xf004
    je 34f
    xor edi, edi
    jmp 69f

20: # back from a call
    or gs:[88], rdi
    mov r13, gs:[24]
    mov rax, gs:[32]
    mov r14, gs:[48]
    mov rdx, [r13 + 72]
    mov [r14 + rax * 8], rdx
    imul rcx, rax, 80
    mov r12, gs:[40]
    mov rbx, [r12 + rcx + 72]
    mov rsi, 0x8000000000000000
    cmp rbx, rsi
    je 30f
    inc rsi
    cmp rbx, rsi
    jne 21f
    test rdx, rdx
    jns 30f
    jmp 22f
21:
    cmp rbx, rdx
    je 30f
22: # not what was expected
    inc rax
    mov [r13 + 8], rax
    mov qword ptr [r13], 1
    xor edi, edi
    jmp 69f
30:
    inc qword ptr gs:[32]
    jmp 10b
31:
    mov rax, [r13 + 8]
    mov gs:[32], rax
    jmp 10b
32:
    cmp qword ptr gs:[88], 0
    je 30b
    mov qword ptr gs:[88], 0
    jmp 31b
33:
    cmp qword ptr [r13 + 16], 0
    jge 31b
    jmp 30b
34: # spin until so many asynchronous exits have been seen
    mov rax, [r13 + 8]
    cmp qword ptr gs:[96], rax
    jb 34b
    jmp 30b

60: # CSSA >= 1
    inc qword ptr gs:[96]
    or gs:[88], rdi
    mov edi, 1
69:
    xor esi, esi
    xor edx, edx
    mov rbx, gs:[16]
    mov rsp, gs:[0]
    mov rbp, gs:[8]
    mov eax, 4
    jmp 70b
    .p2align 12
script_end:
    .popsection
    "#
);

fn code() -> &'static [u8] {
    let begin = &raw const script_begin;
    let len = &raw const script_end as usize - begin as usize;
    // SAFETY: both labels bound the section above.
    unsafe { std::slice::from_raw_parts(begin, len) }
}

/// Spins until this many asynchronous exits were seen.
pub(crate) fn spin_until_interrupted(times: u64) -> Step {
    raw(0xf004, &[times], ANY)
}

/// One thread's steps and the bytes that its data part starts with.
#[derive(Debug, Default)]
pub(crate) struct Script {
    pub(crate) steps: Vec<Step>,
    pub(crate) data: Vec<u8>,
}

fn script_pages(script: &Script) -> Vec<u8> {
    let mut out = vec![0; SCRIPT_PAGES as usize * PAGE_SIZE];
    assert!(script.steps.len() * STEP <= RESULTS && script.data.len() <= out.len() - DATA);
    for (index, step) in script.steps.iter().enumerate() {
        let mut at = index * STEP;
        let words = std::iter::once(step.op)
            .chain(step.args)
            .chain([step.expected.cast_unsigned()]);
        for word in words {
            out[at..at + 8].copy_from_slice(&word.to_le_bytes());
            at += 8;
        }
    }
    out[DATA..DATA + script.data.len()].copy_from_slice(&script.data);
    out
}

/// Writes `enclave.img` and its signature; returns the image's path.
pub(crate) fn build(dir: &Path, scripts: [Script; THREADS as usize]) -> PathBuf {
    build_with(dir, scripts, &manifest())
}

pub(crate) fn manifest() -> Manifest {
    Manifest {
        start_mode: StartMode::Test,
        heap: HEAP,
        stack: 1 << 20,
        threads: THREADS,
        dlopen: Dlopen::Any,
        fork: false,
        program: b"/bin/script".to_vec(),
        agent: Vec::new(),
        regions: Vec::new(),
        cas_pin: None,
        standalone: None,
    }
}

pub(crate) fn build_with(
    dir: &Path,
    scripts: [Script; THREADS as usize],
    manifest: &Manifest,
) -> PathBuf {
    let code_len = code().len() as u64;
    let manifest = manifest.encode();
    let kernel_len = PAGE + code_len + PAGE + u64::from(THREADS) * SCRIPT_PAGES * PAGE;
    let layout = Layout::new(HEAP, THREADS, kernel_len).unwrap();
    let code_at = layout.kernel + PAGE;
    let manifest_at = code_at + code_len;
    let scripts_at = manifest_at + PAGE;
    let boot = BootPage {
        layout,
        kernel_image: Extent {
            offset: code_at,
            len: code_len,
        },
        manifest: Extent {
            offset: manifest_at,
            len: manifest.len() as u64,
        },
        startup: Extent {
            offset: manifest_at,
            len: 0,
        },
    };
    let rw = SecInfo::reg(PageFlags::R | PageFlags::W);
    let mut manifest_page = manifest;
    manifest_page.resize(PAGE_SIZE, 0);
    let mut pieces: Vec<(u64, SecInfo, Vec<u8>)> = vec![
        (layout.kernel, SecInfo::reg(PageFlags::R), boot.encode()),
        (
            code_at,
            SecInfo::reg(PageFlags::R | PageFlags::X),
            code().to_vec(),
        ),
        (manifest_at, SecInfo::reg(PageFlags::R), manifest_page),
    ];
    let mut at = scripts_at;
    for script in &scripts {
        pieces.push((at, rw, script_pages(script)));
        at += SCRIPT_PAGES * PAGE;
    }
    let entry = code_at + (&raw const script_entry as u64 - &raw const script_begin as u64);
    for (index, script) in (0..).zip(&scripts) {
        let area = layout.thread(index);
        let tcs = Tcs {
            ossa: area + thread::SSA,
            nssa: 3,
            oentry: entry,
            ofsbase: 0,
            ogsbase: area + thread::DATA,
        };
        let script_at = scripts_at + u64::from(index) * SCRIPT_PAGES * PAGE;
        let mut data = vec![0; PAGE_SIZE];
        for (offset, value) in [
            (40, script_at),
            (48, script_at + RESULTS as u64),
            (56, script_at + DATA as u64),
            (64, script.data.len() as u64),
        ] {
            data[offset..offset + 8].copy_from_slice(&value.to_le_bytes());
        }
        pieces.push((area + thread::TCS, SecInfo::tcs(), tcs.to_page().to_vec()));
        pieces.push((area + thread::SSA, rw, vec![0; 3 * PAGE_SIZE]));
        pieces.push((area + thread::DATA, rw, data));
    }
    write_image(dir, &layout, code_at, &pieces)
}

fn write_image(
    dir: &Path,
    layout: &Layout,
    gate: u64,
    pieces: &[(u64, SecInfo, Vec<u8>)],
) -> PathBuf {
    let mut measurement = Measurement::ecreate(1, layout.elrange);
    let mut source = Header::encoded_len(pieces.len()) as u64;
    let mut runs = Vec::new();
    let mut bytes = Vec::new();
    for (offset, secinfo, content) in pieces {
        let pages = content.as_chunks::<PAGE_SIZE>().0;
        for (index, page) in (0..).zip(pages) {
            measurement.measured_page(offset + index * PAGE, secinfo, page);
        }
        runs.push(Run {
            offset: *offset,
            pages: u32::try_from(pages.len()).unwrap(),
            secinfo: *secinfo,
            measured: true,
            source: Some(source),
        });
        source += content.len() as u64;
        bytes.extend_from_slice(content);
    }
    let attributes = Attributes {
        flags: Flags::MODE64BIT | Flags::KSS | Flags::DEBUG,
        xfrm: 0xe7,
    };
    let header = Header {
        ssa_frame_size: 1,
        elrange: layout.elrange,
        attributes,
        miscselect: MiscSelect::EXINFO,
        gate,
        runs,
    };
    let path = dir.join("enclave.img");
    std::fs::write(&path, [header.encode(), bytes].concat()).unwrap();
    let body = Body {
        vendor: 0,
        date: 0x2026_0101,
        sw_defined: 0,
        miscselect: MiscSelect::EXINFO,
        misc_mask: MiscSelect::from_bits_retain(u32::MAX),
        isv_family_id: [0; 16],
        attributes: Attributes {
            xfrm: 7,
            ..attributes
        },
        attribute_mask: Attributes {
            flags: Flags::from_bits_retain(!Flags::INIT.bits()),
            xfrm: !0xe0,
        },
        mrenclave: measurement.finish(),
        isv_ext_prod_id: [0; 16],
        isv_prod_id: 0,
        isv_svn: 0,
    };
    std::fs::write(dir.join("enclave.img.sig"), sign(body)).unwrap();
    path
}

/// Signs with a key that protects nothing.
fn sign(body: Body) -> [u8; Sigstruct::SIZE] {
    use base64::Engine as _;
    let pem = include_str!("../../../sgx-emu/tests/support/signing-key.insecure.pem");
    let text: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
    let der = base64::engine::general_purpose::STANDARD
        .decode(text)
        .unwrap();
    let pair = KeyPair::from_pkcs8(&der).unwrap();
    let mut signature = vec![0; KEY_SIZE];
    let random = aws_lc_rs::rand::SystemRandom::new();
    pair.sign(
        &RSA_PKCS1_SHA256,
        &random,
        &body.signed_bytes(),
        &mut signature,
    )
    .unwrap();
    signature.reverse();
    // RSAPublicKey: two four-byte headers and a zero before the 384 bytes (RFC 8017 A.1.1).
    let mut modulus = pair.public_key().as_ref()[9..9 + KEY_SIZE].to_vec();
    modulus.reverse();
    Sigstruct::new(
        body,
        modulus.try_into().unwrap(),
        signature.try_into().unwrap(),
    )
    .unwrap()
    .to_bytes()
}

/// The launcher on an image, emulated; `strict` as the option.
pub(crate) fn launch(image: &Path, strict: bool, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_launch"));
    command.arg("--image").arg(image);
    if strict {
        command.arg("--strict");
    }
    command.arg("--").args(arguments);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("SCONE_") {
            command.env_remove(name);
        }
    }
    command.env("SCONE_MODE", "sim");
    command
}
