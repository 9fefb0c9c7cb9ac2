// SPDX-License-Identifier: Apache-2.0
//! `launch --probe --`: what processor and kernel allow, as one line of JSON for
//! `ensconce doctor`. Null says that all is well, a text says why not.

use std::arch::x86_64::__cpuid_count;
use std::ffi::OsString;
use std::io;

use enclave_abi::cpuid;
use enclave_abi::layout::USER_START;
use sgx::attributes::{XFRM_ALLOWED, XFRM_REQUIRED};

/// An enclave of the default size ends here.
const USUAL_END: usize = 8 << 30;

/// Whether the arguments ask for the probe and for nothing else. Like other
/// options it ends at `--`, so that a program may have one of the same name.
#[must_use]
pub fn is_wanted(arguments: &[OsString]) -> bool {
    matches!(arguments, [_, probe, end] if probe == "--probe" && end == "--")
}

/// Asks processor and kernel; changes nothing.
#[must_use]
pub fn probe() -> String {
    let support = sgx_emu::platform::probe();
    let xfrm = support.xcr0 & XFRM_ALLOWED;
    let mut missing = missing_features(xfrm);
    if xfrm & XFRM_REQUIRED != XFRM_REQUIRED {
        missing.push("AVX state in XCR0".to_owned());
    }
    let missing: Vec<String> = missing.iter().map(|text| quoted(text)).collect();
    format!(
        "{{\"syscall_dispatch\":{},\"cpuid_faulting\":{},\"elrange\":{},\"missing_cpu\":[{}]}}",
        outcome(&support.syscall_dispatch),
        outcome(&support.cpuid_faulting),
        outcome(&reserve()),
        missing.join(",")
    )
}

/// What the measured CPUID table promises programs and this processor lacks, for
/// enclaves with these state components.
#[must_use]
pub fn missing_features(xfrm: u64) -> Vec<String> {
    cpuid::missing(xfrm, |leaf, subleaf| {
        let real = __cpuid_count(leaf, subleaf);
        [real.eax, real.ebx, real.ecx, real.edx]
    })
    .map(|(leaf, subleaf, register, bits)| {
        let register = ["EAX", "EBX", "ECX", "EDX"].get(register).unwrap_or(&"");
        format!("CPUID {leaf:x}.{subleaf:x} {register} {bits:#x}")
    })
    .collect()
}

/// Reserves the addresses of an enclave for a moment.
fn reserve() -> io::Result<()> {
    let start = usize::try_from(USER_START).map_err(io::Error::other)?;
    let len = USUAL_END - start;
    let flags =
        libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | libc::MAP_FIXED_NOREPLACE;
    // SAFETY: NOREPLACE makes the kernel refuse to touch existing mappings.
    let mapped = unsafe { libc::mmap(start as *mut _, len, libc::PROT_NONE, flags, -1, 0) };
    if mapped == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: exactly the mapping made above, which nobody has used.
    let done = unsafe { libc::munmap(mapped, len) };
    if done == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

fn outcome(result: &io::Result<()>) -> String {
    result
        .as_ref()
        .map_or_else(|error| quoted(&error.to_string()), |()| "null".to_owned())
}

/// A JSON string of printable ASCII.
fn quoted(text: &str) -> String {
    let text: String = text
        .chars()
        .map(|char| match char {
            '"' | '\\' => '\'',
            ' '..='~' => char,
            _ => '?',
        })
        .collect();
    format!("\"{text}\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_option_alone_asks_for_it() {
        let wanted = |arguments: &[&str]| {
            is_wanted(&arguments.iter().map(OsString::from).collect::<Vec<_>>())
        };
        assert!(wanted(&["launch", "--probe", "--"]));
        assert!(!wanted(&["launch", "--probe"]));
        assert!(!wanted(&["launch", "--probe", "--", "x"]));
        assert!(!wanted(&["launch", "--", "--probe"]));
    }

    #[test]
    fn texts_stay_within_their_quotes() {
        assert_eq!(quoted("a\"b\\c\n\u{e9}"), "\"a'b'c??\"");
        let error = Err(io::Error::from_raw_os_error(libc::ENODEV));
        assert_eq!(outcome(&error), "\"No such device (os error 19)\"",);
        assert_eq!(outcome(&Ok(())), "null");
    }

    #[test]
    fn every_question_has_an_answer() {
        let answer = probe();
        for member in [
            "syscall_dispatch",
            "cpuid_faulting",
            "elrange",
            "missing_cpu",
        ] {
            assert!(answer.contains(&format!("\"{member}\":")), "{answer}");
        }
    }
}
