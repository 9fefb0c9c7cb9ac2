// SPDX-License-Identifier: Apache-2.0
//! Flips every single bit of a real quote and its collateral, one at a time,
//! and counts what verification makes of it. Also measures one verification.
//!
//! `cargo run --release -p attest --example flip_all -- QUOTE COLLATERAL TIME`
//! (time as 2025-06-20T00:00:00Z). Exit code 1 if any flip changes the claims.

use std::process::ExitCode;
use std::time::Instant;

use attest::anchor::Anchor;
use attest::collateral::Collateral;
use attest::dcap::verify;
use attest::time::UnixTime;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [quote, collateral, time] = arguments.as_slice() else {
        eprintln!("usage: flip_all QUOTE COLLATERAL TIME");
        return ExitCode::from(2);
    };
    let (Ok(quote), Ok(bundle), Some(now)) = (
        std::fs::read(quote),
        std::fs::read(collateral),
        UnixTime::parse(time),
    ) else {
        eprintln!("an argument cannot be read");
        return ExitCode::from(2);
    };
    let anchors = [Anchor::intel()];
    let Ok(collateral) = Collateral::from_json(&bundle) else {
        eprintln!("{} is no bundle", arguments[1]);
        return ExitCode::from(2);
    };
    let expected = match verify(&quote, &collateral, &anchors, now) {
        Ok(evidence) => evidence,
        Err(error) => {
            eprintln!("the data does not verify as it is: {error}");
            return ExitCode::from(2);
        }
    };

    let mut best = f64::MAX;
    for _ in 0..200 {
        let begin = Instant::now();
        let _ = verify(&quote, &collateral, &anchors, now);
        best = best.min(begin.elapsed().as_secs_f64());
    }
    println!("one verification: {:.0} us (best of 200)", best * 1e6);

    let (mut refused, mut same, mut changed) = (0_u64, 0_u64, 0_u64);
    let mut count = |result: Result<_, _>, what: &str, bit: usize| match result {
        Err(()) => refused += 1,
        Ok(evidence) if evidence == expected => same += 1,
        Ok(_) => {
            changed += 1;
            println!("{what}, bit {bit}: other claims");
        }
    };
    let mut bytes = quote.clone();
    for bit in 0..quote.len() * 8 {
        bytes[bit / 8] ^= 1 << (bit % 8);
        count(
            verify(&bytes, &collateral, &anchors, now).map_err(|_| ()),
            "quote",
            bit,
        );
        bytes[bit / 8] ^= 1 << (bit % 8);
    }
    let mut bytes = bundle.clone();
    for bit in 0..bundle.len() * 8 {
        bytes[bit / 8] ^= 1 << (bit % 8);
        let result = Collateral::from_json(&bytes)
            .map_err(|_| ())
            .and_then(|collateral| verify(&quote, &collateral, &anchors, now).map_err(|_| ()));
        count(result, "collateral", bit);
        bytes[bit / 8] ^= 1 << (bit % 8);
    }
    println!("flips refused: {refused}, without effect: {same}, with other claims: {changed}");
    if changed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
