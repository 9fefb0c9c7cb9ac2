// SPDX-License-Identifier: Apache-2.0
//! The CAS that conversions use when none is named.

use cas::client::{Address, Client, State};

use super::report::Check;

const NAME: &str = "default CAS";

/// Whether the client's default CAS answers under its recorded key. Never
/// makes a configuration.
pub(super) fn default_cas() -> Check {
    let none = |found: String| {
        Check::warn(
            NAME,
            found,
            "name one with --cas at conversion; the first use records it",
        )
    };
    let path = match State::default_path() {
        Ok(path) if path.exists() => path,
        Ok(path) => return none(format!("'{}' does not exist yet", path.display())),
        Err(error) => return none(error.to_string()),
    };
    let state = match State::load_or_create(&path) {
        Ok(state) => state,
        Err(error) => {
            let problem = format!("{:#}", anyhow::Error::from(error));
            return Check::fail(NAME, problem, "repair the client's configuration");
        }
    };
    let Some(name) = state.default_cas() else {
        return none(format!("'{}' names none", path.display()));
    };
    let shown = super::printable(name);
    let Some(known) = state.cas(name) else {
        return Check::fail(
            NAME,
            format!(
                "'{shown}' is not among the known ones in '{}'",
                path.display()
            ),
            "correct default_cas, or use --cas once",
        );
    };
    let address = known
        .url
        .strip_prefix("https://")
        .map(str::parse::<Address>);
    let Some(Ok(address)) = address else {
        return Check::fail(
            NAME,
            format!("'{shown}' has an unusable url in '{}'", path.display()),
            "write https://HOST:PORT",
        );
    };
    match Client::new(address, state.pin(name), None).attest() {
        Ok(seen) if seen.dev => Check::ok(
            NAME,
            format!(
                "'{shown}' answers; a DEVELOPMENT CAS, freshness {}",
                super::printable(&seen.freshness)
            ),
        ),
        Ok(seen) => Check::ok(
            NAME,
            format!(
                "'{shown}' answers, freshness {}",
                super::printable(&seen.freshness)
            ),
        ),
        Err(error) => Check::warn(
            NAME,
            format!("{:#}", anyhow::Error::from(error)),
            "start it, or name another one with --cas",
        ),
    }
}
