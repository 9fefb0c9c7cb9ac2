// SPDX-License-Identifier: Apache-2.0
//! Images that come from a docker daemon and go straight back to it.

use std::process::Command;

use demo::docker::Docker;
use demo::process::run;

use crate::native;
use crate::tool::{Desk, Finished};

/// A daemon of one's own; `None`, visibly, where there cannot be one.
fn daemon(desk: &Desk) -> Option<Docker> {
    let id = run(Command::new("id").arg("-u")).expect("id");
    if id.stdout.trim() == "0" {
        return Some(Docker::start(&desk.path("docker")).expect("a docker daemon"));
    }
    let problem = "dockerd needs root";
    assert!(std::env::var("CI").as_deref() != Ok("true"), "{problem}");
    eprintln!("skipped: {problem}");
    None
}

fn convert(desk: &Desk, docker: &Docker, to: &str, options: &[&str]) -> Finished {
    let mut command = desk.command();
    command
        .env("DOCKER_HOST", docker.host())
        .args(["convert", "--from=native:one", &format!("--to={to}")])
        .args(["--binary=/usr/bin/hello", "--dir=/app"])
        .args(options);
    Finished::of(&mut command)
}

/// The image's ID, if the daemon knows the name.
fn id(docker: &Docker, name: &str) -> Option<String> {
    let found = run(docker
        .client()
        .args(["image", "inspect", "--format={{.Id}}", name]))
    .expect("docker");
    found
        .status
        .success()
        .then(|| found.stdout.trim().to_owned())
}

#[test]
fn the_daemons_tag_moves_when_all_is_done_and_only_then() {
    let desk = native::desk();
    let Some(docker) = daemon(&desk) else { return };
    let native = format!("oci:{}:app", desk.path("native").display());
    docker.load(&native, "native:one").expect("loaded");

    let offline = "--disable-session-upload";
    let done = convert(
        &desk,
        &docker,
        "team/app:one",
        &[offline, "--report=r.json"],
    )
    .success();
    assert_eq!(done.stdout, "teamapp-one\n");
    let report: serde_json::Value = serde_json::from_str(&desk.text("r.json")).expect("JSON");
    let first = id(&docker, "team/app:one").expect("the daemon has it");
    assert_eq!(report["to"]["image_id"], first);
    // The launcher here ends at once; what counts is that docker starts it.
    let ran = docker.run(&["--network=none"], "team/app:one", &[]);
    ran.expect("docker run")
        .success("the container")
        .expect("code 0");

    // Port 9 answers nobody.
    let unreachable = ["--cas=127.0.0.1:9:9"];
    for name in ["team/app:one", "team/app:two"] {
        convert(&desk, &docker, name, &unreachable).refused(7, &["127.0.0.1:9"]);
    }
    assert_eq!(id(&docker, "team/app:one"), Some(first.clone()));
    assert_eq!(id(&docker, "team/app:two"), None);

    convert(&desk, &docker, "team/app:one", &[offline]).success();
    assert_ne!(id(&docker, "team/app:one"), Some(first));
    let images = run(docker
        .client()
        .args(["image", "ls", "--format={{.Repository}}:{{.Tag}}"]));
    let images = images.expect("docker").stdout;
    assert!(!images.contains("team/app:two"), "{images}");
}
