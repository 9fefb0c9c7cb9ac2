// SPDX-License-Identifier: Apache-2.0
//! Writing Intel's SGX extension of PCK certificates.

use attest::dcap::{PckExtension, SGX_EXTENSION};
use der::Encode;
use der::asn1::{ObjectIdentifier, OctetString};

/// Encodes the content of the extension (OID 1.2.840.113741.1.13.1): PPID,
/// TCB with its 18 members, PCEID, FMSPC and the SGX type "standard".
///
/// The PPID is zero: an emulated platform has no such secret.
///
/// # Errors
/// [`der::Error`] never in practice: all lengths are small.
pub fn encode_sgx_extension(extension: &PckExtension) -> Result<Vec<u8>, der::Error> {
    let tcb_oid = SGX_EXTENSION.push_arc(2)?;
    let mut tcb = Vec::new();
    for (arc, component) in (1_u32..).zip(extension.components) {
        tcb.extend(entry(tcb_oid, arc, &component.to_der()?)?);
    }
    tcb.extend(entry(tcb_oid, 17, &extension.pce_svn.to_der()?)?);
    tcb.extend(entry(tcb_oid, 18, &octets(&extension.cpu_svn)?)?);

    let mut members = Vec::new();
    members.extend(entry(SGX_EXTENSION, 1, &octets(&[0; 16])?)?);
    members.extend(entry(SGX_EXTENSION, 2, &sequence(&tcb)?)?);
    members.extend(entry(SGX_EXTENSION, 3, &octets(&extension.pce_id)?)?);
    members.extend(entry(SGX_EXTENSION, 4, &octets(&extension.fmspc)?)?);
    // ENUMERATED 0.
    members.extend(entry(SGX_EXTENSION, 5, &[0x0a, 1, 0])?);
    sequence(&members)
}

fn octets(bytes: &[u8]) -> Result<Vec<u8>, der::Error> {
    OctetString::new(bytes)?.to_der()
}

/// SEQUENCE { parent.arc, value }
fn entry(parent: ObjectIdentifier, arc: u32, value: &[u8]) -> Result<Vec<u8>, der::Error> {
    let mut content = parent.push_arc(arc)?.to_der()?;
    content.extend_from_slice(value);
    sequence(&content)
}

fn sequence(content: &[u8]) -> Result<Vec<u8>, der::Error> {
    der::asn1::AnyRef::new(der::Tag::Sequence, content)?.to_der()
}
