// SPDX-License-Identifier: Apache-2.0
//! What can be wrong with a session document.

/// A problem of a session document; never holds a secret value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// The document is not YAML, or not the subset that sessions use.
    #[error("Not valid YAML: {detail}")]
    Syntax {
        /// What the YAML reader says.
        detail: String,
    },
    /// A YAML feature outside the subset of the session language.
    #[error("{feature} are not part of the session language")]
    YamlFeature {
        /// The feature, in the plural.
        feature: &'static str,
    },
    /// The document exceeds a limit.
    #[error("The document exceeds the limit of {limit} {unit}")]
    Limit {
        /// The limit.
        limit: usize,
        /// What is counted.
        unit: &'static str,
    },
    /// The same key twice in one mapping.
    #[error("Key '{key}' appears twice in the same mapping")]
    DuplicateKey {
        /// The key.
        key: String,
    },
    /// A key that the language does not know.
    #[error("Unknown key '{key}' in {place}{}", .suggestion.map(|s| format!("; did you mean '{s}'?")).unwrap_or_default())]
    UnknownKey {
        /// The key.
        key: String,
        /// The part of the document.
        place: &'static str,
        /// A known key that looks similar.
        suggestion: Option<&'static str>,
    },
    /// Part of the language, but this version cannot do it.
    #[error("{what} is not supported yet; remove it or use a later version")]
    NotSupported {
        /// The feature as written.
        what: String,
    },
    /// A value of the wrong type.
    #[error("Expected {expected}, found {found}")]
    WrongType {
        /// What the language wants here.
        expected: &'static str,
        /// What the document holds.
        found: &'static str,
    },
    /// A mandatory key is missing.
    #[error("Key '{key}' is missing in {place}{hint}")]
    Missing {
        /// The part of the document.
        place: &'static str,
        /// The key.
        key: &'static str,
        /// How to write it, or nothing.
        hint: &'static str,
    },
    /// The language version is unknown.
    #[error("Language version '{version}' is not known; this program reads 0.3 to 0.3.12")]
    UnknownVersion {
        /// As written.
        version: String,
    },
    /// A name outside the alphabet, too long, or empty.
    #[error("'{name}' is not a valid {what}: {rule}")]
    BadName {
        /// What is named.
        what: &'static str,
        /// As written, cut at 40 characters.
        name: String,
        /// The rule.
        rule: &'static str,
    },
    /// Two things of one kind have the same name.
    #[error("The {what} name '{name}' is used twice")]
    DuplicateName {
        /// service, secret, image.
        what: &'static str,
        /// The name.
        name: String,
    },
    /// A hex value of the wrong length or alphabet.
    #[error("{what} must be {digits} hexadecimal digits")]
    BadHex {
        /// What it is.
        what: &'static str,
        /// Digits expected.
        digits: usize,
    },
    /// A number that is not one, or out of range.
    #[error("{what} must be a whole number from {min} to {max}")]
    BadNumber {
        /// What it is.
        what: &'static str,
        /// Smallest value.
        min: u64,
        /// Largest value.
        max: u64,
    },
    /// Not one of the values that the language lists.
    #[error("'{value}' is not a valid {what}; use {choices}")]
    BadChoice {
        /// What it is.
        what: &'static str,
        /// As written.
        value: String,
        /// The valid values.
        choices: &'static str,
    },
    /// A path that is not absolute or not plain.
    #[error("{what} must be an absolute path without '.', '..' or NUL")]
    BadPath {
        /// What it is.
        what: &'static str,
    },
    /// A NUL byte where programs cannot take one.
    #[error("{what} must not contain a NUL byte")]
    Nul {
        /// What it is.
        what: &'static str,
    },
    /// An environment name with `=` or empty.
    #[error("An environment name must not be empty or contain '=' or NUL")]
    BadEnvironmentName,
    /// A quotation mark in a command string is not closed.
    #[error("A quotation mark in the command is not closed")]
    OpenQuote,
    /// A command without a program.
    #[error("The command is empty; its first word names the program")]
    EmptyCommand,
    /// `@@N` twice.
    #[error("Host argument @@{index} is used more than once")]
    DuplicateHostArgument {
        /// N.
        index: u32,
    },
    /// `@@N` inside an argument or not a number from 1.
    #[error("A host argument is written as a whole argument '@@N' with N from 1 to {max}")]
    BadHostArgument {
        /// Largest N.
        max: u32,
    },
    /// A reference to something that the document does not define.
    #[error("There is no {what} named '{name}' in this session")]
    Undefined {
        /// secret, image.
        what: &'static str,
        /// The name.
        name: String,
    },
    /// `$$SCONE::` without its end, or with a malformed inside.
    #[error("A secret placeholder is written $$SCONE::name[:format][|escape(json)]$$")]
    BadPlaceholder,
    /// The format of a placeholder does not fit the kind of its secret.
    #[error("Format '{format}' does not fit the {kind} secret '{name}'; use {choices}")]
    BadFormat {
        /// As written.
        format: String,
        /// Kind of the secret.
        kind: &'static str,
        /// Name of the secret.
        name: String,
        /// Valid formats.
        choices: &'static str,
    },
    /// Raw bytes in an argument or environment value.
    #[error("The binary secret '{name}' needs a text format here; write $$SCONE::{name}:hex$$")]
    BinaryInText {
        /// Name of the secret.
        name: String,
    },
    /// A reference to a secret that cannot serve as a key.
    #[error("The secret '{name}' cannot be {what}: it must be binary with size {size}")]
    NotAKey {
        /// Name of the secret.
        name: String,
        /// The use.
        what: &'static str,
        /// Bytes needed.
        size: usize,
    },
    /// An explicit secret that its kind does not allow.
    #[error("The value of the {kind} secret '{name}' must be {rule}")]
    BadSecretValue {
        /// Name of the secret.
        name: String,
        /// Kind of the secret.
        kind: &'static str,
        /// The rule.
        rule: &'static str,
    },
    /// Two keys that exclude each other.
    #[error("'{first}' and '{second}' exclude each other")]
    Exclusive {
        /// One key.
        first: &'static str,
        /// The other key.
        second: &'static str,
    },
    /// A key that is useless without another.
    #[error("'{key}' needs '{other}' beside it")]
    Needs {
        /// The key.
        key: &'static str,
        /// The missing key.
        other: &'static str,
    },
    /// A service that anybody could impersonate.
    #[error(
        "Service '{service}' has no attestation: list its mrenclave or signer under 'attestation'"
    )]
    NoAttestation {
        /// Name of the service.
        service: String,
    },
    /// An attestation variant without any factor.
    #[error("An attestation variant needs 'mrenclave' or 'signer'")]
    EmptyVariant,
    /// min above max.
    #[error("isvsvn_min is greater than isvsvn_max")]
    EmptyRange,
    /// ANY or NONE beside other entries.
    #[error("'{keyword}' must be the only entry of an access rule")]
    NotAlone {
        /// ANY or NONE.
        keyword: &'static str,
    },
    /// Not an access entry.
    #[error(
        "Not an access entry: use CREATOR, ANY, NONE, a PEM certificate or a Base58Check key hash"
    )]
    BadAccessEntry,
    /// A PEM certificate that cannot be read.
    #[error("Not a readable PEM certificate")]
    BadCertificate,
    /// Wildcard advisories in a production session.
    #[error("ignore_advisories '*' is allowed only together with the tolerance 'debug-mode'")]
    WildcardAdvisories,
    /// Advisory without a category that would make it count.
    #[error(
        "'{advisory}' is ignored only together with a tolerated category; none of software-hardening-needed, insecure-configuration, outdated-tcb is listed"
    )]
    AdvisoryWithoutCategory {
        /// The advisory.
        advisory: String,
    },
    /// A template variable without a value.
    #[error("Variable '{name}' has no value; give it with -e {name}=VALUE")]
    UndefinedVariable {
        /// Name of the variable.
        name: String,
    },
    /// An advice that does not stop anything.
    #[error("{advice}")]
    Advice {
        /// The sentence.
        advice: String,
    },
}
