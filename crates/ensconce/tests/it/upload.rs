// SPDX-License-Identifier: Apache-2.0
//! Conversion with a real development CAS.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use attest::time::UnixTime;
use cas::channel::Trust;
use cas::client::{Address, Client, Identity, State};
use cas::serve::{Options, Running, start_dev};
use tokio::runtime::Runtime;

use crate::native;
use crate::tool::{Desk, Finished};

/// A server of its own for each test.
struct Server {
    running: Option<Running>,
    runtime: Runtime,
}

impl Server {
    fn start(desk: &Desk) -> Self {
        let runtime = Runtime::new().expect("runtime");
        let options = Options {
            data: desk.path("cas"),
            listen: [127, 0, 0, 1].into(),
            api_port: 0,
            attested_port: 0,
            names: Vec::new(),
            trust: Trust::default(),
            clock: UnixTime::from_system,
        };
        let running = runtime.block_on(start_dev(options)).expect("a server");
        Self {
            running: Some(running),
            runtime,
        }
    }

    fn address(&self) -> String {
        let running = self.running.as_ref().expect("running");
        format!(
            "localhost:{}:{}",
            running.api.port(),
            running.attested.port()
        )
    }

    fn client(&self, identity: Identity) -> Client {
        let address: Address = self.address().parse().expect("address");
        Client::new(address, None, Some(identity))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(running) = self.running.take() {
            self.runtime.block_on(running.stop());
        }
    }
}

fn convert(desk: &Desk, server: &Server, options: &[&str]) -> Finished {
    let cas = format!("--cas={}", server.address());
    let mut all = vec!["--binary=/usr/bin/hello", "--name=stored", &cas];
    all.extend_from_slice(options);
    desk.convert(&all)
}

#[test]
fn sessions_are_created_updated_and_owned_by_the_identity() {
    let desk = native::desk();
    let server = Server::start(&desk);
    let done = convert(&desk, &server, &["--cas-debug", "--dir=/app"]).success();
    assert_eq!(done.stdout, "stored\n");
    assert!(done.stderr.contains("without evidence"), "{}", done.stderr);
    // The session went to the CAS only.
    assert!(!desk.path("session.yml").exists());
    let config = desk.path(".cas/config.json");
    let mode = fs::metadata(&config).expect("config").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    let state = State::load_or_create(&config).expect("state");
    let client = server.client(state.into_identity());
    let first = client.read("stored", None).expect("read").expect("there");
    assert!(first.session.contains("fspf_key"));
    // The second use is pinned and updates; its key is a fresh one.
    let done = convert(&desk, &server, &["--cas-debug", "--dir=/app"]).success();
    assert!(!done.stderr.contains("without evidence"), "{}", done.stderr);
    let second = client.read("stored", None).expect("read").expect("there");
    assert_ne!(first.hash, second.hash);

    let stranger = server.client(Identity::generate().expect("identity"));
    assert!(stranger.read("stored", None).is_err());
}

#[test]
fn the_cas_key_is_measured() {
    let desk = native::desk();
    let server = Server::start(&desk);
    convert(&desk, &server, &["--cas-debug", "--report=with.json"]).success();
    desk.convert_hello(&["--report=without.json"]).success();
    let report =
        |name: &str| -> serde_json::Value { serde_json::from_str(&desk.text(name)).expect("JSON") };
    let (with, without) = (report("with.json"), report("without.json"));
    assert_ne!(with["mrenclave"], without["mrenclave"]);
    assert_eq!(
        with["insecure"],
        serde_json::json!(["unsigned", "cas-debug"])
    );
    let key = server
        .client(Identity::generate().expect("identity"))
        .attest()
        .expect("attest");
    assert_eq!(with["cas_key"], key.key_hash.to_hex());
    let env = crate::convert::image(&desk).config().env.clone();
    assert!(
        env.iter().all(|(name, _)| name != "SCONE_CAS_ADDR"),
        "the last one names none"
    );
}

#[test]
fn a_development_cas_is_refused_unless_asked_for() {
    let desk = native::desk();
    let server = Server::start(&desk);
    convert(&desk, &server, &[]).refused(7, &["development CAS", "--cas-debug"]);
    assert!(!desk.path("result").exists());
}

#[test]
fn a_cas_with_another_key_is_refused() {
    let desk = native::desk();
    let server = Server::start(&desk);
    convert(&desk, &server, &["--cas-debug"]).success();
    let config = desk.path(".cas/config.json");
    let text = fs::read_to_string(&config).expect("config");
    let mut json: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let other = Identity::generate()
        .expect("identity")
        .key_hash()
        .to_string();
    json["cas_db"][server.address()]["cas_key"] = other.into();
    fs::write(&config, json.to_string()).expect("write");
    convert(&desk, &server, &["--cas-debug"]).refused(7, &["expected key"]);
}

#[test]
fn a_session_of_somebody_else_is_refused_and_the_old_tag_stays() {
    let desk = native::desk();
    let server = Server::start(&desk);
    convert(&desk, &server, &["--cas-debug"]).success();
    let before = crate::convert::image(&desk).digest();
    let other = Identity::generate().expect("identity");
    fs::write(desk.path("other.pem"), other.to_pem().as_bytes()).expect("write");
    fs::set_permissions(desk.path("other.pem"), fs::Permissions::from_mode(0o600)).expect("chmod");
    let options = ["--cas-debug", "--identity=other.pem", "--dir=/app"];
    convert(&desk, &server, &options).refused(
        8,
        &[
            "not accepted",
            "help: somebody else",
            "--name",
            "--identity",
        ],
    );
    assert!(!desk.path("session.yml").exists());
    assert_eq!(crate::convert::image(&desk).digest(), before);
    convert(&desk, &server, &["--cas-debug", "--identity=absent.pem"]).refused(7, &["absent.pem"]);
}
