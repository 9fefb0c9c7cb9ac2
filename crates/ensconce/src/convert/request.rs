// SPDX-License-Identifier: Apache-2.0
//! Checks the options against each other before any work is done.

use oci::path::RootPath;
use oci::reference::Reference;
use policy::{Name, SessionName};

use crate::args::Convert;
use crate::console::Console;
use crate::exit::{Class, Classify as _, Failure};

/// Options that make sense together.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) options: Convert,
    pub(crate) from: Reference,
    pub(crate) to: Reference,
    pub(crate) session: SessionName,
    pub(crate) service: Name,
    /// `--env`, in order.
    pub(crate) env: Vec<(String, String)>,
    /// Paths by the option that names them, in the order given.
    pub(crate) paths: Vec<(Treatment, RootPath)>,
}

/// What the user wants for a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Treatment {
    Encrypted,
    HostPath,
    Plain,
    PlainFile,
}

impl Treatment {
    /// The option that asks for it.
    pub(crate) fn option(self) -> &'static str {
        match self {
            Self::Encrypted => "--dir",
            Self::HostPath => "--host-path",
            Self::Plain => "--plain",
            Self::PlainFile => "--plain-file",
        }
    }
}

impl Request {
    pub(crate) fn check(options: Convert, console: Console) -> Result<Self, Failure> {
        refuse_unsupported(&options)?;
        notices(&options, console);
        let usage = |option: &str| format!("{option} cannot be used");
        let from = options.from.parse().class(Class::Usage, usage("--from"))?;
        let to: Reference = options.to.parse().class(Class::Usage, usage("--to"))?;
        let session = match &options.name {
            Some(name) => SessionName::parse(name)
                .class(Class::Usage, format!("--name={name} cannot be used"))?,
            None => SessionName::parse(&default_session_name(&to)).class(
                Class::Usage,
                "No session name can be made from --to; use --name",
            )?,
        };
        let service = Name::parse(&options.service_name).class(
            Class::Usage,
            format!("--service-name={} cannot be used", options.service_name),
        )?;
        let env = options
            .env
            .iter()
            .map(|text| variable(text))
            .collect::<Result<_, _>>()?;
        let paths = paths(&options)?;
        Ok(Self {
            options,
            from,
            to,
            session,
            service,
            env,
            paths,
        })
    }
}

fn refuse_unsupported(options: &Convert) -> Result<(), Failure> {
    let not_yet = |what: &str| Failure::new(Class::Usage, format!("{what} is not supported yet"));
    if let Some(first) = options.not_yet.refused.first() {
        return Err(not_yet(&format!("--{first}")));
    }
    if options.fork == 1 {
        return Err(not_yet("--fork=1"));
    }
    if options.dlopen == 2 && options.scone_signer.is_some() {
        return Err(Failure::new(
            Class::Usage,
            "--dlopen=2 lets unprotected code into the enclave and cannot be signed for \
             production; use --dlopen=1, or leave out --scone-signer",
        ));
    }
    Ok(())
}

/// Says which options need no action, and which weaken what.
fn notices(options: &Convert, console: Console) {
    for (name, reason) in &options.not_yet.not_needed {
        console.notice(format!("--{name} is not needed: {reason}"));
    }
    for word in &options.stray {
        console.warning(format!(
            "'{}' belongs to no option and is ignored; is a quote missing around a value?",
            oci::path::printable(word.as_bytes())
        ));
    }
    if options.disable_copy_service_libraries {
        console.notice(
            "--disable-copy-service-libraries: libraries of the service keep the protection that \
             --dir and --plain give them; without any, they are authenticated like every file",
        );
    }
    let is_production = options.scone_signer.is_some();
    if options.cas_debug {
        console.warning(
            "--cas-debug accepts a CAS that can read every secret of the session; for \
             development only",
        );
    }
    if options.allow_debug_mode {
        console.warning(
            "--allow-debug-mode: whoever runs the enclave can read its memory; for development \
             only",
        );
    }
    if options.allow_emulated_platform.is_some() {
        console.warning(
            "--allow-emulated-platform: emulation protects nothing against root of the machine \
             that runs it; for development only",
        );
    }
    if is_production && (options.allow_debug_mode || options.cas_debug) {
        console.warning(
            "the enclave is signed for production, but the session gives its secrets to \
             development set-ups as well",
        );
    }
    if options.dlopen == 2 {
        console.warning("--dlopen=2 lets unprotected code into the enclave");
    }
}

fn variable(text: &str) -> Result<(String, String), Failure> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() && !text.contains('\0') => {
            Ok((name.to_owned(), value.to_owned()))
        }
        // The value may be a secret, so it is not repeated.
        _ => Err(Failure::new(
            Class::Usage,
            "--env needs the form NAME=VALUE",
        )),
    }
}

fn paths(options: &Convert) -> Result<Vec<(Treatment, RootPath)>, Failure> {
    let lists = [
        (Treatment::Encrypted, &options.dir),
        (Treatment::Plain, &options.plain),
        (Treatment::PlainFile, &options.plain_file),
        (Treatment::HostPath, &options.host_path),
    ];
    let mut paths: Vec<(Treatment, RootPath)> = Vec::new();
    for (treatment, list) in lists {
        for text in list {
            let option = treatment.option();
            if !text.starts_with('/') {
                return Err(Failure::new(
                    Class::Usage,
                    format!("{option}={text} must be an absolute path inside the image"),
                ));
            }
            if text.contains(['*', '?', '[']) {
                return Err(Failure::new(
                    Class::Usage,
                    format!("{option}={text}: patterns are not expanded; name each path"),
                ));
            }
            let path = RootPath::parse(text)
                .class(Class::Usage, format!("{option}={text} cannot be used"))?;
            match paths.iter().find(|(_, other)| *other == path) {
                None => paths.push((treatment, path)),
                Some((first, _)) if *first == treatment => {}
                Some((first, _)) => {
                    return Err(Failure::new(
                        Class::Files,
                        format!(
                            "'{path}' is named by {} and by {option}; choose one",
                            first.option()
                        ),
                    ));
                }
            }
        }
    }
    Ok(paths)
}

/// The result's name without slashes and without what no session name has.
fn default_session_name(to: &Reference) -> String {
    let text = match to {
        Reference::OciLayout { dir, selector } => {
            let dir = dir.file_name().unwrap_or_default().to_string_lossy();
            match selector {
                Some(oci::reference::Selector::Tag(tag)) => format!("{dir}-{tag}"),
                _ => dir.into_owned(),
            }
        }
        Reference::DockerArchive { file, name } => match name {
            Some(name) => name.to_string(),
            None => file
                .file_stem()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned(),
        },
        Reference::DockerDaemon(name) => {
            let text = name.to_string();
            match text.strip_suffix(":latest") {
                Some(short) => short.to_owned(),
                None => text,
            }
        }
    };
    text.chars()
        .filter(|character| *character != '/')
        .map(|character| match character {
            'A'..='Z' | 'a'..='z' | '0'..='9' | '_' | '.' | '~' | '-' => character,
            _ => '-',
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(to: &str) -> String {
        default_session_name(&to.parse().expect("reference"))
    }

    #[test]
    fn session_names_come_from_the_result() {
        assert_eq!(name("registry.io/team/app:1.2"), "registry.ioteamapp-1.2");
        assert_eq!(name("app"), "app");
        assert_eq!(name("oci:/var/images/flask:v1"), "flask-v1");
        assert_eq!(name("docker-archive:/x/flask.tar:a/b:v1"), "ab-v1");
    }

    #[test]
    fn variables_need_a_name_and_never_show_their_value() {
        assert_eq!(
            variable("A=b=c").expect("valid"),
            ("A".to_owned(), "b=c".to_owned())
        );
        for text in ["=secret", "secret"] {
            let error = variable(text).expect_err("no name");
            assert!(!format!("{error:?}").contains("secret"));
        }
    }
}
