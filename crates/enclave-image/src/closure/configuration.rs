// SPDX-License-Identifier: Apache-2.0
//! The system-wide library directories: `/etc/ld.so.conf` of glibc and
//! `/etc/ld-musl-x86_64.path` of musl.

use super::ClosureError;
use crate::root::{Node, Root, RootError, resolve};

/// Most directories, and most included files.
const ENTRIES_MAX: usize = 1024;
/// Where glibc looks last. Distributions differ; those that an image lacks cost nothing.
const GLIBC_DEFAULTS: [&str; 6] = [
    "/lib/x86_64-linux-gnu",
    "/usr/lib/x86_64-linux-gnu",
    "/lib64",
    "/usr/lib64",
    "/lib",
    "/usr/lib",
];
/// Where musl looks when it has no path file.
const MUSL_DEFAULTS: [&str; 3] = ["/lib", "/usr/local/lib", "/usr/lib"];

/// glibc's directories, in order.
pub(super) fn glibc(root: &dyn Root) -> Result<Vec<Vec<u8>>, ClosureError> {
    let mut out = Vec::new();
    let mut pending = vec![b"/etc/ld.so.conf".to_vec()];
    let mut files = 0;
    while let Some(path) = pending.pop() {
        files += 1;
        if files > ENTRIES_MAX {
            break;
        }
        let mut includes = Vec::new();
        for line in lines(&text(root, &path)?) {
            let mut words = line
                .split(u8::is_ascii_whitespace)
                .filter(|w| !w.is_empty());
            match words.next() {
                Some(b"include") => {
                    for pattern in words {
                        includes.extend(expand(root, pattern)?);
                    }
                }
                // Another form: `hwcap N name`, of no meaning for 64-bit files.
                Some(b"hwcap") => {}
                Some(_) if line.starts_with(b"/") && out.len() < ENTRIES_MAX => {
                    out.push(line.trim_ascii().to_vec());
                }
                _ => {}
            }
        }
        // Included files come in their own order before what is still pending.
        pending.extend(includes.into_iter().rev());
    }
    out.extend(GLIBC_DEFAULTS.map(|path| path.as_bytes().to_vec()));
    Ok(out)
}

/// musl's directories, in order. The path file lies in `etc` beside the
/// directory of the interpreter that the program names.
pub(super) fn musl(root: &dyn Root, interpreter: &[u8]) -> Result<Vec<Vec<u8>>, ClosureError> {
    let at = interpreter
        .windows(5)
        .rposition(|window| window == b"/lib/");
    let prefix = at.and_then(|at| interpreter.get(..at)).unwrap_or_default();
    let file = [prefix, b"/etc/ld-musl-x86_64.path"].concat();
    let text = text(root, &file)?;
    let listed: Vec<Vec<u8>> = text
        .split(|&b| b == b':' || b == b'\n')
        .filter(|path| path.first() == Some(&b'/'))
        .take(ENTRIES_MAX)
        .map(<[u8]>::to_vec)
        .collect();
    if listed.is_empty() {
        return Ok(MUSL_DEFAULTS.map(|path| path.as_bytes().to_vec()).to_vec());
    }
    Ok(listed)
}

/// The file's text; empty if there is none.
fn text(root: &dyn Root, path: &[u8]) -> Result<Vec<u8>, RootError> {
    match resolve(root, path)? {
        Some((path, Node::File)) => root
            .read(&path)
            .map_err(|source| RootError::Io { path, source }),
        _ => Ok(Vec::new()),
    }
}

/// Lines without comments and surrounding blanks.
fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|&b| b == b'\n')
        .filter_map(|line| line.split(|&b| b == b'#').next())
        .map(<[u8]>::trim_ascii)
        .filter(|line| !line.is_empty())
}

/// Expands `*` in the last component, which is all that the files in use need.
fn expand(root: &dyn Root, pattern: &[u8]) -> Result<Vec<Vec<u8>>, RootError> {
    let Some(at) = pattern.iter().rposition(|&b| b == b'/') else {
        // Relative to the including file, which is always below /etc.
        return expand(root, &[b"/etc/", pattern].concat());
    };
    let pattern = if pattern.first() == Some(&b'/') {
        pattern.to_vec()
    } else {
        [b"/etc/", pattern].concat()
    };
    let at = pattern.iter().rposition(|&b| b == b'/').unwrap_or(at);
    let (directory, name) = pattern.split_at_checked(at + 1).unwrap_or((&pattern, b""));
    let Some(star) = name.iter().position(|&b| b == b'*') else {
        return Ok(vec![pattern]);
    };
    let (start, end) = (name.get(..star), name.get(star + 1..));
    let (start, end) = (start.unwrap_or_default(), end.unwrap_or_default());
    let Some((directory, Node::Directory)) = resolve(root, directory)? else {
        return Ok(Vec::new());
    };
    let mut names = root.list(&directory).map_err(|source| RootError::Io {
        path: directory.clone(),
        source,
    })?;
    names.sort_unstable();
    names.retain(|n| {
        n.len() >= start.len() + end.len()
            && n.starts_with(start)
            && n.ends_with(end)
            && !n.starts_with(b".")
    });
    names.truncate(ENTRIES_MAX);
    Ok(names
        .into_iter()
        .map(|name| [&directory, &b"/"[..], &name].concat())
        .collect())
}
