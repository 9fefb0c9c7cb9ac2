// SPDX-License-Identifier: Apache-2.0
//! A docker daemon of one's own: real, without network, in namespaces that
//! end with it. Needs root.
//!
//! The daemon lives in mount and process namespaces of its own: whatever it
//! mounts or starts is gone with it, even when a test is killed.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use crate::process::{Finished, Running, run};

/// Control groups where the machine has none mounted, images in memory where
/// there is plenty (removing them from a disk takes longer than the tests),
/// then the daemon. The first argument is the directory for images.
const START: &str = r#"
set -e
data=$1
shift
mkdir -p "$data"
if awk '/^MemAvailable:/ { exit $2 < 4194304 }' /proc/meminfo; then
    mount -t tmpfs -o mode=0700 images "$data"
fi
if ! [ -e /sys/fs/cgroup/cgroup.controllers ] && ! [ -d /sys/fs/cgroup/devices ]; then
    mount -t cgroup2 none /sys/fs/cgroup
fi
exec "$@"
"#;

/// What every container here is denied, besides docker's default seccomp
/// profile: an ordinary user without any capability.
const UNPRIVILEGED: [&str; 4] = [
    "--user=1000:1000",
    "--cap-drop=ALL",
    "--security-opt=no-new-privileges",
    "--pull=never",
];

/// A running daemon; it ends when this is dropped.
#[derive(Debug)]
pub struct Docker {
    daemon: Running,
    dir: PathBuf,
}

impl Docker {
    /// Starts a daemon with all its files below `dir`.
    ///
    /// # Errors
    /// Not root, docker is not installed, or the daemon does not come up.
    pub fn start(dir: &Path) -> Result<Self> {
        fs::create_dir_all(dir).with_context(|| format!("while making {}", dir.display()))?;
        let path = |name: &str| dir.join(name).display().to_string();
        // If this program is killed, so is the first of the namespaces'
        // processes, and with it all others.
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig=KILL", "unshare"])
            .args(["--mount", "--pid", "--fork", "--kill-child", "--mount-proc"])
            .args(["sh", "-c", START, "sh", &path("data"), "dockerd"])
            .args(["--bridge=none", "--iptables=false", "--ip6tables=false"])
            .arg(format!("--host=unix://{}", path("docker.sock")))
            .arg(format!("--data-root={}", path("data")))
            .arg(format!("--exec-root={}", path("exec")))
            .arg(format!("--pidfile={}", path("pid")))
            // Neither the machine's configuration nor its proxies.
            .arg(format!("--config-file={}", path("daemon.json")))
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default());
        fs::write(dir.join("daemon.json"), "{}")?;
        fs::create_dir_all(dir.join("client"))?;
        let mut daemon = Running::start(&mut command, "dockerd", dir.join("dockerd.log"))
            .context("is docker.io installed?")?;
        let socket = dir.join("docker.sock");
        daemon.wait_for(|| UnixStream::connect(&socket).ok())?;
        let docker = Self {
            daemon,
            dir: dir.to_path_buf(),
        };
        run(docker.client().arg("version"))?.success("docker version")?;
        Ok(docker)
    }

    /// Value of `DOCKER_HOST` for this daemon.
    #[must_use]
    pub fn host(&self) -> String {
        format!("unix://{}", self.dir.join("docker.sock").display())
    }

    /// The docker client, talking to this daemon.
    #[must_use]
    pub fn client(&self) -> Command {
        let mut command = Command::new("docker");
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("DOCKER_HOST", self.host())
            .env("DOCKER_CONFIG", self.dir.join("client"));
        command
    }

    /// Loads an image of an OCI layout under a name.
    ///
    /// # Errors
    /// skopeo or the daemon refuse.
    pub fn load(&self, reference: &str, name: &str) -> Result<()> {
        let archive = self.dir.join("load.tar");
        run(Command::new("skopeo")
            .args(["copy", "--quiet", "--insecure-policy", reference])
            .arg(format!("docker-archive:{}:{name}", archive.display())))?
        .success("skopeo")?;
        run(self
            .client()
            .args(["load", "--quiet", "--input"])
            .arg(&archive))?
        .success("docker load")?;
        fs::remove_file(&archive).context("while tidying up")
    }

    /// `docker run` for an unprivileged container that is removed at its end.
    /// `options` stand before the image, `arguments` behind it.
    #[must_use]
    pub fn container<S: AsRef<OsStr>>(
        &self,
        options: &[S],
        image: &str,
        arguments: &[&str],
    ) -> Command {
        let mut command = self.client();
        command
            .args(["run", "--rm"])
            .args(UNPRIVILEGED)
            .args(options)
            .arg(image)
            .args(arguments);
        command
    }

    /// Runs a container to its end, at most a minute.
    ///
    /// # Errors
    /// It could not be started, or did not end.
    pub fn run<S: AsRef<OsStr>>(
        &self,
        options: &[S],
        image: &str,
        arguments: &[&str],
    ) -> Result<Finished> {
        let container = self.container(options, image, arguments);
        let mut limited = Command::new("timeout");
        limited
            .args(["--kill-after=5", "60"])
            .arg(container.get_program())
            .args(container.get_args())
            .env_clear();
        for (name, value) in container.get_envs() {
            if let Some(value) = value {
                limited.env(name, value);
            }
        }
        let finished = run(&mut limited)?;
        ensure!(
            finished.status.code() != Some(124),
            "{image} does not end:\n{}{}",
            finished.stdout,
            finished.stderr
        );
        Ok(finished)
    }

    /// The daemon itself: the only child of the program that made its
    /// namespaces.
    fn process(&self) -> Option<String> {
        let id = self.daemon.id();
        let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).ok()?;
        children.split_whitespace().next().map(str::to_owned)
    }
}

impl Drop for Docker {
    fn drop(&mut self) {
        // Containers first, so that their control groups go too; then the
        // daemon, so that it stops its own helpers. What resists ends with the
        // namespace.
        if let Ok(listed) = run(self.client().args(["ps", "--all", "--quiet"])) {
            for id in listed.stdout.split_whitespace() {
                let _ = run(self.client().args(["rm", "--force", id]));
            }
        }
        if let Some(process) = self.process() {
            let _ = Command::new("kill").arg(process).status();
        }
        let _ = self.daemon.wait();
    }
}
