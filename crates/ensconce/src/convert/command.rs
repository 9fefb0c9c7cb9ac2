// SPDX-License-Identifier: Apache-2.0
//! What the service runs: command, environment and working directory of the
//! native image and of the options, merged.

use oci::config::NativeConfig;
use oci::path::RootPath;
use oci::root::{NodeKind, RootView};

use super::binary::{self, Binary, DEFAULT_PATH};
use super::request::Request;
use crate::exit::{Class, Failure};

/// The documented value, without its last colon: an empty part would mean the
/// working directory.
const LIBRARY_PATH: &str = "/lib:/usr/lib:/usr/local/lib";

/// The session's part about the program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Launch {
    pub(crate) command: Command,
    /// Variables, each name once, in the order of their first mention.
    pub(crate) env: Vec<(String, String)>,
    /// Working directory, absolute.
    pub(crate) pwd: String,
}

/// A command as the session language has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Command {
    /// As the user wrote it; the session language splits it.
    Line(String),
    /// The words of the native image.
    Words(Vec<String>),
}

/// PATH of the native image, which also resolves bare names of programs.
pub(crate) fn search_path(config: &NativeConfig) -> &str {
    config
        .env
        .iter()
        .rev()
        .find(|(name, _)| name == "PATH")
        .map_or(DEFAULT_PATH, |(_, value)| value)
}

/// Merges native configuration and options.
pub(crate) fn merge(
    request: &Request,
    config: &NativeConfig,
    view: &RootView,
    binary: &Binary,
) -> Result<Launch, Failure> {
    let command = match &request.options.command {
        Some(command) if command.trim().is_empty() => {
            return Err(Failure::new(Class::Usage, "--command is empty"));
        }
        Some(command) => Command::Line(command.clone()),
        None => Command::of_words(native_command(config, view, binary)?),
    };
    let mut env: Vec<(String, String)> = Vec::new();
    let native = (!request.options.disable_copy_envvars).then_some(&config.env);
    for (name, value) in native.into_iter().flatten().chain(&request.env) {
        match env.iter_mut().find(|(known, _)| known == name) {
            Some((_, known)) => known.clone_from(value),
            None => env.push((name.clone(), value.clone())),
        }
    }
    let has = |wanted| env.iter().any(|(name, _)| name == wanted);
    if !request.options.disable_ld_library_path_in_session
        && !has("LD_LIBRARY_PATH")
        && needs_library_path(view)
    {
        env.push(("LD_LIBRARY_PATH".to_owned(), LIBRARY_PATH.to_owned()));
    }
    if !env.iter().any(|(name, _)| name == "PATH") {
        env.push(("PATH".to_owned(), DEFAULT_PATH.to_owned()));
    }
    let pwd = match config.working_dir.as_str() {
        "" => "/".to_owned(),
        directory => working_directory(view, directory)?,
    };
    Ok(Launch { command, env, pwd })
}

/// Whether libraries lie where other systems' loaders look and this image's
/// does not: glibc knows `/usr/local/lib` only through its cache.
fn needs_library_path(view: &RootView) -> bool {
    let find = |path: &str| {
        let path = RootPath::parse(path).ok()?;
        view.resolve(&path).ok()
    };
    let is_glibc = find("/lib64/ld-linux-x86-64.so.2").is_some();
    let holds_library = |(directory, _): (RootPath, _)| {
        view.children(&directory).any(|(child, _)| {
            let name = child.file_name();
            name.ends_with(b".so") || name.windows(4).any(|part| part == b".so.")
        })
    };
    is_glibc
        && find("/etc/ld.so.cache").is_none()
        && find("/usr/local/lib").is_some_and(holds_library)
}

fn working_directory(view: &RootView, directory: &str) -> Result<String, Failure> {
    let path = RootPath::parse(directory).ok();
    let found = path.as_ref().and_then(|path| view.resolve(path).ok());
    match (path, found) {
        (Some(path), Some((_, node))) if node.is_directory() => {
            Ok(String::from_utf8_lossy(path.as_bytes()).into_owned())
        }
        _ => Err(Failure::new(
            Class::Files,
            format!(
                "The native image's working directory '{}' does not exist in it",
                oci::path::printable(directory.as_bytes())
            ),
        )),
    }
}

/// ENTRYPOINT and CMD, led to the program that was chosen.
fn native_command(
    config: &NativeConfig,
    view: &RootView,
    binary: &Binary,
) -> Result<Vec<String>, Failure> {
    let program = String::from_utf8_lossy(binary.path.as_bytes()).into_owned();
    let mut words: Vec<String> = config
        .entrypoint
        .iter()
        .chain(&config.cmd)
        .cloned()
        .collect();
    if let [shell, dash_c, line] = words.as_slice()
        && matches!(shell.as_str(), "/bin/sh" | "sh" | "/bin/bash" | "bash")
        && dash_c == "-c"
        && let Some(simple) = simple_words(line)
    {
        words = simple;
    }
    let Some(first) = words.first() else {
        return Ok(vec![program]);
    };
    let located = if first.contains('/') {
        let absolute = format!("{}/{first}", config.working_dir);
        let path = if first.starts_with('/') {
            first
        } else {
            &absolute
        };
        RootPath::parse(path)
            .ok()
            .and_then(|path| view.resolve(&path).ok())
    } else {
        binary::search(view, first, search_path(config))
    };
    let Some((path, node)) = located else {
        return Err(Failure::new(
            Class::Binary,
            format!(
                "The native image starts '{}', which it does not hold; give --command",
                oci::path::printable(first.as_bytes())
            ),
        ));
    };
    if path == binary.path {
        return Ok(words);
    }
    // Launchers such as "flask" are scripts of the chosen interpreter.
    if let NodeKind::File(data) = &node.kind
        && let Ok(content) = view.content(data)
    {
        let mut head = [0; 256];
        let read = content.read_at(0, &mut head).unwrap_or(0);
        if let Some((interpreter, argument)) = binary::shebang(head.get(..read).unwrap_or_default())
        {
            let (name, argument) = match argument {
                Some(name) if interpreter.ends_with("/env") => (name, None),
                other => (interpreter, other),
            };
            let leads_here = binary::locate(view, &name, search_path(config))
                .is_ok_and(|(found, _)| found == binary.path);
            if leads_here {
                let script = String::from_utf8_lossy(path.as_bytes()).into_owned();
                let rest = words.iter().skip(1).cloned();
                return Ok([name]
                    .into_iter()
                    .chain(argument)
                    .chain([script])
                    .chain(rest)
                    .collect());
            }
        }
    }
    Err(Failure::new(
        Class::Binary,
        format!(
            "The native image starts '{path}', not --binary='{program}'; say with --command how \
             the program is called, such as --command='{program} …'"
        ),
    ))
}

/// Splits a shell line that uses nothing of the shell.
fn simple_words(line: &str) -> Option<Vec<String>> {
    let is_simple = line
        .chars()
        .all(|character| character.is_ascii_alphanumeric() || " /._-+=:,@%".contains(character));
    let mut words: Vec<String> = line.split_ascii_whitespace().map(str::to_owned).collect();
    if words.first().is_some_and(|word| word == "exec") {
        words.remove(0);
    }
    // A leading assignment would be an environment variable.
    let starts_program = words.first().is_some_and(|word| !word.contains('='));
    (is_simple && starts_program).then_some(words)
}

impl Command {
    /// One line if splitting it gives the same words again.
    fn of_words(words: Vec<String>) -> Self {
        let is_bare = |word: &String| {
            !word.is_empty() && !word.contains(|c: char| c.is_whitespace() || c == '"' || c == '\'')
        };
        if words.iter().all(is_bare) {
            Self::Line(words.join(" "))
        } else {
            Self::Words(words)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shell_lines_without_shell_are_split() {
        assert_eq!(
            simple_words("exec python3 -m flask run"),
            Some(
                ["python3", "-m", "flask", "run"]
                    .map(str::to_owned)
                    .to_vec()
            )
        );
        for line in ["a && b", "a $X", "A=1 b", "a 'b c'", "a > b", ""] {
            assert_eq!(simple_words(line), None, "{line}");
        }
    }

    #[test]
    fn words_with_spaces_stay_a_list() {
        let words = |list: &[&str]| {
            list.iter()
                .map(|word| (*word).to_owned())
                .collect::<Vec<_>>()
        };
        assert_eq!(
            Command::of_words(words(&["python3", "/app/x.py"])),
            Command::Line("python3 /app/x.py".to_owned())
        );
        for list in [&["a", "b c"][..], &["a", ""], &["a", "'"]] {
            assert_eq!(Command::of_words(words(list)), Command::Words(words(list)));
        }
    }
}
