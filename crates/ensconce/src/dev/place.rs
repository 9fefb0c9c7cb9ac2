// SPDX-License-Identifier: Apache-2.0
//! Where the development services keep their things.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use crate::exit::{Class, Classify as _, Failure};

/// Longest socket path: `sun_path` has 108 bytes (unix(7)), and the LAS binds
/// under a longer name first.
const SOCKET_PATH_MAX: usize = 90;

/// The places of one set of services.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    /// Records, logs and the CAS's data; private.
    pub(super) state: PathBuf,
    /// The emulated platform.
    pub(super) platform: PathBuf,
    /// The socket of the LAS.
    pub(super) socket: PathBuf,
    /// The socket was chosen on the command line.
    pub(super) is_socket_chosen: bool,
    /// The state was chosen on the command line.
    pub(super) is_dir_chosen: bool,
}

/// What the choice depends on.
#[derive(Debug, Default)]
struct Surroundings {
    is_root: bool,
    home: Option<OsString>,
    xdg_state_home: Option<OsString>,
    xdg_runtime_dir: Option<OsString>,
}

impl Place {
    /// The place that the options name, or the usual one of this user.
    pub(super) fn find(dir: Option<&Path>, socket: Option<&Path>) -> Result<Self, Failure> {
        let set = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        let surroundings = Surroundings {
            is_root: rustix::process::geteuid().is_root(),
            home: set("HOME"),
            xdg_state_home: set("XDG_STATE_HOME"),
            xdg_runtime_dir: set("XDG_RUNTIME_DIR"),
        };
        Self::choose(dir, socket, &surroundings)
    }

    fn choose(
        dir: Option<&Path>,
        socket: Option<&Path>,
        surroundings: &Surroundings,
    ) -> Result<Self, Failure> {
        let (state, platform, usual_socket) = match dir {
            Some(dir) => {
                let dir = absolute(dir)?;
                let socket = dir.join("run/las.sock");
                (dir.clone(), dir.join("platform"), socket)
            }
            None if surroundings.is_root => (
                PathBuf::from("/var/lib/ensconce/dev"),
                PathBuf::from(las::platform::DEFAULT_DIR),
                PathBuf::from(enclave_abi::las::DEFAULT_SOCKET),
            ),
            None => of_user(surroundings)?,
        };
        let is_socket_chosen = socket.is_some();
        let socket = match socket {
            Some(socket) => absolute(socket)?,
            None => usual_socket,
        };
        let place = Self {
            state,
            platform,
            socket,
            is_socket_chosen,
            is_dir_chosen: dir.is_some(),
        };
        if place.socket.as_os_str().as_bytes().len() > SOCKET_PATH_MAX {
            return Err(Failure::new(
                Class::Usage,
                format!(
                    "'{}' is too long for a socket, at most {SOCKET_PATH_MAX} bytes; name a \
                     shorter one with --las-socket",
                    place.socket.display()
                ),
            ));
        }
        Ok(place)
    }

    /// A file of the state.
    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.state.join(name)
    }

    /// What has to be added to `ensconce dev …` to mean this place.
    pub(super) fn option(&self) -> String {
        if self.is_dir_chosen {
            format!(" --dir={}", self.state.display())
        } else {
            String::new()
        }
    }
}

fn of_user(surroundings: &Surroundings) -> Result<(PathBuf, PathBuf, PathBuf), Failure> {
    let base = match (&surroundings.xdg_state_home, &surroundings.home) {
        (Some(state), _) if Path::new(state).is_absolute() => PathBuf::from(state),
        (_, Some(home)) => Path::new(home).join(".local/state"),
        _ => {
            return Err(Failure::new(
                Class::Usage,
                "Neither XDG_STATE_HOME nor HOME is set; name a directory with --dir",
            ));
        }
    }
    .join("ensconce");
    let state = base.join("dev");
    let socket = match &surroundings.xdg_runtime_dir {
        Some(run) if Path::new(run).is_absolute() => Path::new(run).join("ensconce/las.sock"),
        _ => state.join("run/las.sock"),
    };
    Ok((state, base.join("platform"), socket))
}

fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    let absolute = std::path::absolute(path).class(
        Class::Usage,
        format!("'{}' is not a usable path", path.display()),
    )?;
    // Without a slash at the end.
    Ok(absolute.components().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user() -> Surroundings {
        Surroundings {
            is_root: false,
            home: Some("/home/u".into()),
            xdg_state_home: Some("/s".into()),
            xdg_runtime_dir: Some("/r".into()),
        }
    }

    fn paths(place: &Place) -> [&str; 3] {
        [&place.state, &place.platform, &place.socket].map(|path| path.to_str().expect("UTF-8"))
    }

    #[test]
    fn root_has_the_places_of_the_system() {
        let root = Surroundings {
            is_root: true,
            ..user()
        };
        let place = Place::choose(None, None, &root).expect("place");
        assert_eq!(
            paths(&place),
            [
                "/var/lib/ensconce/dev",
                "/var/lib/ensconce/platform",
                "/run/ensconce/las.sock"
            ]
        );
    }

    #[test]
    fn users_have_their_own_places() {
        let place = Place::choose(None, None, &user()).expect("place");
        assert_eq!(
            paths(&place),
            [
                "/s/ensconce/dev",
                "/s/ensconce/platform",
                "/r/ensconce/las.sock"
            ]
        );
        let bare = Surroundings {
            xdg_state_home: Some("relative".into()),
            xdg_runtime_dir: None,
            ..user()
        };
        let place = Place::choose(None, None, &bare).expect("place");
        assert_eq!(
            paths(&place),
            [
                "/home/u/.local/state/ensconce/dev",
                "/home/u/.local/state/ensconce/platform",
                "/home/u/.local/state/ensconce/dev/run/las.sock"
            ]
        );
        assert!(Place::choose(None, None, &Surroundings::default()).is_err());
    }

    #[test]
    fn a_chosen_directory_holds_everything_and_a_chosen_socket_wins() {
        let place = Place::choose(Some(Path::new("/d/")), None, &user()).expect("place");
        assert_eq!(paths(&place), ["/d", "/d/platform", "/d/run/las.sock"]);
        assert_eq!(place.option(), " --dir=/d");
        let place =
            Place::choose(Some(Path::new("/d")), Some(Path::new("/x.sock")), &user()).expect("p");
        assert_eq!(paths(&place), ["/d", "/d/platform", "/x.sock"]);
    }

    #[test]
    fn a_path_that_no_socket_can_have_is_refused() {
        let long = PathBuf::from("/".to_owned() + &"x".repeat(SOCKET_PATH_MAX));
        assert!(Place::choose(Some(&long), None, &user()).is_err());
        assert!(Place::choose(Some(&long), Some(Path::new("/s")), &user()).is_ok());
    }
}
