// SPDX-License-Identifier: Apache-2.0
//! A launcher that attacks its own enclave, for tests of rules S12 and S17. It
//! exists only with the feature `hostile`; released launchers do not have it.
//!
//! `ENSCONCE_HOSTILE` holds `name=number` pairs, separated by commas:
//!
//! | name | meaning |
//! |---|---|
//! | `kind` | 0 interrupt, 1 #PF, 2 #UD, 3 #GP, 4 any of them in turn |
//! | `every` | attack before each n-th instruction; 0 never |
//! | `from`, `to` | attack only code in these addresses |
//! | `repeat` | how often each claim comes again at ERESUME |
//! | `lie` | of 1000 host calls, how many get a false answer |
//! | `seed` | of the choices |

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context as _, Result, bail};
use enclave_abi::call::{Arg, Op};
use sgx::ssa::vector;
use sgx_emu::hostile::{Attacker, Injection};

use crate::area::CallArea;

/// The variable that holds the plan.
pub const VARIABLE: &str = "ENSCONCE_HOSTILE";

/// What to do to the enclave.
#[derive(Debug, Default)]
pub struct Plan {
    kind: u64,
    every: u64,
    from: u64,
    to: u64,
    repeat: u64,
    lie: u64,
    /// State of the choices.
    state: AtomicU64,
    /// Instructions seen in the attacked addresses.
    seen: AtomicU64,
    /// Claims still to be repeated.
    left: AtomicU64,
}

impl Plan {
    /// The plan of the process's environment, if there is one.
    ///
    /// # Errors
    /// A text that is no plan.
    pub fn of_process() -> Result<Option<Arc<Self>>> {
        match std::env::var(VARIABLE) {
            Ok(text) => Ok(Some(Arc::new(Self::parse(&text)?))),
            Err(_) => Ok(None),
        }
    }

    /// Parses the variable's value.
    ///
    /// # Errors
    /// Unknown names, values that are no numbers.
    pub fn parse(text: &str) -> Result<Self> {
        let mut plan = Self {
            to: u64::MAX,
            ..Self::default()
        };
        for pair in text.split(',') {
            let (name, value) = pair
                .split_once('=')
                .with_context(|| format!("{VARIABLE}: '{pair}' is no name=number"))?;
            let number = match value.strip_prefix("0x") {
                Some(digits) => u64::from_str_radix(digits, 16),
                None => value.parse(),
            }
            .with_context(|| format!("{VARIABLE}: '{value}' is no number"))?;
            match name {
                "kind" => plan.kind = number,
                "every" => plan.every = number,
                "from" => plan.from = number,
                "to" => plan.to = number,
                "repeat" => plan.repeat = number,
                "lie" => plan.lie = number,
                "seed" => *plan.state.get_mut() = number,
                _ => bail!("{VARIABLE}: there is no '{name}'"),
            }
        }
        Ok(plan)
    }

    /// Whether instructions are attacked.
    #[must_use]
    pub fn attacks_instructions(&self) -> bool {
        self.every > 0
    }

    /// The next pseudo-random number (splitmix64).
    fn choose(&self) -> u64 {
        const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
        let mut value = self
            .state
            .fetch_add(STEP, Ordering::Relaxed)
            .wrapping_add(STEP);
        value = (value ^ value >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        value = (value ^ value >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        value ^ value >> 31
    }

    fn injection(&self, rip: u64) -> Injection {
        let kind = if self.kind == 4 {
            self.choose() % 4
        } else {
            self.kind
        };
        let exception = |vector, error, address| Injection::Exception {
            vector,
            error,
            address,
        };
        match kind {
            0 => Injection::Interrupt,
            2 => exception(vector::UD, 0, 0),
            3 => exception(vector::GP, 0, 0),
            _ => {
                let random = self.choose();
                // The page of the code, an address near it, null, anything.
                let address = match random % 4 {
                    0 => rip,
                    1 => rip ^ random >> 40,
                    2 => random >> 56,
                    _ => random >> 16,
                };
                // Present, user and SGX; write and fetch as they come.
                let error = 0x8005 | (random >> 8 & 0x12);
                exception(vector::PF, u32::try_from(error).unwrap_or(0), address)
            }
        }
    }

    /// Spoils the answer of a host call, now and then.
    pub fn spoil(&self, op: Option<Op>, area: &mut CallArea, result: i64) -> i64 {
        if self.lie == 0 || self.choose() % 1000 >= self.lie {
            return result;
        }
        let random = self.choose();
        if random & 1 == 0 {
            self.spoil_output(op, area);
        }
        match random >> 1 & 7 {
            0 => result,
            1 => result.wrapping_add(1),
            2 => result.wrapping_neg(),
            3 => i64::MAX,
            4 => i64::MIN,
            5 => -4096,
            6 => -((random >> 8) as i64 & 0xfff),
            _ => (random >> 8) as i64,
        }
    }

    fn spoil_output(&self, op: Option<Op>, area: &mut CallArea) {
        let mut index = 0;
        for arg in op.map_or(&[][..], Op::args) {
            if *arg == Arg::Out
                && let Ok(bytes) = area.output(index)
            {
                // Structures lie at the beginning; data may be long.
                for _ in 0..4 {
                    let random = self.choose();
                    let len = bytes.len().clamp(1, 256);
                    if let Some(byte) = bytes.get_mut(random as usize % len) {
                        *byte = (random >> 32) as u8;
                    }
                }
            }
            index += match arg {
                Arg::Value | Arg::Fd => 1,
                Arg::In | Arg::Out => 2,
            };
        }
    }
}

impl Attacker for Plan {
    fn before_instruction(&self, rip: u64, cssa: u64) -> Injection {
        if cssa > 0 || !(self.from..self.to).contains(&rip) {
            return Injection::Nothing;
        }
        let seen = self.seen.fetch_add(1, Ordering::Relaxed);
        if self.every == 0 || !seen.is_multiple_of(self.every) {
            return Injection::Nothing;
        }
        self.left.store(self.repeat, Ordering::Relaxed);
        self.injection(rip)
    }

    fn before_resume(&self) -> Injection {
        let left = self.left.load(Ordering::Relaxed);
        if left == 0 {
            return Injection::Nothing;
        }
        self.left.store(left - 1, Ordering::Relaxed);
        self.injection(0x10_0000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plans_are_read_and_nonsense_is_refused() {
        let plan = Plan::parse("kind=1,every=7,from=0x40000000,seed=3").unwrap();
        assert!(plan.attacks_instructions());
        assert_eq!(plan.before_instruction(0x1000, 0), Injection::Nothing);
        assert_ne!(plan.before_instruction(0x4000_0000, 0), Injection::Nothing);
        assert_eq!(plan.before_instruction(0x4000_0001, 0), Injection::Nothing);
        assert!(Plan::parse("kind").is_err());
        assert!(Plan::parse("speed=1").is_err());
        assert!(Plan::parse("kind=x").is_err());
    }
}
