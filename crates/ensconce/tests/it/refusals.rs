// SPDX-License-Identifier: Apache-2.0
//! What is refused, with which code, and that nothing is left behind.

use std::fs;
use std::process::Command;

use crate::native::{self, Layer, MARKER};
use crate::tool::Desk;

#[test]
fn programs_that_cannot_run_are_refused_with_a_way_out() {
    let desk = native::desk();
    for (binary, words) in [
        (
            "/usr/bin/absent",
            &["/usr/bin/absent", "does not exist"][..],
        ),
        (
            "/usr/bin/tool",
            &[
                "script",
                "--binary=hello",
                "--command='hello /usr/bin/tool'",
            ],
        ),
        ("/usr/bin/note", &["not an ELF"]),
        ("/usr/bin", &["no regular file"]),
        ("nothing", &["PATH", "/usr/bin"]),
    ] {
        let binary = format!("--binary={binary}");
        desk.convert(&[&binary, "--disable-session-upload"])
            .refused(4, words);
    }
    let lib = "--binary=/usr/bin/hello";
    let missing = Desk::new();
    let program = fs::read(desk.path("hello")).expect("program");
    let layers = vec![Layer::new().file("usr/bin/hello", 0o755, program)];
    let mut config = native::config();
    config["WorkingDir"] = "/".into();
    native::write(&missing, "amd64", &config, layers);
    missing
        .convert(&[lib, "--disable-session-upload"])
        .refused(4, &["ld-linux"]);
    assert!(!missing.path("result").exists());
}

#[test]
fn commands_that_start_something_else_are_refused() {
    let desk = Desk::new();
    let mut config = native::config();
    config["Entrypoint"] = serde_json::json!(["/usr/bin/note"]);
    let layers = vec![native::base(&desk), native::app()];
    native::write(&desk, "amd64", &config, layers);
    desk.convert_hello(&[])
        .refused(4, &["/usr/bin/note", "--command"]);
    desk.convert_hello(&["--command=hello"]).success();
}

#[test]
fn paths_that_cannot_be_protected_are_refused() {
    let desk = native::desk();
    for (options, code, words) in [
        (
            &["--dir=/absent"][..],
            5,
            &["--dir=/absent", "does not exist"][..],
        ),
        (&["--dir=/app", "--plain=/app"], 5, &["--dir", "--plain"]),
        (&["--plain-file=/app"], 5, &["--plain"]),
        (&["--dir=app"], 2, &["absolute"]),
        (&["--dir=/app/*"], 2, &["pattern"]),
        (&["--dir=/app/../etc"], 2, &[".."]),
        (&["--plain=/lib/x86_64-linux-gnu"], 5, &["libc.so.6"]),
    ] {
        desk.convert_hello(options).refused(code, words);
        assert!(!desk.path("result").exists(), "{options:?}");
    }
}

#[test]
fn a_second_name_outside_the_protected_directory_is_refused() {
    let desk = Desk::new();
    let layers = vec![
        native::base(&desk),
        native::app().link("srv/copy", "app/secret", true),
    ];
    native::write(&desk, "amd64", &native::config(), layers);
    desk.convert_hello(&["--dir=/app"])
        .refused(5, &["/srv/copy"]);
    assert!(!desk.path("result").exists());
}

#[test]
fn native_images_that_are_absent_or_foreign_are_refused() {
    let desk = native::desk();
    let mut command = desk.command();
    command.args([
        "convert",
        "--from=oci:native:nothing",
        "--to=oci:result:app",
    ]);
    command.args(["--binary=/usr/bin/hello", "--disable-session-upload"]);
    crate::tool::Finished::of(&mut command).refused(3, &["nothing", "app"]);
    let arm = Desk::new();
    native::write(&arm, "arm64", &native::config(), vec![]);
    arm.convert_hello(&[]).refused(3, &["linux/arm64"]);
    let mut command = desk.command();
    command.env("DOCKER_HOST", "unix:///nowhere/docker.sock");
    command.args(["convert", "--from=flask", "--to=oci:result:app"]);
    command.args(["--binary=/usr/bin/hello", "--disable-session-upload"]);
    crate::tool::Finished::of(&mut command).refused(3, &["/nowhere/docker.sock"]);
    // A result is no native image.
    desk.convert_hello(&[]).success();
    let mut command = desk.command();
    command.args(["convert", "--from=oci:result:app", "--to=oci:again:app"]);
    command.args([
        "--binary=/usr/bin/hello",
        "--command=hello",
        "--disable-session-upload",
    ]);
    crate::tool::Finished::of(&mut command).refused(3, &["/ensconce"]);
}

#[test]
fn usage_errors_have_their_code() {
    let desk = native::desk();
    for (options, words) in [
        (
            &["--volume=a:/b"][..],
            &["--volume", "not supported yet"][..],
        ),
        (&["--push-image"], &["--push-image", "not supported yet"]),
        (&["--fork=1"], &["--fork=1", "not supported yet"]),
        (&["--dirr=/app"], &["--dirr", "--dir"]),
        (&["--name=a b"], &["--name"]),
        (&["--env=novalue"], &["NAME=VALUE"]),
        (&["--heap=lots"], &["512M"]),
        (&["--stack=2G", "--heap=1G"], &["stack"]),
        (&["--allow-emulated-platform=xyz"], &["64"]),
        (&["--to=docker://registry/app"], &["not supported yet"]),
    ] {
        desk.convert_hello(options).refused(2, words);
    }
    desk.convert(&["--binary=/usr/bin/hello"])
        .refused(2, &["--cas", "--disable-session-upload"]);
    assert!(!desk.path("result").exists());
}

#[test]
fn stray_words_are_warned_about_and_survived() {
    let desk = native::desk();
    let done = desk
        .convert_hello(&["--command=hello", "/app/main.py"])
        .success();
    assert!(done.stderr.contains("/app/main.py"), "{}", done.stderr);
}

#[test]
fn unsuitable_signing_keys_are_refused_and_good_ones_sign() {
    let desk = native::desk();
    let generate = |exponent: &str, bits: &str, name: &str| {
        let mut command = Command::new("openssl");
        command
            .args(["genrsa", exponent, "-out"])
            .arg(desk.path(name))
            .arg(bits);
        let output = command.output().expect("openssl is installed");
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
    };
    generate("-3", "2048", "short.pem");
    generate("-F4", "3072", "exponent.pem");
    generate("-3", "3072", "good.pem");
    fs::write(desk.path("garbage.pem"), "no key").expect("write");
    for name in ["short.pem", "exponent.pem", "garbage.pem", "absent.pem"] {
        let option = format!("--scone-signer={name}");
        desk.convert_hello(&[&option]).refused(6, &[name]);
    }
    assert!(!desk.path("result").exists());
    desk.convert_hello(&["--scone-signer=good.pem", "--dlopen=2"])
        .refused(2, &["--dlopen"]);
    desk.convert_hello(&["--scone-signer=good.pem", "--report=r.json"])
        .success();
    let report: serde_json::Value = serde_json::from_str(&desk.text("r.json")).expect("JSON");
    assert_eq!(report["debug"], false);
    assert_eq!(report["insecure"], serde_json::json!([]));
    let text = desk.text("session.yml");
    let mrsigner = report["mrsigner"].as_str().expect("hex");
    assert!(
        text.contains(&format!("mrsigner: \"{mrsigner}\"")),
        "{text}"
    );
}

#[test]
fn an_unreachable_cas_leaves_the_old_tag_and_no_session() {
    let desk = native::desk();
    desk.convert_hello(&["--name=before"]).success();
    fs::remove_file(desk.path("session.yml")).expect("remove");
    let before = crate::convert::image(&desk).digest();
    let count = || {
        fs::read_dir(desk.path("result/blobs/sha256"))
            .expect("blobs")
            .count()
    };
    let blobs = count();
    // Port 9 answers nobody here.
    let options = [
        "--binary=/usr/bin/hello",
        "--cas=127.0.0.1:9:9",
        "--dir=/app",
    ];
    desk.convert(&options).refused(7, &["127.0.0.1:9"]);
    assert_eq!(crate::convert::image(&desk).digest(), before);
    assert_eq!(count(), blobs);
    assert!(!desk.path("session.yml").exists());
}

#[test]
fn messages_never_show_values_of_variables() {
    let desk = native::desk();
    let option = format!("--env={MARKER}");
    let done = desk.convert_hello(&[&option]).refused(2, &["NAME=VALUE"]);
    assert!(!done.stderr.contains(MARKER));
}
