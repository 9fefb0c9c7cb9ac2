// SPDX-License-Identifier: Apache-2.0
//! `ensconce enclave build` and `show`, with a kernel made by hand.
#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

#[path = "../../enclave-image/tests/made/kernel.rs"]
mod made;

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

/// Parts of a directory `libexec`; the launcher shows how it is called.
fn libexec() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("kernel.elf"), made::Kernel::default().elf()).unwrap();
    let launch = dir.path().join("launch");
    fs::write(&launch, "#!/bin/sh\nprintf '%s\\n' \"$@\"\n").unwrap();
    fs::set_permissions(&launch, fs::Permissions::from_mode(0o755)).unwrap();
    dir
}

fn ensconce(libexec: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ensconce"))
        .arg("enclave")
        .args(arguments)
        .env("ENSCONCE_LIBEXEC", libexec)
        .env("XDG_CACHE_HOME", libexec.join("cache"))
        .env_remove("SCONE_MODE")
        .output()
        .unwrap()
}

fn text(output: &Output) -> String {
    let all = [&output.stdout[..], &output.stderr].concat();
    String::from_utf8(all).unwrap()
}

#[test]
fn building_twice_gives_equal_files_and_the_printed_measurement() {
    let dir = libexec();
    let mut builds = Vec::new();
    for name in ["one", "two"] {
        let out = dir.path().join(name);
        let output = ensconce(
            dir.path(),
            &["build", "-o", out.to_str().unwrap(), "/bin/true"],
        );
        assert!(output.status.success(), "{}", text(&output));
        let shown = ensconce(
            dir.path(),
            &["show", "--report", "json", out.to_str().unwrap()],
        );
        assert!(shown.status.success(), "{}", text(&shown));
        let report: Value = serde_json::from_slice(&shown.stdout).unwrap();
        assert_eq!(report["mrenclave"], text(&output).trim());
        assert_eq!(report["manifest"]["start_mode"], "test");
        assert_eq!(report["attributes"]["debug"], true);
        assert_eq!(report["signature"]["is_known_debug_key"], true);
        assert_eq!(report["startup_files"][0]["role"], "program");
        assert!(report["startup_files"].as_array().unwrap().len() >= 3);
        builds.push((
            fs::read(out.join("enclave.img")).unwrap(),
            fs::read(out.join("enclave.img.sig")).unwrap(),
        ));
    }
    assert!(builds[0] == builds[1]);
}

#[test]
fn production_enclaves_need_a_key_and_a_fixed_command_line() {
    let dir = libexec();
    let key = dir.path().join("key.pem");
    let made = Command::new("openssl")
        .args(["genrsa", "-3", "-out"])
        .arg(&key)
        .arg("3072")
        .output()
        .expect("openssl is installed");
    assert!(made.status.success());
    let (key, out) = (key.to_str().unwrap(), dir.path().join("out"));
    let out = out.to_str().unwrap();
    let refused = ensconce(
        dir.path(),
        &["build", "-o", out, "--sign", key, "/bin/true"],
    );
    assert_eq!(refused.status.code(), Some(2));
    assert!(
        text(&refused).contains("--mode standalone"),
        "{}",
        text(&refused)
    );
    let built = ensconce(
        dir.path(),
        &[
            "build",
            "-o",
            out,
            "--sign",
            key,
            "--mode",
            "standalone",
            "-e",
            "A=b",
            "/bin/true",
            "-x",
        ],
    );
    assert!(built.status.success(), "{}", text(&built));
    let shown = text(&ensconce(dir.path(), &["show", out]));
    assert!(
        shown.contains("production") && shown.contains("Standalone"),
        "{shown}"
    );

    fs::write(key, "no key").unwrap();
    let refused = ensconce(
        dir.path(),
        &[
            "build",
            "-o",
            out,
            "--sign",
            key,
            "--mode",
            "standalone",
            "/bin/true",
        ],
    );
    assert_eq!(refused.status.code(), Some(6), "{}", text(&refused));
}

#[test]
fn unusable_programs_are_named_with_their_exit_code() {
    let dir = libexec();
    let script = dir.path().join("script");
    fs::write(&script, "#!/usr/bin/env python3\n").unwrap();
    for (program, word) in [
        (script.to_str().unwrap(), "python3"),
        ("/does/not/exist", "not in the image"),
        ("/etc/passwd", "not an ELF file"),
        ("/etc", "not a regular file"),
    ] {
        let refused = ensconce(dir.path(), &["build", "-o", "/nonexistent/out", program]);
        assert_eq!(refused.status.code(), Some(4), "{}", text(&refused));
        assert!(text(&refused).contains(word), "{}", text(&refused));
    }
}

#[test]
fn altered_images_and_foreign_signatures_are_refused() {
    let dir = libexec();
    let out = dir.path().join("out");
    let directory = out.to_str().unwrap();
    assert!(
        ensconce(dir.path(), &["build", "-o", directory, "/bin/true"])
            .status
            .success()
    );
    let image = out.join("enclave.img");
    let good = fs::read(&image).unwrap();
    let mut bad = good.clone();
    // The last page is a TCS; its last byte is padding that is measured too.
    *bad.last_mut().unwrap() ^= 1;
    fs::write(&image, &bad).unwrap();
    let shown = ensconce(dir.path(), &["show", directory]);
    assert_eq!(shown.status.code(), Some(6));
    assert!(
        text(&shown).contains("another measurement"),
        "{}",
        text(&shown)
    );
    fs::write(&image, &good[..100]).unwrap();
    let shown = ensconce(dir.path(), &["show", directory]);
    assert_eq!(shown.status.code(), Some(5));
    assert!(text(&shown).contains("damaged"), "{}", text(&shown));
}

#[test]
fn second_run_takes_the_image_from_the_cache_until_the_program_changes() {
    let dir = libexec();
    let program = dir.path().join("program");
    fs::copy("/bin/true", &program).unwrap();
    let run = || -> (String, u64) {
        let output = ensconce(
            dir.path(),
            &[
                "run",
                "--strict",
                program.to_str().unwrap(),
                "--flag",
                "a b",
            ],
        );
        assert!(output.status.success(), "{}", text(&output));
        let said = text(&output);
        let lines: Vec<&str> = said.lines().collect();
        let ["--image", image, "--sig", signature, rest @ ..] = &lines[..] else {
            panic!("{said}");
        };
        assert_eq!(*signature, format!("{image}.sig"));
        assert_eq!(
            *rest,
            [
                "--root", "/", "--mode", "auto", "--strict", "--", "--flag", "a b"
            ]
        );
        ((*image).to_owned(), fs::metadata(image).unwrap().ino())
    };
    let first = run();
    assert_eq!(run(), first, "the second run uses the same file");
    fs::remove_file(&program).unwrap();
    fs::copy("/bin/echo", &program).unwrap();
    let third = run();
    assert_ne!(third.1, first.1, "a changed program is built anew");
    assert_eq!(run(), third);
}
