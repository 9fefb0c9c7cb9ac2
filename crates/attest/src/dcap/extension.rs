// SPDX-License-Identifier: Apache-2.0
//! Intel's SGX extension of PCK certificates, OID 1.2.840.113741.1.13.1
//! ("SGX PCK Certificate and CRL Profile Specification", §1.3.5).

use der::asn1::{Int, ObjectIdentifier, OctetString};
use der::{AnyRef, Decode as _, Reader as _, SliceReader, Tag, Tagged as _};

/// The extension's identifier.
pub const SGX_EXTENSION: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113741.1.13.1");

const TCB: u32 = 2;
const PCE_ID: u32 = 3;
const FMSPC: u32 = 4;
/// Arcs below TCB: 1 to 16 are components, then PCESVN and CPUSVN.
const PCE_SVN: u32 = 17;
const CPU_SVN: u32 = 18;

/// Most entries that are looked at on one level.
const MAX_ENTRIES: usize = 32;

/// What a PCK certificate says of its platform.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PckExtension {
    /// Family, model, stepping, platform type, customer SKU.
    pub fmspc: [u8; 6],
    /// Identity of the provisioning certification enclave.
    pub pce_id: [u8; 2],
    /// Security versions of the 16 TCB components.
    pub components: [u8; 16],
    /// Security version of the provisioning certification enclave.
    pub pce_svn: u16,
    /// Raw CPUSVN.
    pub cpu_svn: [u8; 16],
}

/// Parses the extension's content; every needed entry exactly once.
pub(crate) fn parse(content: &[u8]) -> Option<PckExtension> {
    let (mut fmspc, mut pce_id, mut tcb) = (None, None, None);
    for (arc, value) in entries(content, SGX_EXTENSION)? {
        match arc {
            TCB => set(&mut tcb, parse_tcb(value)?)?,
            PCE_ID => set(&mut pce_id, octets(value)?)?,
            FMSPC => set(&mut fmspc, octets(value)?)?,
            // PPID, SGX type, platform instance and configuration.
            _ => {}
        }
    }
    let (components, pce_svn, cpu_svn) = tcb?;
    Some(PckExtension {
        fmspc: fmspc?,
        pce_id: pce_id?,
        components,
        pce_svn,
        cpu_svn,
    })
}

fn parse_tcb(content: &[u8]) -> Option<([u8; 16], u16, [u8; 16])> {
    let parent = SGX_EXTENSION.push_arc(TCB).ok()?;
    let mut components: [Option<u8>; 16] = [None; 16];
    let (mut pce_svn, mut cpu_svn) = (None, None);
    for (arc, value) in entries(content, parent)? {
        match arc {
            1..=16 => {
                let index = usize::try_from(arc).ok()?.checked_sub(1)?;
                let svn = u8::try_from(integer(value)?).ok()?;
                set(components.get_mut(index)?, svn)?;
            }
            PCE_SVN => set(&mut pce_svn, integer(value)?)?,
            CPU_SVN => set(&mut cpu_svn, octets(value)?)?,
            _ => {}
        }
    }
    let mut out = [0; 16];
    for (slot, component) in out.iter_mut().zip(components) {
        *slot = component?;
    }
    Some((out, pce_svn?, cpu_svn?))
}

/// Fills an empty slot; a second value is an error.
fn set<T>(slot: &mut Option<T>, value: T) -> Option<()> {
    match slot.replace(value) {
        None => Some(()),
        Some(_) => None,
    }
}

/// Reads SEQUENCE OF SEQUENCE { identifier below `parent`, value } and returns
/// the last arc and the raw value of each entry.
fn entries(content: &[u8], parent: ObjectIdentifier) -> Option<Vec<(u32, &[u8])>> {
    let mut list = Vec::new();
    let outer = sequence(content)?;
    let mut reader = SliceReader::new(outer).ok()?;
    while !reader.is_finished() {
        if list.len() >= MAX_ENTRIES {
            return None;
        }
        let mut entry = SliceReader::new(sequence(reader.tlv_bytes().ok()?)?).ok()?;
        let oid: ObjectIdentifier = entry.decode().ok()?;
        let value = entry.tlv_bytes().ok()?;
        entry.finish().ok()?;
        if oid.parent() != Some(parent) {
            return None;
        }
        list.push((oid.arcs().last()?, value));
    }
    Some(list)
}

/// Content of a SEQUENCE.
fn sequence(der: &[u8]) -> Option<&[u8]> {
    let any = AnyRef::from_der(der).ok()?;
    (any.tag() == Tag::Sequence).then(|| any.value())
}

fn octets<const N: usize>(der: &[u8]) -> Option<[u8; N]> {
    OctetString::from_der(der).ok()?.as_bytes().try_into().ok()
}

/// A non-negative INTEGER of at most 16 bits.
fn integer(der: &[u8]) -> Option<u16> {
    let value = Int::from_der(der).ok()?;
    match *value.as_bytes() {
        [low] if low < 0x80 => Some(u16::from(low)),
        [high, low] if high < 0x80 => Some(u16::from_be_bytes([high, low])),
        [0, high, low] => Some(u16::from_be_bytes([high, low])),
        _ => None,
    }
}
