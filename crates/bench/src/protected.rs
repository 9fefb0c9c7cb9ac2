// SPDX-License-Identifier: Apache-2.0
//! Reading a large protected file: decryption and authentication, or
//! authentication alone.

use std::process::Command;

use anyhow::{Result, ensure};
use demo::services::Services;

use crate::Bench;
use crate::image::{Unpacked, convert, native};
use crate::report::Report;
use crate::sample::{RUNS, median, side_by_side};
use crate::subject::{Link, Mode, compile, numbers, sources};

const BYTES: usize = 256 << 20;
const PATH: &str = "/data/big";

/// 256 MiB, once encrypted and once authenticated.
pub(crate) fn measure(bench: &Bench, report: &mut Report) -> Result<()> {
    let services = Services::start(&bench.programs, &bench.work)?;
    let program = compile(&sources(), "read", Link::Static, &bench.work)?;
    let big = content();
    let small = [1; 100];

    let plain = bench.work.join("big");
    std::fs::write(&plain, &big)?;
    let native_rate = rate(&|| {
        let mut command = Command::new(&program);
        command.arg(&plain);
        command
    })?;

    for (what, name, options) in [
        ("encrypted", "big-encrypted", &["--dir=/data"][..]),
        ("authenticated", "big-authenticated", &[]),
    ] {
        let start = |name: &str, content: &[u8]| -> Result<Unpacked> {
            let dir = bench.work.join(name);
            let files = vec![("data/", 0o755, None), ("data/big", 0o644, Some(content))];
            let image = native(&dir, &program, &[PATH], files)?;
            let options = [options, &["--heap=64M"]].concat();
            let image = convert(bench, &services, &image, &dir, &options)?;
            Unpacked::new(bench, &image, &dir.join("root"))
        };
        let (with_big, with_small) = (start(name, &big)?, start(&format!("{name}-no"), &small)?);
        let inside = rate(&|| with_big.command(Mode::Fast))?;
        // What the whole process costs beyond the same start with a small file.
        let [all, rest] = side_by_side([&|| with_big.command(Mode::Fast), &|| {
            with_small.command(Mode::Fast)
        }])?;
        let seconds = all.median_cpu() - rest.median_cpu();
        report.bar(
            &format!("protected read of 256 MiB, {what}"),
            megabytes() / seconds,
            "MB per CPU second",
            600.0,
            true,
            &format!("by the program's own clock {inside:.0}; native {native_rate:.0}"),
        );
    }
    Ok(())
}

/// Megabytes per CPU second that the program itself counts: median of all runs.
fn rate(make: &dyn Fn() -> Command) -> Result<f64> {
    let mut rates = Vec::new();
    for _ in 0..RUNS {
        let printed = numbers(&mut make())?;
        let [bytes, nanoseconds] = printed[..] else {
            anyhow::bail!("read printed {printed:?}");
        };
        ensure!(bytes == size(), "read {bytes} of {BYTES} bytes");
        rates.push(bytes / 1e6 / (nanoseconds / 1e9));
    }
    rates.sort_by(f64::total_cmp);
    Ok(median(&rates))
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
fn size() -> f64 {
    BYTES as f64
}

fn megabytes() -> f64 {
    size() / 1e6
}

/// Pages that all differ and are no holes, yet cost the image's writer little.
fn content() -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut page = [0; 4096];
    for word in page.chunks_exact_mut(8) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        word.copy_from_slice(&state.to_le_bytes());
    }
    let mut all = page.repeat(BYTES / page.len());
    for (number, page) in all.chunks_exact_mut(page.len()).enumerate() {
        page[..8].copy_from_slice(&number.to_le_bytes());
    }
    all
}

#[cfg(test)]
mod tests {
    use super::{BYTES, content};

    #[test]
    fn the_file_has_no_two_equal_pages_and_no_hole() {
        let content = content();
        assert_eq!(content.len(), BYTES);
        let pages: std::collections::HashSet<&[u8]> = content.chunks(4096).collect();
        assert_eq!(pages.len(), BYTES / 4096);
        assert!(pages.iter().all(|page| page.iter().any(|&byte| byte != 0)));
    }
}
