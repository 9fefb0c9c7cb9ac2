// SPDX-License-Identifier: Apache-2.0
//! A bounded reader of 64-bit little-endian x86 ELF files.
//!
//! Programs and libraries come from images that nobody vouches for, so every
//! offset is checked and nothing here panics, loops without bound or allocates
//! more than the file is long.

use object::LittleEndian;
use object::elf;
use object::read::elf::{FileHeader as _, ProgramHeader as _, SectionHeader as _, Sym as _};
use thiserror::Error;

type Header = elf::FileHeader64<LittleEndian>;
const LE: LittleEndian = LittleEndian;

/// Most program headers that are looked at.
const SEGMENTS_MAX: usize = 512;
/// Most sections that are looked at.
const SECTIONS_MAX: usize = 1 << 16;
/// Most entries of the dynamic section that are looked at.
const DYNAMIC_MAX: usize = 1 << 14;

/// Why bytes are not an ELF file that can be used here.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum ElfError {
    /// The magic number is missing.
    #[error("The file is not an ELF file")]
    NotElf,
    /// A 32-bit file.
    #[error("The file is a 32-bit ELF file, only 64-bit ones can run in an enclave")]
    Class32,
    /// Another byte order or machine.
    #[error("The file is for ELF machine {machine}, only x86-64 can run in an enclave")]
    Machine {
        /// `e_machine`, or 0 for a big-endian file.
        machine: u16,
    },
    /// Neither an executable nor a shared object.
    #[error("The file has ELF type {got}, expected an executable or a shared object")]
    Type {
        /// `e_type`.
        got: u16,
    },
    /// A table or segment lies outside the file or is larger than the bounds allow.
    #[error("The ELF file's {part} is malformed")]
    Malformed {
        /// Which table.
        part: &'static str,
    },
}

/// One program header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// `p_type`.
    pub kind: u32,
    /// Readable.
    pub read: bool,
    /// Writable.
    pub write: bool,
    /// Executable.
    pub execute: bool,
    /// Offset in the file.
    pub offset: u64,
    /// Address relative to the load base.
    pub address: u64,
    /// Bytes in the file.
    pub file_size: u64,
    /// Bytes in memory.
    pub memory_size: u64,
}

impl Segment {
    fn contains_file_bytes(&self, address: u64, len: u64) -> bool {
        address
            .checked_sub(self.address)
            .and_then(|at| at.checked_add(len))
            .is_some_and(|end| end <= self.file_size)
    }
}

/// One section header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Section {
    /// Whether it holds instructions.
    pub execute: bool,
    /// Whether it occupies bytes of the file.
    pub has_bytes: bool,
    /// Address relative to the load base.
    pub address: u64,
    /// Length in bytes.
    pub size: u64,
}

/// One symbol that is defined in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Symbol<'a> {
    /// Its name, empty if the string table is damaged.
    pub name: &'a [u8],
    /// Address relative to the load base.
    pub address: u64,
    /// Length in bytes, 0 if unknown.
    pub size: u64,
    /// Whether it is a function.
    pub is_function: bool,
}

/// A parsed file.
#[derive(Debug)]
pub struct Elf<'a> {
    data: &'a [u8],
    header: &'a Header,
    segments: Vec<Segment>,
}

impl<'a> Elf<'a> {
    /// Parses the headers.
    ///
    /// # Errors
    /// Anything but a 64-bit x86 executable or shared object.
    pub fn parse(data: &'a [u8]) -> Result<Self, ElfError> {
        let ident = data.get(..16).ok_or(ElfError::NotElf)?;
        if !ident.starts_with(b"\x7fELF") {
            return Err(ElfError::NotElf);
        }
        if ident.get(4) == Some(&1) {
            return Err(ElfError::Class32);
        }
        if ident.get(5) != Some(&1) {
            return Err(ElfError::Machine { machine: 0 });
        }
        let header = Header::parse(data).map_err(|_| malformed("header"))?;
        let machine = header.e_machine(LE).0;
        if machine != elf::EM_X86_64.0 {
            return Err(ElfError::Machine { machine });
        }
        let got = header.e_type(LE).0;
        if got != elf::ET_DYN.0 && got != elf::ET_EXEC.0 {
            return Err(ElfError::Type { got });
        }
        let table = header
            .program_headers(LE, data)
            .map_err(|_| malformed("program header table"))?;
        if table.len() > SEGMENTS_MAX {
            return Err(malformed("program header table"));
        }
        let mut segments = Vec::with_capacity(table.len());
        for entry in table {
            let flags = entry.p_flags(LE).0;
            let segment = Segment {
                kind: entry.p_type(LE).0,
                read: flags & 4 != 0,
                write: flags & 2 != 0,
                execute: flags & 1 != 0,
                offset: entry.p_offset(LE),
                address: entry.p_vaddr(LE),
                file_size: entry.p_filesz(LE),
                memory_size: entry.p_memsz(LE),
            };
            if segment.kind == elf::PT_LOAD.0 {
                let in_file = segment.offset.checked_add(segment.file_size);
                let in_memory = segment.address.checked_add(segment.memory_size);
                if in_file.is_none_or(|end| end > data.len() as u64)
                    || in_memory.is_none_or(|end| end > 1 << 47)
                    || segment.memory_size < segment.file_size
                {
                    return Err(malformed("loadable segment"));
                }
            }
            segments.push(segment);
        }
        Ok(Self {
            data,
            header,
            segments,
        })
    }

    /// The whole file.
    #[must_use]
    pub fn data(&self) -> &'a [u8] {
        self.data
    }

    /// Whether the file is linked at fixed addresses (`ET_EXEC`).
    #[must_use]
    pub fn is_fixed(&self) -> bool {
        self.header.e_type(LE) == elf::ET_EXEC
    }

    /// `e_entry`.
    #[must_use]
    pub fn entry(&self) -> u64 {
        self.header.e_entry(LE)
    }

    /// All program headers.
    #[must_use]
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// The loadable segments, in file order.
    pub fn loads(&self) -> impl Iterator<Item = &Segment> {
        self.of_kind(elf::PT_LOAD.0)
    }

    /// The first segment of one kind.
    #[must_use]
    pub fn first_of_kind(&self, kind: u32) -> Option<&Segment> {
        self.of_kind(kind).next()
    }

    fn of_kind(&self, kind: u32) -> impl Iterator<Item = &Segment> {
        self.segments.iter().filter(move |s| s.kind == kind)
    }

    /// The bytes that a segment has in the file; empty if they lie outside.
    #[must_use]
    pub fn segment_bytes(&self, segment: &Segment) -> &'a [u8] {
        let range = usize::try_from(segment.offset).ok().and_then(|start| {
            let len = usize::try_from(segment.file_size).ok()?;
            self.data.get(start..start.checked_add(len)?)
        });
        range.unwrap_or_default()
    }

    /// Translates an address to an offset in the file.
    #[must_use]
    pub fn file_offset(&self, address: u64) -> Option<u64> {
        let segment = self.loads().find(|s| s.contains_file_bytes(address, 1))?;
        segment.offset.checked_add(address - segment.address)
    }

    /// The file's bytes from `address` to the end of its segment.
    #[must_use]
    pub fn bytes_from(&self, address: u64) -> Option<&'a [u8]> {
        let segment = self.loads().find(|s| s.contains_file_bytes(address, 1))?;
        let skip = usize::try_from(address - segment.address).ok()?;
        self.segment_bytes(segment).get(skip..)
    }

    /// `N` bytes of the file at `address`.
    #[must_use]
    pub fn array_at<const N: usize>(&self, address: u64) -> Option<[u8; N]> {
        self.bytes_from(address)?.first_chunk::<N>().copied()
    }

    /// The program's interpreter, without its NUL.
    #[must_use]
    pub fn interpreter(&self) -> Option<&'a [u8]> {
        let bytes = self.segment_bytes(self.first_of_kind(elf::PT_INTERP.0)?);
        bytes.split(|&b| b == 0).next()
    }

    /// Tags and values of the dynamic section, up to `DT_NULL`.
    #[must_use]
    pub fn dynamic(&self) -> Vec<(u64, u64)> {
        let Some(segment) = self.first_of_kind(elf::PT_DYNAMIC.0) else {
            return Vec::new();
        };
        self.segment_bytes(segment)
            .as_chunks::<16>()
            .0
            .iter()
            .take(DYNAMIC_MAX)
            .map(|entry| (word(entry, 0), word(entry, 8)))
            .take_while(|&(tag, _)| tag != 0)
            .collect()
    }

    /// The sections; empty if the table is missing or damaged.
    #[must_use]
    pub fn sections(&self) -> Vec<Section> {
        let Ok(table) = self.header.section_headers(LE, self.data) else {
            return Vec::new();
        };
        table
            .iter()
            .take(SECTIONS_MAX)
            .map(|entry| Section {
                execute: entry.sh_flags(LE).0 & elf::SHF_EXECINSTR.0 != 0,
                has_bytes: entry.sh_type(LE) != elf::SHT_NOBITS,
                address: entry.sh_addr(LE),
                size: entry.sh_size(LE),
            })
            .collect()
    }

    /// Every defined symbol of the static and the dynamic symbol table.
    #[must_use]
    pub fn symbols(&self) -> Vec<Symbol<'a>> {
        let Ok(sections) = self.header.sections(LE, self.data) else {
            return Vec::new();
        };
        let mut out = Vec::new();
        for kind in [elf::SHT_SYMTAB, elf::SHT_DYNSYM] {
            let Ok(table) = sections.symbols(LE, self.data, kind) else {
                continue;
            };
            for symbol in table.iter() {
                if symbol.st_shndx(LE) == elf::SHN_UNDEF {
                    continue;
                }
                out.push(Symbol {
                    name: table.symbol_name(LE, symbol).unwrap_or_default(),
                    address: symbol.st_value(LE),
                    size: symbol.st_size(LE),
                    is_function: matches!(symbol.st_type(), elf::STT_FUNC | elf::STT_GNU_IFUNC),
                });
            }
        }
        out
    }
}

fn malformed(part: &'static str) -> ElfError {
    ElfError::Malformed { part }
}

/// The little-endian `u64` at `at` of a 16-byte entry.
fn word(entry: &[u8; 16], at: usize) -> u64 {
    let mut out = [0; 8];
    out.copy_from_slice(&entry[at..at + 8]);
    u64::from_le_bytes(out)
}
