// SPDX-License-Identifier: Apache-2.0
//! The files that run before any key is known: program, loader, libraries,
//! agent.

use std::io;

use enclave_abi::startup::{Role, StartupFile, StartupList};
use enclave_image::closure::{Closure, Libc};
use enclave_image::root::{FILE_MAX, Node as Found, Root};
use oci::path::RootPath;
use oci::root::{Node, NodeKind, RootView};

use super::binary::Binary;
use super::facts::{Facts, Known};
use super::regions::{OWN, Plan};
use crate::console::Console;
use crate::exit::{Class, Classify as _, Failure};
use shieldfs::region::Class as Protection;

/// Startup list and what was found on the way.
#[derive(Debug)]
pub(crate) struct Startup {
    pub(crate) list: StartupList,
    /// Also the last file of the list.
    agent: StartupFile,
    pub(crate) libc: Libc,
    /// Where the program's own file lies in the result.
    pub(crate) program: RootPath,
}

impl Startup {
    /// The agent's file.
    pub(crate) fn agent(&self) -> &StartupFile {
        &self.agent
    }
}

/// Where the agent lies in the result.
pub(crate) fn agent_path() -> String {
    format!("{OWN}/agent")
}

/// Finds what the program needs and takes it out of encrypted regions.
pub(crate) fn plan(
    view: &RootView,
    binary: &Binary,
    agent: &Known,
    plan: &mut Plan,
    facts: &mut Facts,
    console: Console,
) -> Result<Startup, Failure> {
    let closure = Closure::find(&ImageRoot(view), binary.path.as_bytes()).class(
        Class::Binary,
        format!("'{}' cannot be started in an enclave", binary.path),
    )?;
    for file in &closure.files {
        let path = RootPath::parse(&file.path).class(Class::Internal, "Path of a library")?;
        match plan.class_of(&path) {
            Protection::Authenticated => {}
            Protection::Encrypted => {
                console.notice(format!(
                    "'{path}' is loaded before any key is known: authenticated, not encrypted"
                ));
                plan.authenticate(&path)?;
            }
            other => {
                return Err(Failure::new(
                    Class::Files,
                    format!(
                        "'{path}' is needed to start and must be authenticated, but lies in a \
                         region that is {other}"
                    ),
                ));
            }
        }
    }
    let mut list = StartupList::default();
    for file in &closure.files {
        let data = match parse(&file.path).ok().and_then(|path| view.node(&path)) {
            Some(Node {
                kind: NodeKind::File(data),
                ..
            }) => *data,
            _ => return Err(Failure::new(Class::Internal, "A library is no file")),
        };
        let found = facts
            .startup_file(data, file.role, &file.path, &file.bytes)
            .class(
                Class::Binary,
                format!("'{}' cannot be started in an enclave", binary.path),
            )?;
        list.files.push(found);
    }
    // At the program's own path lies the launcher.
    let program = RootPath::parse(format!("{OWN}/program"))
        .and_then(|prefix| {
            binary
                .path
                .components()
                .try_fold(prefix, |path, name| path.join(name))
        })
        .class(Class::Binary, "The program's path is too long")?;
    for file in &mut list.files {
        if file.role == Role::Program {
            file.path = program.as_bytes().to_vec();
        }
    }
    let agent = agent.to_startup(Role::Agent, agent_path().as_bytes());
    list.files.push(agent.clone());
    Ok(Startup {
        list,
        agent,
        libc: closure.libc,
        program,
    })
}

/// The image's merged root, as looking up programs needs it.
struct ImageRoot<'a>(&'a RootView);

fn parse(path: &[u8]) -> io::Result<RootPath> {
    RootPath::parse(path).map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))
}

impl Root for ImageRoot<'_> {
    fn node(&self, path: &[u8]) -> io::Result<Option<Found>> {
        let Ok(path) = parse(path) else {
            return Ok(None);
        };
        Ok(self.0.node(&path).map(|node| match &node.kind {
            NodeKind::File(_) => Found::File,
            NodeKind::Directory => Found::Directory,
            NodeKind::Symlink { target } => Found::Link(target.clone()),
            _ => Found::Other,
        }))
    }

    fn read(&self, path: &[u8]) -> io::Result<Vec<u8>> {
        match self.0.node(&parse(path)?).map(|node| &node.kind) {
            Some(NodeKind::File(data)) => self.0.content(data)?.read_all(FILE_MAX),
            _ => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn list(&self, path: &[u8]) -> io::Result<Vec<Vec<u8>>> {
        let path = parse(path)?;
        let children = self.0.children(&path);
        Ok(children
            .map(|(child, _)| child.file_name().to_vec())
            .collect())
    }
}
