// SPDX-License-Identifier: Apache-2.0
//! What a conversion produces.

use std::os::unix::fs::PermissionsExt as _;

use oci::image::Image;
use oci::limits::Limits;
use oci::root::RootView;
use policy::model::{Argument, Session, Variable};

use crate::native::{self, MARKER};
use crate::tool::Desk;

pub(crate) fn image(desk: &Desk) -> Image {
    let reference = format!("oci:{}:app", desk.path("result").display());
    let reference = reference.parse().expect("reference");
    Image::open(&reference, &Limits::default(), &std::env::temp_dir()).expect("result opens")
}

pub(crate) fn view(desk: &Desk) -> RootView {
    RootView::open(&image(desk), &Limits::default(), &std::env::temp_dir()).expect("result merges")
}

pub(crate) fn session(desk: &Desk) -> Session {
    policy::parse(&desk.text("session.yml"))
        .expect("a valid session")
        .session
}

fn words(session: &Session) -> Vec<String> {
    let service = session.services.values().next().expect("one service");
    let command = service.command.as_ref().expect("a command");
    command
        .iter()
        .map(|word| match word {
            Argument::Text(text) => text.to_source().to_string(),
            Argument::Host(number) => format!("@@{number}"),
        })
        .collect()
}

fn variable(session: &Session, name: &str) -> Option<String> {
    let service = session.services.values().next().expect("one service");
    match service.environment.get(name)? {
        Variable::Text(text) => Some(text.to_source().to_string()),
        Variable::Host => None,
    }
}

#[test]
fn standard_output_is_the_session_name_alone() {
    let desk = native::desk();
    for noise in [&[][..], &["-v", "-x"], &["--dry-run"]] {
        let mut options = vec!["--name=team-app"];
        options.extend_from_slice(noise);
        let done = desk.convert_hello(&options).success();
        assert_eq!(done.stdout, "team-app\n", "{noise:?}");
        // What is shown to people tells no secret either.
        assert!(!done.stderr.contains(MARKER), "{}", done.stderr);
        let key = desk.text("session.yml");
        let key = key
            .lines()
            .find_map(|line| line.trim().strip_prefix("fspf_key: "));
        assert!(!done.stderr.contains(key.expect("a key").trim_matches('"')));
    }
}

#[test]
fn the_tool_answers_to_its_older_name() {
    let desk = native::desk();
    let link = desk.path("sconify_image");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_ensconce"), &link).expect("symlink");
    let mut command = std::process::Command::new(link);
    command
        .current_dir(desk.path(""))
        .env("ENSCONCE_LIBEXEC", desk.path("libexec"))
        .env("HOME", desk.path(""))
        .args(["--from", "oci:native:app", "--to", "oci:result:app"])
        .args(["--binary", "/usr/bin/hello", "--disable-session-upload"]);
    let done = crate::tool::Finished::of(&mut command).success();
    assert_eq!(done.stdout, "result-app\n");
}

#[test]
fn command_environment_and_directory_move_into_the_session() {
    let desk = native::desk();
    desk.convert_hello(&["--service-name=api"]).success();
    let session = session(&desk);
    assert_eq!(words(&session), ["hello", "--from", "native"]);
    assert_eq!(variable(&session, "TOKEN").as_deref(), Some(MARKER));
    assert_eq!(variable(&session, "PATH").as_deref(), Some("/usr/bin"));
    let (name, service) = session.services.iter().next().expect("one service");
    assert_eq!(name.as_str(), "api");
    assert_eq!(service.pwd.as_deref(), Some("/app"));
    assert_eq!(
        service.image.as_ref().map(|name| name.as_str()),
        Some("api_image")
    );
    let mode = desk
        .path("session.yml")
        .metadata()
        .expect("metadata")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);

    let config = image(&desk).config().clone();
    assert_eq!(config.entrypoint, ["/ensconce/launch"]);
    assert!(config.cmd.is_empty());
    assert_eq!(config.working_dir, "/");
    assert!(
        config
            .env
            .iter()
            .all(|(name, _)| name.starts_with("SCONE_"))
    );
    let id = ("SCONE_CONFIG_ID".to_owned(), "result-app/api".to_owned());
    assert!(config.env.contains(&id), "{:?}", config.env);
    assert_eq!(config.user, "1000");
    assert!(config.exposed_ports.contains("8443/tcp"));
    assert_eq!(config.stop_signal.as_deref(), Some("SIGINT"));
    assert!(!config.has_healthcheck);
}

#[test]
fn options_win_over_the_native_image() {
    let desk = native::desk();
    let options = [
        "--command=hello 'two words' @@1",
        "--env=PATH=/opt",
        "--env=NEW=a=b",
    ];
    desk.convert_hello(&options).success();
    let with = session(&desk);
    assert_eq!(words(&with), ["hello", "two words", "@@1"]);
    assert_eq!(variable(&with, "PATH").as_deref(), Some("/opt"));
    assert_eq!(variable(&with, "NEW").as_deref(), Some("a=b"));
    assert_eq!(variable(&with, "TOKEN").as_deref(), Some(MARKER));
    desk.convert_hello(&["--disable-copy-envvars"]).success();
    let without = session(&desk);
    assert_eq!(variable(&without, "TOKEN"), None);
    // Programs without any PATH find nothing, so docker's default is added.
    assert!(variable(&without, "PATH").is_some());
}

#[test]
fn libraries_that_the_loader_would_miss_get_a_search_path() {
    let desk = Desk::new();
    let value = |options: &[&str]| {
        desk.convert_hello(options).success();
        variable(&session(&desk), "LD_LIBRARY_PATH")
    };
    let local = || native::Layer::new().file("usr/local/lib/liba.so.1", 0o644, "library");
    let cache = native::Layer::new().file("etc/ld.so.cache", 0o644, "");
    native::write(
        &desk,
        "amd64",
        &native::config(),
        vec![native::base(&desk), native::app()],
    );
    assert_eq!(value(&[]), None);
    let layers = vec![native::base(&desk), native::app(), local()];
    native::write(&desk, "amd64", &native::config(), layers);
    let generated = value(&[]);
    assert_eq!(generated.as_deref(), Some("/lib:/usr/lib:/usr/local/lib"));
    assert_eq!(value(&["--disable-ld-library-path-in-session"]), None);
    let own = value(&["--env=LD_LIBRARY_PATH=/own"]);
    assert_eq!(own.as_deref(), Some("/own"));
    let layers = vec![native::base(&desk), native::app(), local(), cache];
    native::write(&desk, "amd64", &native::config(), layers);
    assert_eq!(value(&[]), None);
}

#[test]
fn scripts_and_shell_lines_are_followed_to_the_program() {
    for (entrypoint, cmd, expected) in [
        (
            vec!["/usr/bin/tool"],
            vec!["x"],
            vec!["hello", "/usr/bin/tool", "x"],
        ),
        (
            vec!["/bin/sh", "-c", "exec hello a b"],
            vec![],
            vec!["hello", "a", "b"],
        ),
        (vec!["hi"], vec!["with space"], vec!["hi", "with space"]),
        (vec![], vec![], vec!["/usr/bin/hello"]),
    ] {
        let desk = Desk::new();
        let mut config = native::config();
        config["Entrypoint"] = serde_json::json!(entrypoint);
        config["Cmd"] = serde_json::json!(cmd);
        let layers = vec![native::base(&desk), native::app()];
        native::write(&desk, "amd64", &config, layers);
        desk.convert_hello(&[]).success();
        assert_eq!(words(&session(&desk)), expected);
    }
}

#[test]
fn the_session_names_the_measurement_of_the_image() {
    let desk = native::desk();
    desk.convert_hello(&["--report=report.json"]).success();
    let view = view(&desk);
    let read = |path: &str| {
        let path = oci::path::RootPath::parse(path).expect("path");
        let (_, node) = view.resolve(&path).expect("there");
        let oci::root::NodeKind::File(data) = node.kind else {
            panic!("{path} is no file");
        };
        view.content(&data)
            .expect("content")
            .read_all(1 << 30)
            .expect("read")
    };
    let file = read("/ensconce/enclave.img");
    let header = enclave_abi::image::Header::decode(&file, file.len() as u64).expect("header");
    let mrenclave = enclave_image::plan::measure(&header, &file).expect("whole");
    let session = session(&desk);
    let service = session.services.values().next().expect("one service");
    let variant = service.attestation.first().expect("one variant");
    assert_eq!(variant.mrenclaves.iter().collect::<Vec<_>>(), [&mrenclave]);

    let signature: [u8; sgx::sigstruct::Sigstruct::SIZE] =
        read("/ensconce/enclave.img.sig").try_into().expect("size");
    let signature = sgx::sigstruct::Sigstruct::from_bytes(&signature).expect("SIGSTRUCT");
    signature.verify().expect("signature");

    let report: serde_json::Value = serde_json::from_str(&desk.text("report.json")).expect("JSON");
    assert_eq!(report["mrenclave"], hex::encode(mrenclave));
    assert_eq!(report["to"]["manifest"], image(&desk).digest().to_string());
    assert_eq!(report["insecure"], serde_json::json!(["unsigned"]));
    assert_eq!(
        report["layers"],
        serde_json::json!({"reused": 2, "rewritten": 0})
    );
}

#[test]
fn equal_inputs_give_equal_measurements_and_parameters_change_them() {
    let desk = native::desk();
    let measure = |options: &[&str]| {
        desk.convert_hello(options).success();
        let session = session(&desk);
        let service = session.services.values().next().expect("one service");
        *service.attestation[0].mrenclaves.first().expect("one")
    };
    let first = measure(&[]);
    assert_eq!(measure(&[]), first);
    assert_eq!(measure(&["--dir=/app", "--env=X=1", "--name=other"]), first);
    assert_ne!(measure(&["--heap=2G"]), first);
    assert_ne!(measure(&["--stack=2M"]), first);
    assert_ne!(measure(&["--dlopen=0"]), first);
    assert_ne!(measure(&["--host-path=/srv"]), first);
}

#[test]
fn a_dry_run_writes_nothing() {
    let desk = native::desk();
    desk.convert_hello(&["--dry-run", "--session=s.yml"])
        .success();
    for path in ["result", "s.yml", "session.yml", ".cas"] {
        assert!(!desk.path(path).exists(), "{path}");
    }
}

#[test]
fn development_switches_are_visible_in_the_session() {
    let desk = native::desk();
    let anchor = "ab".repeat(32);
    let emulated = format!("--allow-emulated-platform={anchor}");
    let done = desk
        .convert_hello(&["--allow-debug-mode", &emulated])
        .success();
    assert!(
        done.stderr.contains("protects nothing against root"),
        "{}",
        done.stderr
    );
    let text = desk.text("session.yml");
    assert!(
        text.contains(&format!(
            "tolerate: [debug-mode, \"emulated-platform:{anchor}\"]"
        )),
        "{text}"
    );
    let env = image(&desk).config().env.clone();
    assert!(
        env.contains(&("SCONE_MODE".to_owned(), "sim".to_owned())),
        "{env:?}"
    );
    let done = desk.convert_hello(&[]).success();
    assert!(desk.text("session.yml").contains("tolerate: []"));
    assert!(
        done.stderr.contains("--allow-debug-mode"),
        "the way out is named"
    );
}
