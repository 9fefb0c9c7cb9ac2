// SPDX-License-Identifier: Apache-2.0
//! Prints how fast files are sealed and read, in megabytes of plaintext per second of one core.
//! Run it with `--release`; an argument gives the file size in MiB (default 256).

use std::error::Error;
use std::time::Instant;

use shieldfs::backing::InPlace;
use shieldfs::entry::Meta;
use shieldfs::key::FspfKey;
use shieldfs::read::Fspf;
use shieldfs::region::{Class, Regions};
use shieldfs::seal::Sealer;

fn main() -> Result<(), Box<dyn Error>> {
    let mebibytes: usize = match std::env::args().nth(1) {
        Some(text) => text.parse()?,
        None => 256,
    };
    let content: Vec<u8> = (0..mebibytes << 20)
        .map(|at| at.wrapping_mul(2_654_435_761).to_le_bytes()[2])
        .collect();
    for class in [Class::Authenticated, Class::Encrypted] {
        measure(class, &content)?;
    }
    Ok(())
}

fn measure(class: Class, content: &[u8]) -> Result<(), Box<dyn Error>> {
    let key = FspfKey::from_bytes([1; 32]);
    let mut sealer = Sealer::new(key.clone(), Regions::uniform(class));
    let mut stored = Vec::with_capacity(content.len() + content.len() / 4096);
    let start = Instant::now();
    let meta = Meta::with_mode(0o644);
    if class == Class::Encrypted {
        sealer.add_file(b"/file", meta, content, &mut stored)?;
    } else {
        sealer.add_file(b"/file", meta, content, &mut InPlace)?;
    }
    report(class, "sealed", content.len(), start);
    let stored = if class == Class::Encrypted {
        &stored
    } else {
        content
    };

    let sealed = sealer.finish()?;
    let mut fspf = Fspf::open(&sealed.bytes[..], &key, sealed.tag)?;
    let entry = fspf.lookup(b"/file")?.ok_or("the file was just added")?;
    let reader = fspf.open_file(&entry)?;
    let mut buffer = vec![0; reader.buffer_len()];
    for _ in 0..3 {
        let start = Instant::now();
        let mut read = 0;
        for index in 0..reader.geometry().chunk_count() {
            read += reader.read_chunk(&mut fspf, index, stored, &mut buffer)?;
        }
        report(class, "read", read, start);
    }
    Ok(())
}

fn report(class: Class, what: &str, bytes: usize, start: Instant) {
    let seconds = start.elapsed().as_secs_f64();
    #[expect(
        clippy::cast_precision_loss,
        reason = "a rate is printed, not computed with"
    )]
    let rate = bytes as f64 / 1e6 / seconds;
    println!("{class:>13} {what:<6} {rate:7.0} MB/s");
}
