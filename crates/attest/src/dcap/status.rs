// SPDX-License-Identifier: Apache-2.0
//! TCB statuses and how they combine.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Status of a platform, as Intel's collateral spells it. Any other spelling is
/// an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum TcbStatus {
    /// Nothing to do.
    UpToDate,
    /// Software in the enclave must mitigate.
    SWHardeningNeeded,
    /// The platform's configuration exposes it.
    ConfigurationNeeded,
    /// Both of the above.
    ConfigurationAndSWHardeningNeeded,
    /// Microcode or platform enclaves lack updates.
    OutOfDate,
    /// Out of date, and the configuration exposes the platform.
    OutOfDateConfigurationNeeded,
    /// The platform must not be trusted; nothing tolerates this.
    Revoked,
}

impl TcbStatus {
    /// The platform's status after a component of it (the quoting enclave) was
    /// found to have the status `component`. A component knows only up to date,
    /// revoked and everything else, which counts as out of date.
    #[must_use]
    pub const fn with_component(self, component: Self) -> Self {
        match (self, component) {
            (Self::Revoked, _) | (_, Self::Revoked) => Self::Revoked,
            (status, Self::UpToDate) => status,
            (Self::UpToDate | Self::SWHardeningNeeded | Self::OutOfDate, _) => Self::OutOfDate,
            (
                Self::ConfigurationNeeded
                | Self::ConfigurationAndSWHardeningNeeded
                | Self::OutOfDateConfigurationNeeded,
                _,
            ) => Self::OutOfDateConfigurationNeeded,
        }
    }
}

impl fmt::Display for TcbStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::TcbStatus::{self, *};

    const ALL: [TcbStatus; 7] = [
        UpToDate,
        SWHardeningNeeded,
        ConfigurationNeeded,
        ConfigurationAndSWHardeningNeeded,
        OutOfDate,
        OutOfDateConfigurationNeeded,
        Revoked,
    ];

    #[test]
    fn an_up_to_date_component_changes_nothing() {
        for status in ALL {
            assert_eq!(status.with_component(UpToDate), status);
        }
    }

    #[test]
    fn a_revoked_component_revokes() {
        for status in ALL {
            assert_eq!(status.with_component(Revoked), Revoked);
            assert_eq!(Revoked.with_component(status), Revoked);
        }
    }

    #[test]
    fn an_outdated_component_makes_the_platform_outdated() {
        let expected = [
            OutOfDate,
            OutOfDate,
            OutOfDateConfigurationNeeded,
            OutOfDateConfigurationNeeded,
            OutOfDate,
            OutOfDateConfigurationNeeded,
            Revoked,
        ];
        for (status, expected) in ALL.into_iter().zip(expected) {
            assert_eq!(status.with_component(OutOfDate), expected, "{status}");
            assert_eq!(
                status.with_component(SWHardeningNeeded),
                expected,
                "{status}"
            );
        }
    }

    #[test]
    fn unknown_spellings_are_errors() {
        for text in ["\"uptodate\"", "\"Other\"", "\"\"", "null", "0"] {
            assert!(serde_json::from_str::<TcbStatus>(text).is_err(), "{text}");
        }
        for status in ALL {
            let text = format!("\"{status}\"");
            assert_eq!(serde_json::from_str::<TcbStatus>(&text).ok(), Some(status));
        }
    }
}
