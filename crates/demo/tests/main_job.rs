// SPDX-License-Identifier: Apache-2.0
//! The main job with the built programs, and everything that must be refused.
//!
//! Each test has services and a converted image of its own. The programs come
//! from `ENSCONCE_DIST` (`make test` sets it).

use std::path::{Path, PathBuf};
use std::sync::Mutex;

use demo::job::start;
use demo::markers;
use demo::native::MARKERS;
use demo::stage::Stage;

/// Two cores do not hold many enclaves at once.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
/// The cached base is made once.
static CACHE: Mutex<()> = Mutex::new(());

fn stage(name: &str) -> Option<Stage> {
    let Some(dist) = std::env::var_os("ENSCONCE_DIST").map(PathBuf::from) else {
        assert!(
            std::env::var("CI").as_deref() != Ok("true"),
            "ENSCONCE_DIST must be set in CI"
        );
        eprintln!("skipped: ENSCONCE_DIST is not set; run `make test`");
        return None;
    };
    let target = dist
        .parent()
        .map_or_else(|| PathBuf::from("target"), Path::to_path_buf);
    let _cache = CACHE
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    let work = target.join("demo").join(name);
    Some(Stage::set(&dist, &target.join("demo/cache"), &work).expect("the stage is set"))
}

/// The refusal's text, for looking at.
fn refused(name: &str, attempt: impl FnOnce(&Stage) -> anyhow::Result<demo::refusals::Refusal>) {
    let _turn = ONE_AT_A_TIME
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    let Some(stage) = stage(name) else { return };
    let refusal = attempt(&stage).expect("the attempt is refused");
    eprintln!("{}: {}", refusal.attempt, refusal.answer);
}

#[test]
fn a_converted_service_answers_https_and_shows_its_secrets_to_nobody_else() {
    let _turn = ONE_AT_A_TIME
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    let Some(stage) = stage("serves") else { return };
    let native = markers::in_layout(&stage.native.dir).unwrap();
    assert_eq!(
        native.len(),
        MARKERS.len(),
        "the native image is careless: {native:?}"
    );
    let converted = markers::in_layout(&stage.converted.dir).unwrap();
    assert!(converted.is_empty(), "{converted:?}");

    let mut service = start(
        &stage.programs,
        &stage.converted.reference,
        &stage.work,
        "service.log",
    )
    .unwrap();
    let client = stage.client();
    let about = client.wait_until_serving(&mut service).unwrap();
    assert!(about.contains("hello from the session"), "{about}");
    client.post("/notes/a", r#"{"x":1}"#).unwrap();
    assert!(client.get("/notes/a").unwrap().contains('1'));
    assert!(client.get("/notes/unknown").is_err());
    for place in ["environ", "cmdline"] {
        let file = PathBuf::from(format!("/proc/{}/{place}", service.id()));
        assert!(markers::in_file(&file).unwrap().is_empty(), "{place}");
        let text = std::fs::read_to_string(&file).unwrap();
        assert!(!text.contains("hello from the session"), "{place}: {text}");
    }
    for log in [
        service.log(),
        stage.services.las.log(),
        stage.services.cas.log(),
    ] {
        assert!(
            markers::in_file(log).unwrap().is_empty(),
            "{}",
            log.display()
        );
    }
    service.stop().unwrap();
}

#[test]
fn nothing_starts_without_the_cas() {
    refused("no-cas", |stage| stage.scene().without_cas());
}

#[test]
fn a_flipped_bit_in_the_service_is_refused() {
    refused("flip-app", |stage| {
        stage.scene().with_flipped_bit("/app/rest_api.py")
    });
}

#[test]
fn a_flipped_bit_in_pythons_library_is_refused() {
    refused("flip-stdlib", |stage| {
        stage
            .scene()
            .with_flipped_bit("/usr/lib/python3.11/json/__pycache__/__init__.cpython-311.pyc")
    });
}

#[test]
fn a_flipped_bit_in_the_tree_is_refused() {
    refused("flip-fspf", |stage| {
        stage.scene().with_flipped_bit("/fspf/fs.fspf")
    });
}

#[test]
fn a_flipped_bit_in_the_enclave_is_refused() {
    refused("flip-enclave", |stage| {
        stage.scene().with_flipped_bit("/ensconce/enclave.img")
    });
}

#[test]
fn a_session_for_another_measurement_is_refused() {
    refused("measurement", |stage| {
        stage.scene().with_another_measurement()
    });
}

#[test]
fn a_strangers_session_gets_nothing_of_the_victims() {
    refused("stranger", |stage| stage.scene().with_a_strangers_session());
}
