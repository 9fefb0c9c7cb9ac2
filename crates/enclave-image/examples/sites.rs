// SPDX-License-Identifier: Apache-2.0
//! Lists the system-call sites of ELF files: counts, or every site with `-v`.

use std::time::Instant;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut verbose = false;
    for path in std::env::args().skip(1) {
        if path == "-v" {
            verbose = true;
            continue;
        }
        let file = std::fs::read(&path)?;
        let start = Instant::now();
        let found = enclave_image::sites::find(&file)?;
        let took = start.elapsed();
        println!(
            "{path}: {} of {} in {took:?}",
            found.sites.len(),
            found.decoded
        );
        for site in found.sites.iter().filter(|_| verbose) {
            println!("{:#x} -{} +{}", site.at, site.before, site.after);
        }
    }
    Ok(())
}
