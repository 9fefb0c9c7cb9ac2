// SPDX-License-Identifier: Apache-2.0
//! Who may do what with a session: a pure decision that names its rule.

use std::collections::BTreeSet;
use std::fmt;

use crate::key_hash::KeyHash;

/// What a requester wants to do with a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    /// Read the description.
    Read,
    /// Replace it.
    Update,
    /// Create sessions below it.
    CreateSessions,
    /// List the sessions below it.
    ListSessions,
}

impl Operation {
    /// Every operation.
    pub const ALL: [Self; 4] = [
        Self::Read,
        Self::Update,
        Self::CreateSessions,
        Self::ListSessions,
    ];

    /// The key in `access_policy`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Update => "update",
            Self::CreateSessions => "create_sessions",
            Self::ListSessions => "list_sessions",
        }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Whom one operation admits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rule {
    /// Everybody, with or without a certificate.
    Any,
    /// Nobody.
    None,
    /// Each of these.
    Of(BTreeSet<Entry>),
}

/// One entry of a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Entry {
    /// The key that created the session.
    Creator,
    /// A public key.
    Key(KeyHash),
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Creator => f.write_str("CREATOR"),
            Self::Key(key) => write!(f, "{key}"),
        }
    }
}

impl Rule {
    /// The rule of a session that says nothing.
    pub fn creator() -> Self {
        Self::Of(BTreeSet::from([Entry::Creator]))
    }
}

/// `access_policy` with every default spelled out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessPolicy {
    /// Who may read.
    pub read: Rule,
    /// Who may update.
    pub update: Rule,
    /// Who may create sessions below.
    pub create_sessions: Rule,
    /// Who may list sessions below; whoever may create may list as well.
    pub list_sessions: Rule,
}

impl Default for AccessPolicy {
    fn default() -> Self {
        Self {
            read: Rule::creator(),
            update: Rule::creator(),
            create_sessions: Rule::creator(),
            list_sessions: Rule::creator(),
        }
    }
}

/// Outcome of an access evaluation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Admitted.
    Allowed {
        /// The operation whose rule admitted; may be `CreateSessions` for a listing.
        by: Operation,
        /// The entry that admitted; `None` is `ANY`.
        entry: Option<Entry>,
    },
    /// Not admitted.
    Denied {
        /// The rule that was not met.
        by: Operation,
        /// Why.
        reason: Denial,
    },
}

/// Why an access was denied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Denial {
    /// The rule is NONE.
    #[error("the rule is NONE")]
    Nobody,
    /// The requester showed no certificate.
    #[error("the request came without a client certificate")]
    Anonymous,
    /// The requester's key is not listed.
    #[error("the client certificate's key is not listed")]
    NotListed,
}

impl Decision {
    /// Whether the access is admitted.
    pub fn is_allowed(&self) -> bool {
        matches!(self, Self::Allowed { .. })
    }
}

impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Allowed { by, entry: None } => {
                write!(f, "allowed by access_policy.{by}: ANY")
            }
            Self::Allowed {
                by,
                entry: Some(entry),
            } => {
                write!(f, "allowed by access_policy.{by}: {entry}")
            }
            Self::Denied { by, reason } => write!(f, "denied by access_policy.{by}: {reason}"),
        }
    }
}

impl AccessPolicy {
    /// The rule of an operation.
    pub fn rule(&self, operation: Operation) -> &Rule {
        match operation {
            Operation::Read => &self.read,
            Operation::Update => &self.update,
            Operation::CreateSessions => &self.create_sessions,
            Operation::ListSessions => &self.list_sessions,
        }
    }

    /// Decides whether `requester` (the key of its certificate, if it showed one) may do `operation`
    /// with a session created by `creator`.
    pub fn evaluate(
        &self,
        operation: Operation,
        requester: Option<&KeyHash>,
        creator: Option<&KeyHash>,
    ) -> Decision {
        let decision = self.by_rule(operation, requester, creator);
        if operation == Operation::ListSessions && !decision.is_allowed() {
            let create = self.by_rule(Operation::CreateSessions, requester, creator);
            if create.is_allowed() {
                return create;
            }
        }
        decision
    }

    fn by_rule(
        &self,
        by: Operation,
        requester: Option<&KeyHash>,
        creator: Option<&KeyHash>,
    ) -> Decision {
        let denied = |reason| Decision::Denied { by, reason };
        let entries = match self.rule(by) {
            Rule::Any => return Decision::Allowed { by, entry: None },
            Rule::None => return denied(Denial::Nobody),
            Rule::Of(entries) => entries,
        };
        let Some(requester) = requester else {
            return denied(Denial::Anonymous);
        };
        let admits = |entry: &&Entry| match entry {
            Entry::Creator => creator == Some(requester),
            Entry::Key(key) => key == requester,
        };
        match entries.iter().find(admits) {
            Some(entry) => Decision::Allowed {
                by,
                entry: Some(*entry),
            },
            None => denied(Denial::NotListed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(byte: u8) -> KeyHash {
        KeyHash::from_bytes([byte; 32])
    }

    #[test]
    fn five_identities_meet_four_operations() {
        let listed = Rule::Of(BTreeSet::from([Entry::Creator, Entry::Key(key(2))]));
        let policy = AccessPolicy {
            read: listed,
            update: Rule::creator(),
            create_sessions: Rule::None,
            list_sessions: Rule::Any,
        };
        let creator = key(1);
        // requester; read, update, create_sessions, list_sessions
        for (requester, expected) in [
            (Some(key(1)), [true, true, false, true]),
            (Some(key(2)), [true, false, false, true]),
            (Some(key(3)), [false, false, false, true]),
            (None, [false, false, false, true]),
        ] {
            for (operation, allowed) in Operation::ALL.into_iter().zip(expected) {
                let decision = policy.evaluate(operation, requester.as_ref(), Some(&creator));
                assert_eq!(decision.is_allowed(), allowed, "{requester:?} {decision}");
            }
        }
        // A session without a creator admits nobody as CREATOR.
        let decision = policy.evaluate(Operation::Update, Some(&key(1)), None);
        assert!(!decision.is_allowed());
        assert_eq!(
            decision.to_string(),
            "denied by access_policy.update: the client certificate's key is not listed"
        );
    }

    #[test]
    fn whoever_may_create_may_list() {
        let policy = AccessPolicy {
            create_sessions: Rule::Of(BTreeSet::from([Entry::Key(key(2))])),
            list_sessions: Rule::None,
            ..AccessPolicy::default()
        };
        let list = |k| policy.evaluate(Operation::ListSessions, Some(&k), Some(&key(1)));
        assert!(list(key(2)).is_allowed());
        assert!(!list(key(1)).is_allowed());
    }
}
