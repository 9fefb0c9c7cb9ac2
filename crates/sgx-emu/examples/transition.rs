// SPDX-License-Identifier: Apache-2.0
//! Measures the emulated processor: `cargo run --release -p sgx-emu --example transition`.
//! Times are of this machine and say nothing about SGX hardware.

#![allow(
    clippy::unwrap_used,
    clippy::cast_precision_loss,
    reason = "a measurement stops at the first surprise"
)]

#[path = "../tests/support/tiny_enclave.rs"]
mod support;

use std::time::Instant;

use sgx::leaf::enclu;
use sgx::secinfo::{PageFlags, SecInfo};
use sgx_emu::Mode;
use support::{DYNAMIC, Tiny, action, word};

/// Nanoseconds per round, the best of several runs.
fn best(rounds: u64, mut run: impl FnMut(u64)) -> f64 {
    (0..7)
        .map(|_| {
            let start = Instant::now();
            run(rounds);
            start.elapsed().as_nanos() as f64 / rounds as f64
        })
        .fold(f64::INFINITY, f64::min)
}

fn main() {
    for (mode, rounds) in [(Mode::Fast, 200_000), (Mode::Strict, 20_000)] {
        let mut tiny = Tiny::start(mode);
        let exit = best(rounds, |rounds| {
            for n in 0..rounds {
                tiny.run(action::ECHO, n);
            }
        });
        println!("{mode:?}: EENTER + EEXIT {exit:.0} ns");

        let (trap, at) = support::snippet("syscall");
        tiny.set(word::SKIP, 2);
        let fault = best(rounds / 20, |rounds| {
            for _ in 0..rounds {
                tiny.run(action::CALL, trap);
            }
        });
        assert_eq!(tiny.word(word::RIP), at);
        println!("{mode:?}: the same with a trapped system call {fault:.0} ns");

        let fresh = SecInfo::reg(PageFlags::R | PageFlags::W | PageFlags::PENDING);
        tiny.accept(fresh, DYNAMIC);
        tiny.set(64, tiny.data + word::SECINFO_RW);
        tiny.set(72, DYNAMIC);
        tiny.set(104, enclu::EACCEPT.into());
        let leaf = best(rounds, |rounds| {
            tiny.run(action::LEAF_STORM, rounds);
        });
        println!("{mode:?}: EACCEPT that changes nothing {leaf:.0} ns");

        let mut page = DYNAMIC + 0x10_0000;
        let accept = best(rounds / 100, |rounds| {
            for _ in 0..rounds {
                tiny.accept(fresh, page);
                page += 0x1000;
            }
        });
        println!("{mode:?}: EENTER + EACCEPT of a new page + EEXIT {accept:.0} ns");
    }
}
