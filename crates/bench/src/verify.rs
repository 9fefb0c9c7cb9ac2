// SPDX-License-Identifier: Apache-2.0
//! What verifying a quote of a real machine costs, and that no flipped bit of
//! it or of its collateral changes a verdict: every single one.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};
use demo::process::run;

use crate::Bench;
use crate::report::Report;

/// A time at which the quote's collateral is valid.
const TIME: &str = "2025-06-30T00:00:00Z";

/// Runs `flip_all` of the verifier's crate over the quote of `ENSCONCE_VECTORS`.
pub(crate) fn measure(_: &Bench, report: &mut Report) -> Result<()> {
    let vectors = std::env::var_os("ENSCONCE_VECTORS").context(
        "ENSCONCE_VECTORS is not set: it names a directory with sgx/quote_v3.bin and \
         sgx/quote_v3.collateral.json",
    )?;
    let sgx = Path::new(&vectors).join("sgx");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let printed = run(Command::new(cargo)
        .args([
            "run",
            "--release",
            "--locked",
            "--quiet",
            "--package",
            "attest",
        ])
        .args(["--example", "flip_all", "--"])
        .arg(sgx.join("quote_v3.bin"))
        .arg(sgx.join("quote_v3.collateral.json"))
        .arg(TIME))?
    .success("flip_all")?;
    let found = parse(&printed).with_context(|| format!("flip_all printed {printed:?}"))?;
    report.figure(
        "verification of a quote with its collateral, best",
        found.microseconds,
        "us",
        "v3, three certificate chains, two CRLs",
    );
    report.bar(
        "flipped bits that change a verdict",
        found.changed,
        "flips",
        0.0,
        false,
        &format!("{} refused, {} without effect", found.refused, found.same),
    );
    Ok(())
}

#[derive(Debug, PartialEq)]
struct Found {
    microseconds: f64,
    refused: f64,
    same: f64,
    changed: f64,
}

fn parse(printed: &str) -> Option<Found> {
    let after = |words: &str| {
        let (_, rest) = printed.split_once(words)?;
        let end = rest
            .find(|sign: char| !sign.is_ascii_digit())
            .unwrap_or(rest.len());
        rest.get(..end)?.parse().ok()
    };
    Some(Found {
        microseconds: after("one verification: ")?,
        refused: after("flips refused: ")?,
        same: after("without effect: ")?,
        changed: after("with other claims: ")?,
    })
}

#[cfg(test)]
mod tests {
    use super::{Found, parse};

    #[test]
    fn a_changed_verdict_is_not_overlooked() {
        let printed = "one verification: 812 us (best of 200)\nquote, bit 7: other claims\n\
                       flips refused: 10, without effect: 2, with other claims: 1\n";
        let expected = Found {
            microseconds: 812.0,
            refused: 10.0,
            same: 2.0,
            changed: 1.0,
        };
        assert_eq!(parse(printed), Some(expected));
        assert_eq!(parse("one verification: 812 us\n"), None);
    }
}
