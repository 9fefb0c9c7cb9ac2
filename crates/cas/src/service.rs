// SPDX-License-Identifier: Apache-2.0
//! What both interfaces of a running CAS share.

use policy::KeyHash;

use crate::audit::Audit;
use crate::identity::Identity;
use crate::sessions::Sessions;

/// Without witnesses nobody outside remembers the newest state (security rule S6).
pub const FRESHNESS: &str = "degraded";

/// A running CAS.
#[derive(Debug)]
pub struct Service {
    /// Its sessions.
    pub sessions: Sessions,
    /// Its audit log.
    pub audit: Audit,
    /// Its identity.
    pub identity: Identity,
}

impl Service {
    /// The CAS key hash.
    pub fn key_hash(&self) -> &KeyHash {
        self.identity.key_hash()
    }
}
