// SPDX-License-Identifier: Apache-2.0
//! Evidence in, verdict out; and the attested channel of the wire protocol.
//!
//! * [`dcap`]: verifies quotes and their collateral under an [`anchor`].
//! * [`verdict`]: what a session tolerates, and every reason against evidence.
//! * [`collateral`]: the bundle that verification needs; [`time`]: time as input.
//! * [`las`]: asking the local attestation service for quotes and collateral.
//! * [`channel`]: frames, codec, report data and TLS set-up of the connection
//!   between an enclave's agent and the CAS.
//!
//! Everything here reads bytes that a hostile host or network may have
//! chosen: parsers are bounded and do not panic.

pub mod anchor;
pub mod channel;
pub mod collateral;
pub mod dcap;
pub mod las;
pub mod time;
pub mod verdict;
