// SPDX-License-Identifier: Apache-2.0
//! Finds the program in the image and looks at what it is.

use oci::path::{RootPath, printable};
use oci::root::{FileData, Node, NodeKind, ResolveError, RootView};

use crate::args::Size;
use crate::exit::{Class, Classify as _, Failure};

/// Where names without a slash are looked for if the image has no PATH, as
/// docker does it.
pub(crate) const DEFAULT_PATH: &str =
    "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Bytes of a program that are read to classify it.
const HEAD: usize = 64;
/// Longest first line of a script that is looked at.
const MAX_SHEBANG: usize = 256;
/// Bytes in which a Go build id or runtime name is looked for.
const GO_SEARCH: u64 = 64 << 10;

const CHOOSE: &str = "name an x86-64 program of the image, such as the one that its ENTRYPOINT or \
                      CMD starts";

/// The program that will run in the enclave.
#[derive(Debug, Clone)]
pub(crate) struct Binary {
    /// Its path without symbolic links.
    pub(crate) path: RootPath,
    /// Its owner, permissions and time.
    pub(crate) node: Node,
    /// Its content.
    pub(crate) data: FileData,
    pub(crate) service: Service,
}

/// Kinds of services that differ in what they need.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Service {
    Go,
    Java,
    Native,
    Node,
    Python,
}

impl Service {
    /// As the report and the notices name it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Go => "Go",
            Self::Java => "Java",
            Self::Native => "native code",
            Self::Node => "Node.js",
            Self::Python => "Python",
        }
    }

    fn of(path: &RootPath, data: &[u8]) -> Self {
        let name = path.file_name();
        let is_version = |text: &[u8]| {
            text.iter()
                .all(|byte| byte.is_ascii_digit() || *byte == b'.')
        };
        match name {
            b"node" | b"nodejs" => return Self::Node,
            b"java" => return Self::Java,
            _ => {}
        }
        if name.strip_prefix(b"python").is_some_and(is_version) {
            return Self::Python;
        }
        let holds = |needle: &[u8]| data.windows(needle.len()).any(|window| window == needle);
        if holds(b"Go build ID: ") || holds(b".note.go.buildid") {
            return Self::Go;
        }
        Self::Native
    }

    /// Most memory: heap is committed as it is used, so a generous bound
    /// costs nothing.
    pub(crate) fn default_heap(self) -> Size {
        Size::mebibytes(match self {
            Self::Go | Self::Native | Self::Python => 1 << 10,
            Self::Java | Self::Node => 4 << 10,
        })
    }

    /// Interpreters recurse deeply.
    pub(crate) fn default_stack(self) -> Size {
        Size::mebibytes(match self {
            Self::Go | Self::Native => 1,
            Self::Java | Self::Node | Self::Python => 4,
        })
    }
}

/// Finds `--binary` and refuses what cannot run in an enclave.
pub(crate) fn find(view: &RootView, wanted: &str, path: &str) -> Result<Binary, Failure> {
    let (resolved, node) = locate(view, wanted, path)?;
    let data = match &node.kind {
        NodeKind::File(data) => *data,
        _ => {
            return Err(Failure::new(
                Class::Binary,
                format!("--binary={wanted}: '{resolved}' is no regular file"),
            ));
        }
    };
    let content = view
        .content(&data)
        .class(Class::Internal, "Cannot read the program")?;
    let mut head = vec![0; HEAD.max(MAX_SHEBANG)];
    let read = content
        .read_at(0, &mut head)
        .class(Class::Internal, "Cannot read the program")?;
    head.truncate(read);
    check_format(&resolved, &head)?;
    // A Go build id stands near the start of the text.
    let mut start = vec![0; usize::try_from(data.size.min(GO_SEARCH)).unwrap_or(0)];
    content
        .read_exact_at(0, &mut start)
        .class(Class::Internal, "Cannot read the program")?;
    Ok(Binary {
        service: Service::of(&resolved, &start),
        node: node.clone(),
        path: resolved,
        data,
    })
}

/// Resolves an absolute path, or a name in the directories of `path`.
pub(crate) fn locate<'v>(
    view: &'v RootView,
    wanted: &str,
    path: &str,
) -> Result<(RootPath, &'v Node), Failure> {
    let absent = |source: ResolveError| match source {
        ResolveError::Missing { path } => Failure::new(
            Class::Binary,
            format!("--binary={wanted}: '{path}' does not exist in the image"),
        )
        .with_help(CHOOSE),
        other => Failure::new(Class::Binary, format!("--binary={wanted}: {other}")),
    };
    if wanted.contains('/') {
        if !wanted.starts_with('/') {
            return Err(Failure::new(
                Class::Usage,
                format!("--binary={wanted} must be an absolute path or a bare name"),
            ));
        }
        let path = RootPath::parse(wanted)
            .class(Class::Usage, format!("--binary={wanted} cannot be used"))?;
        return view.resolve(&path).map_err(absent);
    }
    search(view, wanted, path).ok_or_else(|| {
        Failure::new(
            Class::Binary,
            format!("--binary={wanted}: no such program in the image's PATH ({path})"),
        )
        .with_help(CHOOSE)
    })
}

/// The first executable file of this name in the directories of `path`.
pub(crate) fn search<'v>(
    view: &'v RootView,
    name: &str,
    path: &str,
) -> Option<(RootPath, &'v Node)> {
    path.split(':')
        .filter(|directory| directory.starts_with('/'))
        .filter_map(|directory| RootPath::parse(format!("{directory}/{name}")).ok())
        .filter_map(|candidate| view.resolve(&candidate).ok())
        .find(|(_, node)| matches!(node.kind, NodeKind::File(_)) && node.metadata.mode & 0o111 != 0)
}

/// The interpreter line of a script: program and at most one argument.
pub(crate) fn shebang(head: &[u8]) -> Option<(String, Option<String>)> {
    let line = head.strip_prefix(b"#!")?;
    let line = line.split(|byte| *byte == b'\n').next()?;
    let line = std::str::from_utf8(line).ok()?.trim();
    let (program, argument) = match line.split_once([' ', '\t']) {
        Some((program, argument)) => (program, Some(argument.trim().to_owned())),
        None => (line, None),
    };
    (!program.is_empty()).then(|| (program.to_owned(), argument.filter(|text| !text.is_empty())))
}

fn check_format(path: &RootPath, head: &[u8]) -> Result<(), Failure> {
    let refuse = |reason: String| Err(Failure::new(Class::Binary, reason).with_help(CHOOSE));
    if let Some((program, argument)) = shebang(head) {
        // "/usr/bin/env python3" means python3.
        let interpreter = match argument {
            Some(name) if program.ends_with("/env") => name,
            _ => program,
        };
        let interpreter = printable(interpreter.as_bytes());
        let reason = format!(
            "'{path}' is a script, not a program; convert its interpreter instead: \
             --binary={interpreter} --command='{interpreter} {path}'"
        );
        return Err(Failure::new(Class::Binary, reason));
    }
    let Some(ident) = head.strip_prefix(b"\x7fELF") else {
        return refuse(format!("'{path}' is not an ELF program"));
    };
    // ELF specification, "ELF Identification" and "ELF Header".
    let machine = head.get(18..20);
    match (ident.first(), ident.get(1), machine) {
        (Some(2), Some(1), Some([62, 0])) => {}
        (Some(1), _, _) => return refuse(format!("'{path}' is a 32-bit program")),
        _ => return refuse(format!("'{path}' is not for x86-64")),
    }
    match head.get(16..18) {
        // Fixed and position-independent executables.
        Some([2 | 3, 0]) => Ok(()),
        _ => refuse(format!("'{path}' is an object or core file, not a program")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> RootPath {
        RootPath::parse(text).expect("test path")
    }

    fn elf(class: u8, kind: u8, machine: u8) -> Vec<u8> {
        let mut head = vec![0; 64];
        head[..6].copy_from_slice(&[0x7f, b'E', b'L', b'F', class, 1]);
        head[16] = kind;
        head[18] = machine;
        head
    }

    #[test]
    fn programs_of_both_kinds_pass() {
        for kind in [2, 3] {
            assert!(check_format(&path("/a"), &elf(2, kind, 62)).is_ok());
        }
    }

    #[test]
    fn other_formats_are_refused_by_name() {
        let refusal = |head: &[u8]| {
            format!(
                "{:?}",
                check_format(&path("/a"), head).expect_err("refused")
            )
        };
        assert!(refusal(&elf(1, 2, 3)).contains("32-bit"));
        assert!(refusal(&elf(2, 2, 183)).contains("x86-64"));
        assert!(refusal(&elf(2, 1, 62)).contains("object"));
        assert!(refusal(b"MZ").contains("not an ELF"));
        assert!(refusal(b"").contains("not an ELF"));
        assert!(refusal(b"#!/usr/bin/env python3\n").contains("--binary=python3"));
        assert!(refusal(b"#!/bin/sh -e\n").contains("--binary=/bin/sh --command='/bin/sh /a'"));
    }

    #[test]
    fn services_are_recognised() {
        for (name, kind) in [
            ("/usr/bin/python3.11", Service::Python),
            ("/usr/bin/python", Service::Python),
            ("/usr/bin/python-config", Service::Native),
            ("/usr/local/bin/node", Service::Node),
            ("/opt/jre/bin/java", Service::Java),
            ("/bin/server", Service::Native),
        ] {
            assert_eq!(Service::of(&path(name), b""), kind, "{name}");
        }
        assert_eq!(
            Service::of(&path("/x"), b"..Go build ID: \"a\""),
            Service::Go
        );
    }
}
