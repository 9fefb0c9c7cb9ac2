// SPDX-License-Identifier: Apache-2.0
//! Running a converted image. The launcher here tells what it was given.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::native;
use crate::tool::{Desk, Finished, compile};

/// Prints arguments, variables and a file of the root, then ends with code 7
/// or waits to be killed.
const LAUNCHER: &str = r#"
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
extern char **environ;
int main(int argc, char **argv) {
    for (int i = 1; i < argc; i++) printf("argument %s\n", argv[i]);
    for (char **e = environ; *e; e++) printf("variable %s\n", *e);
    char text[64] = {0};
    int fd = openat(atoi(argv[2]), "etc/passwd", O_RDONLY);
    if (read(fd, text, 4) == 4) printf("file %s\n", text);
    fflush(stdout);
    if (getenv("SCONE_WAIT")) pause();
    return 7;
}
"#;

fn desk() -> Desk {
    let desk = native::desk();
    let launch = desk.path("libexec/launch");
    fs::remove_file(&launch).expect("remove");
    compile(&["-static"], LAUNCHER, &launch);
    fs::create_dir(desk.path("tmp")).expect("mkdir");
    desk.convert_hello(&["--dir=/app"]).success();
    desk
}

fn run(desk: &Desk) -> Command {
    let mut command = desk.command();
    command.env("TMPDIR", desk.path("tmp")).arg("run");
    command
}

fn wait_until_empty(desk: &Desk) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while fs::read_dir(desk.path("tmp")).expect("tmp").count() > 0 {
        assert!(Instant::now() < deadline, "the private directory stays");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn the_launcher_gets_the_root_and_nothing_of_the_environment() {
    let desk = desk();
    let mut command = run(&desk);
    command
        .env("SECRET", "of-the-caller")
        .env("SCONE_LOG", "debug")
        .args(["--env=SCONE_MODE=auto", "oci:result:app", "one", "--two"]);
    let done = Finished::of(&mut command);
    assert_eq!(done.code, Some(7), "{}", done.stderr);
    let lines: Vec<_> = done.stdout.lines().collect();
    assert!(
        lines.contains(&"argument one") && lines.contains(&"argument --two"),
        "{lines:?}"
    );
    assert!(lines.contains(&"file root"), "{lines:?}");
    assert!(lines.contains(&"variable SCONE_LOG=debug"), "{lines:?}");
    assert!(lines.contains(&"variable SCONE_MODE=auto"), "{lines:?}");
    assert!(
        lines.contains(&"variable SCONE_CONFIG_ID=result-app/service"),
        "{lines:?}"
    );
    let foreign =
        |line: &&&str| line.starts_with("variable ") && !line.starts_with("variable SCONE_");
    assert_eq!(lines.iter().find(foreign), None);
    wait_until_empty(&desk);
}

#[test]
fn a_killed_launcher_leaves_nothing_behind() {
    for signal in [rustix::process::Signal::TERM, rustix::process::Signal::KILL] {
        let desk = desk();
        let mut command = run(&desk);
        command.env("SCONE_WAIT", "1").arg("oci:result:app");
        let mut child = command
            .stdout(std::process::Stdio::piped())
            .spawn()
            .expect("run");
        let mut out = std::io::BufReader::new(child.stdout.take().expect("piped"));
        let mut line = String::new();
        while !line.starts_with("file ") {
            line.clear();
            let read = std::io::BufRead::read_line(&mut out, &mut line).expect("read");
            assert_ne!(read, 0, "the launcher started");
        }
        assert!(fs::read_dir(desk.path("tmp")).expect("tmp").count() > 0);
        let id = i32::try_from(child.id())
            .ok()
            .and_then(rustix::process::Pid::from_raw);
        rustix::process::kill_process(id.expect("a process"), signal).expect("kill");
        let status = child.wait().expect("wait");
        let ended_by = std::os::unix::process::ExitStatusExt::signal(&status);
        assert_eq!(ended_by, Some(signal.as_raw()));
        wait_until_empty(&desk);
    }
}

#[test]
fn other_images_and_variables_are_refused() {
    let desk = desk();
    let refused = |arguments: &[&str], code, words: &[&str]| {
        Finished::of(run(&desk).args(arguments)).refused(code, words);
    };
    refused(
        &["oci:native:app"],
        3,
        &["not a converted image", "ensconce convert"],
    );
    refused(&["oci:absent:app"], 3, &["absent"]);
    refused(
        &["--env=PATH=/x", "oci:result:app"],
        2,
        &["SCONE_NAME=VALUE"],
    );
    wait_until_empty(&desk);
}

#[test]
fn only_private_directories_of_run_are_cleaned_up() {
    let desk = Desk::new();
    let precious = desk.path("precious");
    fs::create_dir(&precious).expect("mkdir");
    let mut command = desk.command();
    command.arg("clean-up").arg(&precious);
    Finished::of(&mut command).refused(2, &["ensconce run"]);
    assert!(precious.exists());
}
