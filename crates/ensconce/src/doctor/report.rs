// SPDX-License-Identifier: Apache-2.0
//! How results are shown.

use std::process::ExitCode;

use serde::Serialize;

use crate::exit::{Class, Classify as _, Failure};

/// Version of the JSON form.
const VERSION: u32 = 1;

/// What a check came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Outcome {
    /// As it should be.
    Ok,
    /// Something that not everybody needs will not work.
    Warn,
    /// Enclaves will not work.
    Fail,
}

impl Outcome {
    const fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "fail",
        }
    }
}

/// One check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Check {
    /// What was looked at.
    pub(super) name: &'static str,
    /// What it came to.
    pub(super) outcome: Outcome,
    /// What was found.
    pub(super) found: String,
    /// What to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) next: Option<String>,
}

impl Check {
    /// All is well.
    pub(super) fn ok(name: &'static str, found: impl Into<String>) -> Self {
        Self {
            name,
            outcome: Outcome::Ok,
            found: found.into(),
            next: None,
        }
    }

    /// Something that not everybody needs will not work.
    pub(super) fn warn(
        name: &'static str,
        found: impl Into<String>,
        next: impl Into<String>,
    ) -> Self {
        Self {
            name,
            outcome: Outcome::Warn,
            found: found.into(),
            next: Some(next.into()),
        }
    }

    /// Enclaves will not work.
    pub(super) fn fail(
        name: &'static str,
        found: impl Into<String>,
        next: impl Into<String>,
    ) -> Self {
        Self {
            outcome: Outcome::Fail,
            ..Self::warn(name, found, next)
        }
    }
}

/// For people.
pub(super) fn table(checks: &[Check]) -> String {
    let width = checks.iter().map(|check| check.name.len()).max();
    let width = width.unwrap_or_default();
    let mut text = String::new();
    for check in checks {
        let word = check.outcome.word();
        text.push_str(&format!(
            "{word:<4}  {:<width$}  {}\n",
            check.name, check.found
        ));
        if let Some(next) = &check.next {
            text.push_str(&format!("{:<4}  {:<width$}  -> {next}\n", "", ""));
        }
    }
    text
}

/// For programs.
pub(super) fn json(checks: &[Check], flag: Option<&str>) -> Result<String, Failure> {
    let text = serde_json::to_string_pretty(&serde_json::json!({
        "version": VERSION,
        "checks": checks,
        "sgx_device": flag,
    }));
    text.map(|text| text + "\n")
        .class(Class::Internal, "Cannot write the report")
}

/// 1 if anything failed.
pub(super) fn exit_code(checks: &[Check]) -> ExitCode {
    let has_failed = checks.iter().any(|check| check.outcome == Outcome::Fail);
    ExitCode::from(u8::from(has_failed))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some() -> Vec<Check> {
        vec![
            Check::ok("kernel", "Linux 6.18"),
            Check::warn("docker", "no daemon", "start it"),
        ]
    }

    #[test]
    fn tables_line_up_and_tell_the_next_step() {
        assert_eq!(
            table(&some()),
            "ok    kernel  Linux 6.18\nwarn  docker  no daemon\n              -> start it\n"
        );
    }

    #[test]
    fn only_failures_change_the_exit_code() {
        let mut checks = some();
        assert_eq!(exit_code(&checks), ExitCode::SUCCESS);
        checks.push(Check::fail("x", "y", "z"));
        assert_eq!(exit_code(&checks), ExitCode::FAILURE);
    }
}
