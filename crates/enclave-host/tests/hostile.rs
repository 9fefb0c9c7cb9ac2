// SPDX-License-Identifier: Apache-2.0
//! The real kernel under a hostile host (rules S12 and S17): whatever is
//! claimed or answered, the program hears of no signal that it did not cause,
//! and no answer makes the kernel panic or fault.
//!
//! Needs the parts of `make build`: `ENSCONCE_DIST` names their directory.

#![allow(clippy::unwrap_used, reason = "tests stop at the first surprise")]

use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Says so on standard output if a signal reaches it, and ends with 99.
const PROGRAM: &str = r#"
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
static void hit(int number) { (void)number; write(1, "HIT", 3); _exit(99); }
int main(void) {
    for (int number = 1; number < 32; number++) signal(number, hit);
    for (int round = 0; round < 20; round++) {
        char *room = malloc(10000), text[64];
        struct timespec time;
        struct stat about;
        clock_gettime(CLOCK_MONOTONIC, &time);
        stat("/etc", &about);
        memset(room, round, 10000);
        snprintf(text, sizeof text, "%d %d\n", round, room[9999]);
        free(room);
        if (round == 19) write(1, text, strlen(text));
    }
    return 0;
}
"#;

struct Victim {
    _dir: tempfile::TempDir,
    image: PathBuf,
}

fn victim() -> Option<Victim> {
    let Some(dist) = std::env::var_os("ENSCONCE_DIST").map(PathBuf::from) else {
        assert!(
            std::env::var("CI").as_deref() != Ok("true"),
            "ENSCONCE_DIST is not set"
        );
        eprintln!("skipped: ENSCONCE_DIST is not set");
        return None;
    };
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("victim.c");
    std::fs::write(&source, PROGRAM).unwrap();
    let program = dir.path().join("victim");
    run(Command::new("musl-gcc")
        .args(["-O1", "-static", "-o"])
        .args([&program, &source]));
    run(Command::new(dist.join("bin/ensconce"))
        .env("ENSCONCE_LIBEXEC", dist.join("libexec"))
        .args(["enclave", "build", "--heap", "64M", "-o"])
        .args([dir.path(), &program]));
    let image = dir.path().join("enclave.img");
    Some(Victim { _dir: dir, image })
}

fn run(command: &mut Command) {
    let status = command.status().unwrap();
    assert!(status.success(), "{command:?}: {status}");
}

#[derive(Debug)]
#[expect(
    dead_code,
    reason = "the plan is for the message of a failed assertion"
)]
struct Outcome {
    plan: String,
    status: std::process::ExitStatus,
    output: String,
    messages: String,
}

fn attack(image: &Path, plan: &str) -> Outcome {
    let mut child = Command::new(env!("CARGO_BIN_EXE_launch"))
        .arg("--image")
        .arg(image)
        .args(["--strict", "--"])
        .env("SCONE_MODE", "sim")
        .env("ENSCONCE_HOSTILE", plan)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A lie may well make the program wait for ever; that is the host's right.
    let deadline = Instant::now() + Duration::from_secs(120);
    while child.try_wait().unwrap().is_none() {
        if Instant::now() > deadline {
            child.kill().unwrap();
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let output = child.wait_with_output().unwrap();
    Outcome {
        plan: plan.to_owned(),
        status: output.status,
        output: String::from_utf8_lossy(&output.stdout).into_owned(),
        messages: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

impl Outcome {
    fn succeeded(&self) -> bool {
        self.status.code() == Some(0) && self.output == "19 19\n"
    }

    fn gave_up(&self) -> bool {
        self.status.signal() == Some(libc::SIGABRT) && self.messages.contains("enclave gave up")
    }

    #[track_caller]
    fn check_that_nobody_was_fooled(&self) {
        assert!(!self.output.contains("HIT"), "{self:#?}");
        assert_ne!(self.status.code(), Some(99), "{self:#?}");
    }
}

#[test]
fn interrupts_between_instructions_change_nothing() {
    let Some(victim) = victim() else { return };
    for every in [31, 32, 101] {
        let outcome = attack(&victim.image, &format!("kind=0,every={every}"));
        assert!(outcome.succeeded(), "{outcome:#?}");
    }
}

#[test]
fn claimed_page_faults_reach_no_handler_of_the_program() {
    let Some(victim) = victim() else { return };
    for (every, seed) in [(61, 1), (97, 2), (1009, 3)] {
        let outcome = attack(&victim.image, &format!("kind=1,every={every},seed={seed}"));
        outcome.check_that_nobody_was_fooled();
        assert!(outcome.succeeded() || outcome.gave_up(), "{outcome:#?}");
    }
}

#[test]
fn a_page_fault_that_never_goes_away_ends_the_enclave() {
    let Some(victim) = victim() else { return };
    let outcome = attack(&victim.image, "kind=1,every=50021,repeat=100000,seed=5");
    outcome.check_that_nobody_was_fooled();
    assert!(outcome.gave_up(), "{outcome:#?}");
}

#[test]
fn claimed_illegal_instructions_reach_no_handler_of_the_program() {
    let Some(victim) = victim() else { return };
    for kind in [2, 3, 4] {
        // The program's own code, then the kernel's.
        for range in ["from=0,to=0x40000000", "from=0x40000000"] {
            let plan = format!("kind={kind},every=997,{range},seed={kind}");
            let outcome = attack(&victim.image, &plan);
            outcome.check_that_nobody_was_fooled();
            assert!(outcome.succeeded() || outcome.gave_up(), "{outcome:#?}");
        }
    }
}

#[test]
fn false_answers_fool_nobody() {
    let Some(victim) = victim() else { return };
    for seed in 0..60 {
        let lie = [5, 50, 500][seed % 3];
        let outcome = attack(&victim.image, &format!("lie={lie},seed={seed}"));
        outcome.check_that_nobody_was_fooled();
        // A claimed exception may pass for a fault of the kernel, an answer not.
        for reason in ["its kernel panicked", "its kernel faulted"] {
            assert!(!outcome.messages.contains(reason), "{outcome:#?}");
        }
    }
}
