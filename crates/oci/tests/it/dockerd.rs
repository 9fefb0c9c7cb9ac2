// SPDX-License-Identifier: Apache-2.0
//! A real docker daemon of its own, without network, started and stopped by
//! the test. Needs root.

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use oci::daemon::{Daemon, DaemonError};
use oci::limits::Limits;
use oci::output::NewImage;
use oci::reference::ImageName;
use oci::root::RootView;
use tempfile::TempDir;

use crate::fixture::*;

struct Dockerd {
    process: Child,
    dir: TempDir,
}

impl Dockerd {
    fn start() -> Self {
        let dir = temp();
        let path = |name: &str| dir.path().join(name).display().to_string();
        let log = File::create(dir.path().join("log")).expect("log");
        let process = Command::new("dockerd")
            .args(["--bridge=none", "--iptables=false", "--ip6tables=false"])
            .arg("--storage-driver=vfs")
            .args(["--host", &format!("unix://{}", path("docker.sock"))])
            .args(["--data-root", &path("data")])
            .args(["--exec-root", &path("exec")])
            .args(["--pidfile", &path("pid")])
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("log"))
            .stderr(log)
            .spawn()
            .expect("dockerd starts");
        let started = Self { process, dir };
        let deadline = Instant::now() + Duration::from_secs(60);
        while std::os::unix::net::UnixStream::connect(started.socket()).is_err() {
            assert!(
                Instant::now() < deadline,
                "dockerd did not come up: {}",
                std::fs::read_to_string(started.dir.path().join("log")).unwrap_or_default()
            );
            std::thread::sleep(Duration::from_millis(100));
        }
        started
    }

    fn socket(&self) -> PathBuf {
        self.dir.path().join("docker.sock")
    }

    fn client(&self) -> Daemon {
        Daemon::at(self.socket())
    }
}

impl Drop for Dockerd {
    fn drop(&mut self) {
        // SIGTERM lets it stop its containerd and unmount what it mounted.
        if let Some(pid) = i32::try_from(self.process.id())
            .ok()
            .and_then(rustix::process::Pid::from_raw)
        {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        let _ = self.process.wait();
    }
}

#[test]
fn images_go_into_a_docker_daemon_and_come_back() {
    if !has_tool("dockerd") {
        return;
    }
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: dockerd needs root");
        return;
    }
    let dockerd = Dockerd::start();
    let dir = temp();
    let native = layout_image(&[
        (
            Form::Gzip,
            Tar::new().dir("etc").file("etc/a", "lower").end(),
        ),
        (Form::Zstd, Tar::new().file("etc/b", "upper").end()),
    ]);
    let view = RootView::open(&native, &Limits::default(), dir.path()).expect("view");
    let mut config = native.config().carry_over();
    config.entrypoint = vec!["/launch".to_owned()];
    let new = NewImage {
        config,
        layers: view
            .layers()
            .iter()
            .map(|layer| layer.blob().clone())
            .collect(),
    };
    // The archive that a commit to the daemon streams is the one that a
    // docker-archive target receives.
    let file = dir.path().join("image.tar");
    let target = format!("docker-archive:{}:made/here:v1", file.display());
    let staged = new.stage(&reference(&target)).expect("stage");
    let id = staged.image_id();
    staged.commit().expect("commit");
    dockerd
        .client()
        .load(|stream| io::copy(&mut File::open(&file)?, stream).map(|_| ()))
        .expect("load");

    let listed = Command::new("docker")
        .args([
            "images",
            "--no-trunc",
            "--format",
            "{{.Repository}}:{{.Tag}} {{.ID}}",
        ])
        .env(
            "DOCKER_HOST",
            format!("unix://{}", dockerd.socket().display()),
        )
        .output();
    if let Ok(listed) = listed {
        let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
        assert_eq!(listed.trim(), format!("made/here:v1 {id}"));
    }

    let limits = Limits::default();
    for name in ["made/here:v1", &id.to_string()] {
        let name: ImageName = name.parse().expect("name");
        let archive = dockerd
            .client()
            .export(&name, &limits, dir.path())
            .expect("export");
        let saved = dir.path().join("saved.tar");
        io::copy(
            &mut archive.reader(),
            &mut File::create(&saved).expect("create"),
        )
        .expect("copy");
        let image = open(&format!("docker-archive:{}", saved.display()));
        assert_eq!(image.digest(), id);
        assert_eq!(image.config().entrypoint, ["/launch"]);
        let view = RootView::open(&image, &limits, dir.path()).expect("view");
        assert_eq!(content(&view, "/etc/a"), "lower");
        assert_eq!(content(&view, "/etc/b"), "upper");
    }

    let missing: ImageName = "no/such:image".parse().expect("name");
    let error = dockerd.client().export(&missing, &limits, dir.path());
    assert!(
        matches!(error, Err(DaemonError::NotFound { .. })),
        "{error:?}"
    );
    let mut small = Limits::default();
    small.stream = 1000;
    let name: ImageName = "made/here:v1".parse().expect("name");
    let error = dockerd.client().export(&name, &small, dir.path());
    assert!(matches!(error, Err(DaemonError::TooLarge { limit: 1000 })));
    let error = dockerd
        .client()
        .load(|stream| stream.write_all(&[b'x'; 4096]));
    assert!(
        matches!(error, Err(DaemonError::Refused { .. })),
        "{error:?}"
    );
}

#[test]
fn an_absent_daemon_is_named_with_its_socket() {
    let dir = temp();
    let socket = dir.path().join("none.sock");
    let name: ImageName = "x".parse().expect("name");
    let error = Daemon::at(&socket)
        .export(&name, &Limits::default(), dir.path())
        .expect_err("nobody listens");
    assert!(error.to_string().contains("none.sock"), "{error}");
}
