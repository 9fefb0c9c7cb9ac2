// SPDX-License-Identifier: Apache-2.0
//! What evidence is bound to: report data of the agent (S10) and CONFIGID (S1).

use std::sync::LazyLock;

use aws_lc_rs::digest::{Context, SHA256, digest};
use aws_lc_rs::hmac;

use super::frame::Role;

/// Inputs of the agent's report data.
#[derive(Debug, Clone, Copy)]
pub struct Binding<'a> {
    /// Role of the end that makes the evidence.
    pub role: Role,
    /// Protocol version.
    pub version: u32,
    /// `session/service` as sent in hello.
    pub config_id: &'a str,
    /// SubjectPublicKeyInfo (DER) of the certificate of the end that makes the
    /// evidence.
    pub own_spki: &'a [u8],
    /// SubjectPublicKeyInfo (DER) of the peer's end-entity certificate.
    pub peer_leaf_spki: &'a [u8],
    /// Nonce of the challenge.
    pub nonce: &'a [u8; 32],
    /// TLS exporter of this connection.
    pub exporter: &'a [u8; 32],
}

/// SHA-256 as an array.
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    to_array(digest(&SHA256, bytes).as_ref())
}

fn to_array(digest: &[u8]) -> [u8; 32] {
    let mut array = [0; 32];
    array.copy_from_slice(digest);
    array
}

/// Feeds one field with its length, so that no two field lists share a hash.
fn field(context: &mut Context, bytes: &[u8]) {
    let len = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
    context.update(&len.to_le_bytes());
    context.update(bytes);
}

/// The constant in bytes 32..64 of the agent's report data. It is never zero,
/// which is what keeps the agent's namespace apart from the program's.
pub fn agent_domain() -> [u8; 32] {
    static DOMAIN: LazyLock<[u8; 32]> = LazyLock::new(|| sha256(b"ensconce-agent-report-v1"));
    *DOMAIN
}

/// The agent's report data: bytes 0..32 = SHA-256 over the fields of `binding`
/// in their order, each preceded by its length (u64 little-endian; the version
/// is a u32 little-endian field of four bytes); bytes 32..64 =
/// [`agent_domain`].
pub fn report_data(binding: &Binding<'_>) -> [u8; 64] {
    let mut context = Context::new(&SHA256);
    field(&mut context, binding.role.name().as_bytes());
    field(&mut context, &binding.version.to_le_bytes());
    field(&mut context, binding.config_id.as_bytes());
    field(&mut context, binding.own_spki);
    field(&mut context, binding.peer_leaf_spki);
    field(&mut context, binding.nonce);
    field(&mut context, binding.exporter);
    let mut data = [0; 64];
    let (hash, domain) = data.split_at_mut(32);
    hash.copy_from_slice(context.finish().as_ref());
    domain.copy_from_slice(&agent_domain());
    data
}

/// Whether report data has the form that a program may ask for: bytes 32..64
/// zero. Anything else belongs to the agent or to nobody.
pub fn is_program_form(data: &[u8; 64]) -> bool {
    data.iter().skip(32).all(|byte| *byte == 0)
}

/// Whether report data carries the agent's domain constant.
pub fn is_agent_form(data: &[u8; 64]) -> bool {
    data.get(32..) == Some(agent_domain().as_slice())
}

/// Splits a configuration id into session and service at the last slash.
/// `None` if a part is empty or a byte is a control character.
pub fn split_config_id(config_id: &str) -> Option<(&str, &str)> {
    let (session, service) = config_id.rsplit_once('/')?;
    let clean = |part: &str| !part.is_empty() && !part.chars().any(char::is_control);
    (clean(session) && clean(service)).then_some((session, service))
}

/// SECS.CONFIGID of a service (S1): bytes 0..32 = SHA-256 of
/// `"ensconce-config-v1"`, the hash of the CAS root's SubjectPublicKeyInfo, the
/// session, one zero byte and the service; bytes 32..64 = the singleton token,
/// or zero.
pub fn config_id(
    cas_root_spki: &[u8; 32],
    session: &str,
    service: &str,
    singleton: Option<&[u8; 32]>,
) -> [u8; 64] {
    let mut context = Context::new(&SHA256);
    context.update(b"ensconce-config-v1");
    context.update(cas_root_spki);
    context.update(session.as_bytes());
    context.update(&[0]);
    context.update(service.as_bytes());
    let mut id = [0; 64];
    let (hash, token) = id.split_at_mut(32);
    hash.copy_from_slice(context.finish().as_ref());
    if let Some(singleton) = singleton {
        token.copy_from_slice(singleton);
    }
    id
}

/// Which end proves that it knows the service access token. The proofs of the
/// two ends differ, so neither can be reflected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenSide {
    /// The service, in `hello`.
    Service,
    /// The CAS, in `challenge`.
    Cas,
}

/// Proof of knowing the service access token on this connection: HMAC-SHA-256
/// under the token over a label of the side and the TLS exporter.
pub fn token_proof(side: TokenSide, token: &[u8], exporter: &[u8; 32]) -> [u8; 32] {
    let key = hmac::Key::new(hmac::HMAC_SHA256, token);
    let label: &[u8] = match side {
        TokenSide::Service => b"ensconce-token-of-service-v1",
        TokenSide::Cas => b"ensconce-token-of-cas-v1",
    };
    let mut message = label.to_vec();
    message.extend_from_slice(exporter);
    to_array(hmac::sign(&key, &message).as_ref())
}

/// Checks a [`token_proof`] in constant time.
pub fn check_token_proof(
    side: TokenSide,
    token: &[u8],
    exporter: &[u8; 32],
    proof: &[u8; 32],
) -> bool {
    use subtle::ConstantTimeEq as _;
    token_proof(side, token, exporter).ct_eq(proof).into()
}
