// SPDX-License-Identifier: Apache-2.0
//! What the dynamic section of one file says about its libraries.

use object::elf::{DT_NEEDED, DT_RPATH, DT_RUNPATH, DT_SONAME, DT_STRTAB};

use crate::elf::{Elf, ElfError};

/// Longest name or search path that is taken.
const STRING_MAX: usize = 64 << 10;
/// Most libraries that one file may want.
const NEEDED_MAX: usize = 1024;

/// Names in one file; all still as written, with `$ORIGIN` and the like.
#[derive(Clone, Debug, Default)]
pub(super) struct Object {
    pub(super) interpreter: Option<Vec<u8>>,
    pub(super) needed: Vec<Vec<u8>>,
    pub(super) soname: Option<Vec<u8>>,
    pub(super) rpath: Option<Vec<u8>>,
    pub(super) runpath: Option<Vec<u8>>,
}

impl Object {
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, ElfError> {
        let elf = Elf::parse(bytes)?;
        let dynamic = elf.dynamic();
        let value = |tag: i64| {
            let found = dynamic.iter().find(|&&(t, _)| t.cast_signed() == tag);
            found.map(|&(_, value)| value)
        };
        let strings = value(DT_STRTAB.0)
            .and_then(|at| elf.bytes_from(at))
            .unwrap_or_default();
        let string = |offset: u64| -> Result<Vec<u8>, ElfError> {
            let rest = usize::try_from(offset)
                .ok()
                .and_then(|at| strings.get(at..));
            let text = rest.and_then(|rest| rest.split(|&b| b == 0).next());
            match text {
                Some(text) if text.len() <= STRING_MAX => Ok(text.to_vec()),
                _ => Err(ElfError::Malformed {
                    part: "dynamic string table",
                }),
            }
        };
        let mut needed = Vec::new();
        for &(_, offset) in dynamic
            .iter()
            .filter(|(tag, _)| tag.cast_signed() == DT_NEEDED.0)
            .take(NEEDED_MAX)
        {
            needed.push(string(offset)?);
        }
        Ok(Self {
            interpreter: elf.interpreter().map(<[u8]>::to_vec),
            needed,
            soname: value(DT_SONAME.0).map(string).transpose()?,
            rpath: value(DT_RPATH.0).map(string).transpose()?,
            runpath: value(DT_RUNPATH.0).map(string).transpose()?,
        })
    }
}
