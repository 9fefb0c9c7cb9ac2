// SPDX-License-Identifier: Apache-2.0
//! The session: what an attested enclave receives.

use std::fs::Permissions;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use policy::quoted;
use tempfile::NamedTempFile;
use zeroize::Zeroizing;

use super::command::{Command, Launch};
use super::enclave::Enclave;
use super::request::Request;
use super::seal::Sealed;
use crate::console::Console;
use crate::exit::{Class, Classify as _, Failure};

/// Version of the session language that is written.
const VERSION: &str = "0.3.12";
/// Where the reference tool's users mount a directory for results.
const RESOURCES: &str = "/build-resources";

/// A session document; holds the FSPF key.
pub(crate) struct Document(Zeroizing<String>);

impl std::fmt::Debug for Document {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Document([redacted])")
    }
}

impl Document {
    pub(crate) fn text(&self) -> &str {
        &self.0
    }

    /// The text with the key and the variables' values left out.
    pub(crate) fn shown(&self) -> String {
        let mut is_environment = false;
        let mut shown = String::new();
        for line in self.0.lines() {
            let name = line.trim_start();
            if name.starts_with("environment:") {
                is_environment = true;
            } else if is_environment && !line.starts_with("      ") {
                is_environment = false;
            }
            let is_secret = name.starts_with("fspf_key:")
                || name.starts_with("command:")
                || (is_environment && !name.starts_with("environment:"));
            match line.split_once(": ") {
                Some((head, _)) if is_secret => shown.push_str(&format!("{head}: (hidden)\n")),
                _ => shown.push_str(&format!("{line}\n")),
            }
        }
        shown
    }
}

/// Writes the session's text and checks that it is one.
pub(crate) fn render(
    request: &Request,
    launch: &Launch,
    enclave: &Enclave,
    sealed: &Sealed,
    anchor: Option<&str>,
    console: Console,
) -> Result<Document, Failure> {
    let service = request.service.as_str();
    let mut text = Zeroizing::new(String::new());
    let mut line = |content: &str| {
        text.push_str(content);
        text.push('\n');
    };
    line(&format!("name: {}", &*quoted(request.session.as_str())));
    line(&format!("version: {}", &*quoted(VERSION)));
    line("access_policy:");
    line("  read: [CREATOR]");
    line("  update: [CREATOR]");
    line("services:");
    line(&format!("  - name: {}", &*quoted(service)));
    line(&format!(
        "    image_name: {}",
        &*quoted(&image_name(service))
    ));
    line("    attestation:");
    let mrenclave = hex::encode(enclave.image.mrenclave);
    line(&format!("      - mrenclave: [\"{mrenclave}\"]"));
    if !enclave.is_debug {
        line("        signer:");
        line(&format!(
            "          mrsigner: \"{}\"",
            hex::encode(enclave.mrsigner)
        ));
        line("          isvprodid: 0");
        line("          isvsvn: 0");
    }
    match &launch.command {
        Command::Line(command) => line(&format!("    command: {}", &*quoted(command))),
        Command::Words(words) => {
            line("    command:");
            for word in words {
                line(&format!("      - {}", &*quoted(word)));
            }
        }
    }
    line(&format!("    pwd: {}", &*quoted(&launch.pwd)));
    if !launch.env.is_empty() || request.options.log.is_some() {
        line("    environment:");
        for (name, value) in &launch.env {
            line(&format!("      {}: {}", &*quoted(name), &*quoted(value)));
        }
        if let Some(level) = request.options.log {
            line(&format!("      \"SCONE_LOG\": \"{level}\""));
        }
    }
    line("    fspf_path: /fspf/fs.fspf");
    line(&format!(
        "    fspf_key: {}",
        &*quoted(&sealed.key.expose_hex())
    ));
    line(&format!("    fspf_tag: \"{}\"", sealed.fspf.tag));
    line("images:");
    line(&format!("  - name: {}", &*quoted(&image_name(service))));
    line("security:");
    line("  attestation:");
    line(&format!("    tolerate: [{}]", tolerated(request, anchor)));
    check(&text, console)?;
    Ok(Document(text))
}

fn image_name(service: &str) -> String {
    format!("{service}_image")
}

fn tolerated(request: &Request, anchor: Option<&str>) -> String {
    let mut list = Vec::new();
    if request.options.allow_debug_mode {
        list.push("debug-mode".to_owned());
    }
    if let Some(anchor) = anchor {
        list.push(format!("\"emulated-platform:{anchor}\""));
    }
    list.join(", ")
}

fn check(text: &str, console: Console) -> Result<(), Failure> {
    let parsed = policy::parse(text).class(Class::Session, "The session is not valid")?;
    for warning in &parsed.warnings {
        console.step(format!("session: {warning}"));
    }
    Ok(())
}

/// Where the session is written; `None`: only to the CAS.
pub(crate) fn file(request: &Request) -> Option<PathBuf> {
    if let Some(path) = &request.options.session {
        return Some(path.clone());
    }
    let resources = Path::new(RESOURCES);
    if resources.is_dir() {
        return Some(resources.join("session.yml"));
    }
    request
        .options
        .disable_session_upload
        .then(|| PathBuf::from("session.yml"))
}

/// A session's file that is written and has no name yet; it vanishes with this
/// value, because a session without its image is only a secret left behind.
#[derive(Debug)]
pub(crate) struct Prepared {
    temporary: NamedTempFile,
    path: PathBuf,
}

impl Prepared {
    /// Gives the file its name.
    pub(crate) fn publish(self) -> Result<(), Failure> {
        let doing = format!("Cannot write the session to '{}'", self.path.display());
        self.temporary
            .persist(&self.path)
            .class(Class::Files, doing)?;
        Ok(())
    }
}

/// Writes the session, readable by its owner only.
pub(crate) fn prepare(document: &Document, path: PathBuf) -> Result<Prepared, Failure> {
    let doing = format!("Cannot write the session to '{}'", path.display());
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    if !parent.is_dir() {
        return Err(Failure::new(
            Class::Files,
            format!(
                "{doing}: '{}' is no directory; make it first",
                parent.display()
            ),
        ));
    }
    let mut temporary = tempfile::Builder::new()
        .prefix(".session-")
        .permissions(Permissions::from_mode(0o600))
        .tempfile_in(parent)
        .class(Class::Files, &doing)?;
    temporary
        .write_all(document.text().as_bytes())
        .class(Class::Files, &doing)?;
    if path.is_dir() {
        return Err(Failure::new(
            Class::Files,
            format!("{doing}: it is a directory"),
        ));
    }
    Ok(Prepared { temporary, path })
}
