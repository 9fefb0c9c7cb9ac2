// SPDX-License-Identifier: Apache-2.0
//! Options of the converter that are recognised and refused, and those that
//! are accepted because nothing needs to be done for them.

use clap::{Arg, ArgAction, ArgMatches, Command, error::Error, parser::ValueSource};

/// Options with a value that are not supported yet.
const VALUES: [&str; 17] = [
    "azure-attestation",
    "base",
    "docker-trust-sign",
    "fs-dir",
    "fs-file",
    "injectedfiles",
    "k8s-helm-expose",
    "k8s-helm-manifests",
    "k8s-helm-output-dir",
    "k8s-helm-set",
    "k8s-helm-volume",
    "k8s-helm-workload-type",
    "namespace",
    "secrets",
    "template",
    "trace",
    "volume",
];

/// Switches that are not supported yet.
const SWITCHES: [&str; 11] = [
    "allow-tcb-vulnerabilities",
    "binary-fs",
    "create-namespace",
    "disable-attestation",
    "disable-binary-fs-defaults",
    "disable-copy-shared-object-dependencies",
    "disable-session-security-attestation",
    "disable-update-session-if-exists",
    "enable-session-upload",
    "generate-sconefile",
    "push-image",
];

/// Options that ask for something this converter never needs.
const NOT_NEEDED: [(&str, bool, &str); 3] = [
    ("cli", true, "no tool image is used"),
    ("crosscompiler", true, "nothing is compiled"),
    (
        "disable-replace-unsconifiable-binaries",
        false,
        "no program is ever replaced",
    ),
];

/// What was given of these options.
#[derive(Debug, Default)]
pub(crate) struct NotYet {
    /// Given and not supported.
    pub(crate) refused: Vec<&'static str>,
    /// Given and not needed, with the reason.
    pub(crate) not_needed: Vec<(&'static str, &'static str)>,
}

fn argument(name: &'static str, takes_value: bool) -> Arg {
    let argument = Arg::new(name).long(name).hide(true);
    let argument = if name == "create-namespace" {
        argument.alias("create_namespace")
    } else {
        argument
    };
    if takes_value {
        argument
            .num_args(1)
            .action(ArgAction::Append)
            .allow_hyphen_values(true)
    } else {
        argument.action(ArgAction::SetTrue)
    }
}

impl clap::Args for NotYet {
    fn augment_args(command: Command) -> Command {
        let refused = VALUES
            .into_iter()
            .map(|name| (name, true))
            .chain(SWITCHES.into_iter().map(|name| (name, false)));
        let not_needed = NOT_NEEDED.into_iter().map(|(name, value, _)| (name, value));
        refused
            .chain(not_needed)
            .fold(command, |command, (name, takes_value)| {
                command.arg(argument(name, takes_value))
            })
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl clap::FromArgMatches for NotYet {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        let is_given = |name: &&str| matches.value_source(name) == Some(ValueSource::CommandLine);
        Ok(Self {
            refused: VALUES
                .into_iter()
                .chain(SWITCHES)
                .filter(is_given)
                .collect(),
            not_needed: NOT_NEEDED
                .into_iter()
                .filter(|(name, _, _)| is_given(name))
                .map(|(name, _, reason)| (name, reason))
                .collect(),
        })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}
