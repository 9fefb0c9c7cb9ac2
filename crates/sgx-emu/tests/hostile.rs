// SPDX-License-Identifier: Apache-2.0
//! The attacking processor attacks as it says.

#![allow(
    clippy::unwrap_used,
    clippy::multiple_unsafe_ops_per_block,
    reason = "tests stop at the first surprise"
)]

#[path = "support/tiny_enclave.rs"]
mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use sgx::ssa::{ExitInfo, vector};
use sgx_emu::Mode;
use sgx_emu::hostile::{AttackError, Attacker, Injection};
use support::{TCS, Tiny, action, turn, word};

#[derive(Debug)]
struct Plan {
    seen: AtomicU64,
    claims: AtomicU64,
    inject: Injection,
    again: AtomicU64,
}

impl Attacker for Plan {
    fn before_instruction(&self, _rip: u64, cssa: u64) -> Injection {
        self.seen.fetch_add(1, Ordering::Relaxed);
        if cssa > 0 {
            return Injection::Nothing;
        }
        self.claims.fetch_add(1, Ordering::Relaxed);
        self.inject
    }

    fn before_resume(&self) -> Injection {
        let left = self.again.load(Ordering::Relaxed);
        if left == 0 {
            return Injection::Nothing;
        }
        self.again.store(left - 1, Ordering::Relaxed);
        self.claims.fetch_add(1, Ordering::Relaxed);
        self.inject
    }
}

fn attacked(inject: Injection, again: u64) -> (Tiny, Arc<Plan>) {
    let creation = support::creation();
    let builder = support::build(&creation, Mode::Strict);
    let enclave = support::init(builder, creation.attributes).unwrap();
    let plan = Arc::new(Plan {
        seen: AtomicU64::new(0),
        claims: AtomicU64::new(0),
        inject,
        again: AtomicU64::new(again),
    });
    let attacker: Arc<dyn Attacker> = plan.clone();
    enclave.attack(attacker).unwrap();
    (Tiny::start_on(enclave, TCS), plan)
}

#[test]
fn every_instruction_can_be_interrupted() {
    let _turn = turn();
    let (mut tiny, plan) = attacked(Injection::Interrupt, 0);
    assert_eq!(tiny.run(action::ECHO, 7), (0x55, 8));
    let claims = plan.claims.load(Ordering::Relaxed);
    assert!(claims > 10, "{claims}");
    assert_eq!(tiny.word(word::EXITS), claims);
    assert!(
        plan.seen.load(Ordering::Relaxed) > 2 * claims,
        "the handler is stepped too"
    );
    assert_eq!(tiny.word(word::EXITINFO), 0);
}

#[test]
fn exceptions_can_be_claimed_and_repeated() {
    let _turn = turn();
    let inject = Injection::Exception {
        vector: vector::PF,
        error: 7,
        address: 0x1234_5678,
    };
    let (mut tiny, plan) = attacked(inject, 50);
    tiny.set(word::SKIP, 0);
    assert_eq!(tiny.run(action::ECHO, 7), (0x55, 8));
    let info = ExitInfo::from_bits(u32::try_from(tiny.word(word::EXITINFO)).unwrap());
    assert!(info.valid && info.vector == vector::PF);
    assert_eq!(tiny.word(word::MADDR), 0x1234_5678);
    let claims = plan.claims.load(Ordering::Relaxed);
    assert_eq!(tiny.word(word::EXITS), claims);
    assert!(claims > 60);
}

#[test]
fn fast_mode_cannot_be_attacked() {
    let _turn = turn();
    let tiny = Tiny::start(Mode::Fast);
    let plan = Arc::new(Plan {
        seen: AtomicU64::new(0),
        claims: AtomicU64::new(0),
        inject: Injection::Nothing,
        again: AtomicU64::new(0),
    });
    assert_eq!(tiny.enclave.attack(plan), Err(AttackError::FastMode));
}
