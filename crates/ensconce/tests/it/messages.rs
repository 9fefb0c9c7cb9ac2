// SPDX-License-Identifier: Apache-2.0
//! Help and refusals word for word, because people act on them.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;

use crate::native::{self, MARKER};
use crate::tool::{Desk, Finished};

/// Compares with a file of `tests/golden`; `UPDATE_GOLDEN=1` rewrites it.
fn assert_golden(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&path, text).expect("golden file");
    }
    let golden = fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(text, golden, "differs from {}", path.display());
}

fn openssl(desk: &Desk, arguments: &[&str]) {
    let output = Command::new("openssl")
        .args(arguments)
        .current_dir(desk.path(""))
        .output()
        .expect("openssl is installed");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
}

/// What was asked and what was answered, without what differs by machine.
fn record(to: &mut String, desk: &Desk, options: &[&str], done: &Finished) {
    let place = desk.path("").display().to_string();
    let place = place.trim_end_matches('/');
    let code = done.code.expect("an exit code");
    writeln!(to, "$ convert {}", options.join(" ")).expect("memory");
    let said = done.stderr.replace(place, "DESK");
    writeln!(to, "{said}exit code {code}\n").expect("memory");
    assert!(!done.stderr.contains(MARKER), "{}", done.stderr);
}

#[test]
fn help_is_golden() {
    let desk = Desk::new();
    for (option, name) in [
        ("--help", "convert-help.txt"),
        ("-h", "convert-help-short.txt"),
    ] {
        let done = Finished::of(desk.command().args(["convert", option])).success();
        assert_golden(name, &done.stdout);
    }
}

#[test]
fn refusals_are_golden() {
    let desk = native::desk();
    for (exponent, bits, name) in [
        ("-3", "2048", "short.pem"),
        ("-F4", "3072", "exponent.pem"),
        ("-3", "3072", "good.pem"),
    ] {
        openssl(&desk, &["genrsa", exponent, "-out", name, bits]);
    }
    let encrypt = ["rsa", "-aes128", "-passout", "pass:x", "-in", "good.pem"];
    openssl(&desk, &[&encrypt[..], &["-out", "encrypted.pem"]].concat());
    fs::write(desk.path("garbage.pem"), MARKER).expect("write");
    let hello = "--binary=/usr/bin/hello";
    let offline = "--disable-session-upload";
    let mut text = String::new();
    for options in [
        // Programs.
        &["--binary=/usr/bin/absent", offline][..],
        &["--binary=absent", offline],
        &["--binary=/usr/bin/tool", offline],
        &["--binary=/usr/bin/note", offline],
        // Paths.
        &[hello, offline, "--dir=/absent"],
        &[hello, offline, "--dir=relative"],
        &[hello, offline, "--dir=/app", "--plain=/app"],
        &[
            hello,
            offline,
            "--dir=/app",
            "--plain=/app/",
            "--host-path=/app",
        ],
        &[hello, offline, "--plain-file=/app"],
        // Keys.
        &[hello, offline, "--scone-signer=absent.pem"],
        &[hello, offline, "--scone-signer=garbage.pem"],
        &[hello, offline, "--scone-signer=short.pem"],
        &[hello, offline, "--scone-signer=exponent.pem"],
        &[hello, offline, "--scone-signer=encrypted.pem"],
        // The CAS.
        &[hello],
        &[hello, "--cas=127.0.0.1:9:9"],
        &[hello, "--cas=a b"],
        &[hello, "--cas=127.0.0.1:9:9", "--identity=garbage.pem"],
        // Where the result goes.
        &[hello, offline, "--to=oci:result"],
        &[hello, offline, "--to=oci:libexec:app"],
        &[hello, offline, "--session=libexec"],
        &[hello, offline, "--session=absent/session.yml"],
        &[hello, offline, "--from=oci:absent:app"],
        &[hello, offline, "--from=oci:native:absent"],
    ] {
        let done = desk.convert(options);
        assert_eq!(done.stdout, "", "{options:?}");
        record(&mut text, &desk, options, &done);
        for left in ["result", "session.yml", "libexec/blobs"] {
            assert!(!desk.path(left).exists(), "{options:?} left {left}");
        }
    }
    assert_golden("convert-refusals.txt", &text);
}

/// Runs `convert` where `place` is a tmpfs of 64 KiB; what is left in it is
/// named after "left:". `None`, visibly, where mounting is not allowed.
fn convert_on_full_disk(desk: &Desk, place: &str) -> Option<Finished> {
    fs::create_dir(desk.path(place)).expect("mkdir");
    let script = format!(
        "mount -t tmpfs -o size=64k none {place} || exit 99
         \"$0\" convert --from=oci:native:app --to=oci:result:app --dir=/app \\
             --binary=/usr/bin/hello --disable-session-upload
         code=$?
         echo left: $(find {place} -type f) >&2
         exit $code"
    );
    let mut command = Command::new("unshare");
    command
        .args(["--map-root-user", "--mount", "sh", "-c", &script])
        .arg(env!("CARGO_BIN_EXE_ensconce"))
        .env("TMPDIR", desk.path("temp"));
    let done = Finished::of(desk.surround(&mut command));
    if done.code == Some(99) || done.stderr.contains("unshare failed") {
        let problem = "no mounts in a namespace of one's own here";
        assert!(std::env::var("CI").as_deref() != Ok("true"), "{problem}");
        eprintln!("skipped: {problem}");
        return None;
    }
    Some(done)
}

#[test]
fn a_full_disk_leaves_no_image_and_no_secret() {
    for place in ["result", "temp"] {
        let desk = native::desk();
        if place != "temp" {
            fs::create_dir(desk.path("temp")).expect("mkdir");
        }
        let Some(done) = convert_on_full_disk(&desk, place) else {
            return;
        };
        let done = done.refused(5, &["no space is left", "left:"]);
        let left = done.stderr.split("left:").last().unwrap_or_default();
        assert_eq!(left.trim(), "", "{place}");
        // Neither elsewhere: no tag, no session, no temporary file.
        assert!(!desk.path("result/index.json").exists(), "{place}");
        let here = fs::read_dir(desk.path("")).expect("desk");
        let names = here.map(|entry| entry.expect("entry").file_name());
        let unexpected: Vec<_> = names
            .filter_map(|name| name.into_string().ok())
            .filter(|name| name.starts_with('.') && name != ".cache" || name == "session.yml")
            .collect();
        assert!(unexpected.is_empty(), "{place}: {unexpected:?}");
    }
}
