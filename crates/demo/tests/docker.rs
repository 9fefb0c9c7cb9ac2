// SPDX-License-Identifier: Apache-2.0
//! Converted images under a real docker daemon: user 1000, no capabilities,
//! no new privileges, docker's default seccomp profile.
//!
//! One daemon serves all scenarios of an image; all of them run, and all that
//! fail are named.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use demo::dev::Dev;
use demo::docker::Docker;
use demo::job::Client;
use demo::layout::{self, LayerFile};
use demo::native;
use demo::process::{Finished, Programs, Running, free_port, run};
use serde_json::json;

const CONFIDENTIAL: &str = "confidential:latest";

/// Everything that containers need, private to one test.
struct Scene {
    docker: Docker,
    dev: Dev,
    programs: Programs,
    work: PathBuf,
    /// Removed last.
    _dir: tempfile::TempDir,
}

impl Scene {
    /// `None`, said aloud, where it cannot be.
    fn set() -> Option<Self> {
        let dist = std::env::var_os("ENSCONCE_DIST").map(PathBuf::from);
        let problem = match dist {
            None => "ENSCONCE_DIST is not set; `make test` sets it".to_owned(),
            Some(_) if !is_root() => "dockerd needs root".to_owned(),
            Some(dist) => match Self::start(&dist) {
                Ok(scene) => return Some(scene),
                Err(error) => panic!("{error:#}"),
            },
        };
        assert!(std::env::var("CI").as_deref() != Ok("true"), "{problem}");
        eprintln!("skipped: {problem}");
        None
    }

    fn start(dist: &Path) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let work = dir.path().to_path_buf();
        let programs = Programs::in_dist(dist)?;
        Ok(Self {
            docker: Docker::start(&work.join("docker"))?,
            dev: Dev::up(&programs, &work)?,
            programs,
            work,
            _dir: dir,
        })
    }

    /// Converts the daemon's image `native` to the daemon's `confidential`.
    fn convert(&self, arguments: &[&str]) -> Result<()> {
        run(self
            .programs
            .command("ensconce", &self.work)
            .env("DOCKER_HOST", self.docker.host())
            .args(["convert", "--from=native:latest"])
            .arg(format!("--to={CONFIDENTIAL}"))
            .arg(format!("--session={}", self.session().display()))
            .args(self.dev.conversion_arguments())
            .args(arguments))?
        .success("ensconce convert")?;
        Ok(())
    }

    fn session(&self) -> PathBuf {
        self.work.join("session.yml")
    }

    /// Options of `docker run` that let an image attest.
    fn attested(&self) -> [String; 2] {
        ["--network=host".into(), format!("-v{}", self.dev.volume())]
    }

    fn run(&self, options: &[&str], arguments: &[&str]) -> Result<Finished> {
        self.docker.run(options, CONFIDENTIAL, arguments)
    }

    fn start_container(&self, options: &[&str], arguments: &[&str]) -> Result<Running> {
        let options: Vec<String> = self
            .attested()
            .into_iter()
            .chain(options.iter().map(|&option| option.to_owned()))
            .collect();
        Running::start(
            &mut self.docker.container(&options, CONFIDENTIAL, arguments),
            "docker run",
            self.work.join("container.log"),
        )
    }
}

fn is_root() -> bool {
    run(Command::new("id").arg("-u")).is_ok_and(|id| id.stdout.trim() == "0")
}

/// A name and what happens.
struct Scenario<S>(&'static str, fn(&S) -> Result<()>);

/// Runs all scenarios and fails once, naming each that failed.
fn play<S>(scene: &S, scenarios: &[Scenario<S>]) {
    let mut failures = Vec::new();
    for Scenario(name, happens) in scenarios {
        match happens(scene) {
            Ok(()) => eprintln!("scenario {name} ... ok"),
            Err(error) => {
                eprintln!("scenario {name} ... FAILED");
                failures.push(format!("{name}: {error:#}"));
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

struct Flask {
    scene: Scene,
    client: Client,
}

#[test]
fn a_flask_image_serves_from_an_unprivileged_container() {
    let Some(scene) = Scene::set() else { return };
    let flask = prepare_flask(scene).expect("a converted image");
    play(
        &flask,
        &[
            Scenario("serves_https", serves_https),
            Scenario("another_entrypoint_lands_in_the_enclave", other_entrypoint),
            Scenario("stops_when_docker_stops_it", stops_when_asked),
        ],
    );
}

fn prepare_flask(scene: Scene) -> Result<Flask> {
    let target = std::env::var_os("ENSCONCE_DIST").context("ENSCONCE_DIST")?;
    let target = Path::new(&target).parent().context("a target directory")?;
    let native = native::build(&target.join("demo/cache"), &scene.work)?;
    scene.docker.load(&native.reference(), "native:latest")?;
    let port = free_port()?;
    scene.convert(&[
        "--binary=/usr/bin/python3.11",
        "--dir=/app",
        "--dir=/tls",
        "--heap=1G",
        "--env=LOCAL=1",
        "--env=GREETING=hello from the session",
        &format!("--env=PORT={port}"),
    ])?;
    Ok(Flask {
        client: Client::new(&native.certificate, port),
        scene,
    })
}

fn serves_https(flask: &Flask) -> Result<()> {
    let mut service = flask.scene.start_container(&[], &[])?;
    let about = flask.client.wait_until_serving(&mut service)?;
    ensure!(about.contains("hello from the session"), "{about}");
    flask
        .client
        .post("/notes/x", r#"{"kept":"in the enclave"}"#)?;
    let note = flask.client.get("/notes/x")?;
    ensure!(note.contains("in the enclave"), "{note}");
    service.stop()?;
    Ok(())
}

fn other_entrypoint(flask: &Flask) -> Result<()> {
    let mut service = flask.scene.start_container(
        &["--entrypoint=/usr/bin/python3.11"],
        &["-c", "print('escaped')"],
    )?;
    let about = flask.client.wait_until_serving(&mut service)?;
    ensure!(about.contains("hello from the session"), "{about}");
    service.stop()?;
    let printed = service.printed();
    ensure!(
        !printed.contains("escaped"),
        "the host's arguments ran: {printed}"
    );
    Ok(())
}

fn stops_when_asked(flask: &Flask) -> Result<()> {
    let mut service = flask.scene.start_container(&["--name=stopped"], &[])?;
    flask.client.wait_until_serving(&mut service)?;
    run(flask
        .scene
        .docker
        .client()
        .args(["stop", "--time=20", "stopped"]))?
    .success("docker stop")?;
    let status = service.wait()?;
    ensure!(
        status.code() != Some(137),
        "docker had to kill the container:\n{}",
        service.printed()
    );
    Ok(())
}

#[test]
fn a_dynamic_musl_program_runs_and_refuses_in_a_container() {
    let Some(scene) = Scene::set() else { return };
    prepare_musl(&scene).expect("a converted image");
    play(
        &scene,
        &[
            Scenario("runs_with_the_session_s_arguments", musl_runs),
            Scenario("prints_its_hash_without_network", prints_hash),
            Scenario("hardware_mode_names_the_devices_it_tried", hardware_mode),
            Scenario("refuses_without_the_platform_s_socket", without_socket),
            Scenario("tells_its_configuration", tells_configuration),
            Scenario("another_entrypoint_prints_the_same_hash", same_hash),
        ],
    );
}

/// Prints its arguments and the session's variable, ends with 7.
const PROGRAM: &str = r#"
#include <stdio.h>
#include <stdlib.h>
int main(int argc, char **argv) {
    printf("musl program:");
    for (int i = 1; i < argc; i++) printf(" %s", argv[i]);
    printf(", greeting %s\n", getenv("GREETING") ? getenv("GREETING") : "(none)");
    return 7;
}
"#;

fn prepare_musl(scene: &Scene) -> Result<()> {
    let path = |name: &str| scene.work.join(name);
    fs::write(path("hello.c"), PROGRAM)?;
    run(Command::new("musl-gcc")
        .args(["-O2", "-o"])
        .arg(path("hello"))
        .arg(path("hello.c")))
    .context("is musl-tools installed?")?
    .success("musl-gcc")?;
    let loader = fs::canonicalize("/lib/ld-musl-x86_64.so.1").context("musl's loader")?;
    let (program, loader) = (fs::read(path("hello"))?, fs::read(loader)?);
    let layer = LayerFile::pack(
        [
            ("bin/", 0o755, None),
            ("bin/hello", 0o755, Some(&program[..])),
            ("lib/", 0o755, None),
            ("lib/ld-musl-x86_64.so.1", 0o755, Some(&loader)),
        ],
        path("layer.tar.gz"),
    )?;
    let config = json!({"config": {"Entrypoint": ["/bin/hello"], "Cmd": ["from", "native"]}});
    let layout = path("native");
    layout::write(&layout, "native", &[layer], config)?;
    let reference = format!("oci:{}:native", layout.display());
    scene.docker.load(&reference, "native:latest")?;
    scene.convert(&["--binary=/bin/hello", "--env=GREETING=of the session"])
}

fn musl_runs(scene: &Scene) -> Result<()> {
    let options = scene.attested();
    let finished = scene
        .docker
        .run(&options, CONFIDENTIAL, &["host", "words"])?;
    ensure!(
        finished.stdout == "musl program: from native, greeting of the session\n",
        "printed {:?}\n{}",
        finished.stdout,
        finished.stderr
    );
    ensure!(finished.status.code() == Some(7), "{}", finished.status);
    Ok(())
}

/// The container's hash, which must be one that the session names.
fn hash(scene: &Scene, options: &[&str]) -> Result<String> {
    let fixed = ["--network=none", "--env=SCONE_HASH=1"];
    let printed = scene
        .run(&[&fixed, options].concat(), &["anything"])?
        .success("SCONE_HASH=1")?;
    let hash = printed.strip_suffix('\n').unwrap_or_default();
    ensure!(
        hash.len() == 64 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()),
        "not a hash: {printed:?}"
    );
    Ok(hash.to_owned())
}

fn prints_hash(scene: &Scene) -> Result<()> {
    let hash = hash(scene, &[])?;
    let session = fs::read_to_string(scene.session())?;
    let listed = session
        .lines()
        .any(|line| line.contains("mrenclave") && line.contains(&hash));
    ensure!(listed, "{hash} is not in the session:\n{session}");
    Ok(())
}

fn same_hash(scene: &Scene) -> Result<()> {
    ensure!(hash(scene, &["--entrypoint=/bin/hello"])? == hash(scene, &[])?);
    Ok(())
}

fn refused(finished: &Finished, words: &[&str]) -> Result<()> {
    ensure!(!finished.status.success(), "it ran: {}", finished.stdout);
    ensure!(
        !finished.stdout.contains("musl program"),
        "the program ran: {}",
        finished.stdout
    );
    for word in words {
        ensure!(
            finished.stderr.contains(word),
            "no {word:?} in: {}",
            finished.stderr
        );
    }
    Ok(())
}

fn hardware_mode(scene: &Scene) -> Result<()> {
    if Path::new("/dev/sgx_enclave").exists() {
        eprintln!("skipped: this machine has an SGX device");
        return Ok(());
    }
    let options = scene.attested();
    let options = [&options[0], &options[1], "--env=SCONE_MODE=hw"];
    let finished = scene.run(&options, &[])?;
    refused(&finished, &["no SGX device", "/dev/sgx_enclave"])
}

fn without_socket(scene: &Scene) -> Result<()> {
    let finished = scene.run(&["--network=host"], &[])?;
    refused(&finished, &["attest"])
}

fn tells_configuration(scene: &Scene) -> Result<()> {
    let options = scene.attested();
    let options = [&options[0], &options[1], "--env=SCONE_VERSION=1"];
    let finished = scene.run(&options, &[])?;
    let hash = hash(scene, &[])?;
    for wanted in ["SCONE_MODE=sim", &format!("Enclave hash: {hash}")] {
        ensure!(
            finished.stderr.contains(wanted),
            "no {wanted:?} in: {}",
            finished.stderr
        );
    }
    ensure!(finished.status.code() == Some(7), "{}", finished.status);
    Ok(())
}
