// SPDX-License-Identifier: Apache-2.0
//! Damaged images and senseless call words: refused, never a panic.

#![allow(
    clippy::unwrap_used,
    clippy::multiple_unsafe_ops_per_block,
    reason = "tests stop at the first surprise"
)]

#[path = "support/script_enclave.rs"]
mod support;

use std::fs::File;
use std::io::Write as _;
use std::sync::Arc;

use enclave_abi::call::{ARGS, ARGS_OFFSET, Arg, Op};
use enclave_host::area::{AreaMemory, CallArea};
use enclave_host::calls::{self, Host};
use enclave_host::image::Image;
use enclave_host::root::Root;
use proptest::prelude::*;
use support::Script;

fn open(bytes: &[u8]) -> Result<Image, enclave_host::image::ImageError> {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(bytes).unwrap();
    Image::open(&File::open(file.path()).unwrap())
}

fn good_image() -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let path = support::build(dir.path(), std::array::from_fn(|_| Script::default()));
    std::fs::read(path).unwrap()
}

#[test]
fn truncated_images_are_refused() {
    let good = good_image();
    assert!(open(&good).is_ok());
    for len in [0, 1, 8, 60, 4095, 4096, 8191, good.len() - 4096] {
        assert!(open(&good[..len]).is_err(), "{len}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn damaged_images_never_panic(changes in proptest::collection::vec((0usize..20_000, any::<u8>()), 1..8)) {
        let mut image = good_image();
        for (at, value) in changes {
            let at = at % image.len();
            image[at] = value;
        }
        if let Ok(image) = open(&image) {
            // Whatever was accepted can be measured.
            let _ = image.mrenclave();
        }
    }

    #[test]
    fn senseless_call_words_are_answered(words in proptest::array::uniform8(any::<u64>()), op in any::<prop::sample::Index>()) {
        let dir = tempfile::tempdir().unwrap();
        let host = Host {
            root: Arc::new(Root::below(File::open(dir.path()).unwrap().into())),
            // Nothing may block here.
            pending: Arc::new(1.into()),
            #[cfg(feature = "hostile")]
            plan: None,
        };
        let op = Op::ALL[op.index(Op::ALL.len())];
        // The process's own timer and log are not for random use.
        prop_assume!(!matches!(op, Op::SetTimer | Op::Log | Op::Complain));
        let memory = AreaMemory::map().unwrap();
        let mut words = words;
        let mut at = 0;
        for arg in op.args() {
            if *arg == Arg::Fd {
                // The test's own descriptors are not for random use either.
                words[at] |= 1 << 20;
            }
            at += if matches!(arg, Arg::In | Arg::Out) { 2 } else { 1 };
        }
        for (index, word) in words.iter().enumerate().take(ARGS) {
            // SAFETY: a header word of the mapped area.
            unsafe { memory.base().add(ARGS_OFFSET + 8 * index).cast::<u64>().write(*word) };
        }
        // SAFETY: `memory` outlives the area and nothing else wraps it.
        let mut area = unsafe { CallArea::new(memory.base()) };
        let made = calls::serve(&host, op, &mut area);
        // Descriptors that were made are not of interest.
        if let (Some(fd @ 3..), Op::Eventfd | Op::EpollCreate | Op::Socket | Op::Open) = (made, op) {
            // SAFETY: made by the call, owned by nobody.
            unsafe { libc::close(i32::try_from(fd).unwrap()) };
        }
    }
}
