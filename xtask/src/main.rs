// SPDX-License-Identifier: Apache-2.0
//! The project's chores, one file each. `make` lists them for people.

mod audit;
mod dist;
mod enclave;
mod lint;
mod run;
mod show;
mod style;
mod tests;

use anyhow::{Result, bail};

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let verb = args.next().unwrap_or_default();
    match verb.as_str() {
        "audit" => audit::audit(),
        "bench" => show::bench(),
        "demo" => show::demo(),
        "dist" => dist::dist(),
        "lint" => lint::lint(),
        "test" => tests::test(),
        other => {
            bail!("no chore is called `{other}`; there are: audit, bench, demo, dist, lint, test")
        }
    }
}
