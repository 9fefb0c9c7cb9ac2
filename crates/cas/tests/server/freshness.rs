// SPDX-License-Identifier: Apache-2.0
//! Time and collateral never go back, also across restarts.

use std::io;
use std::net::TcpStream;
use std::path::Path;

use attest::channel::client::{ClientError, Connect, Session};
use attest::channel::encoding::Bytes;
use attest::channel::frame::{Claims, Evidence, EvidenceKind, RefusalCode};
use attest::time::UnixTime;
use cas::channel::Trust;
use cas::client::{Client, Identity};
use cas::serve::{Options, Running, start_dev};

use crate::machine::{Machine, enclave, session};

const DAY: u64 = 86_400;

fn start(
    runtime: &tokio::runtime::Runtime,
    dir: &Path,
    machine: &Machine,
    clock: fn() -> UnixTime,
) -> Running {
    let trust = Trust::load(&[machine.root()], &[]).expect("an anchor");
    let options = Options {
        data: dir.join("data"),
        listen: [127, 0, 0, 1].into(),
        api_port: 0,
        attested_port: 0,
        names: Vec::new(),
        trust,
        clock,
    };
    runtime.block_on(start_dev(options)).expect("a server")
}

fn attest(running: &Running, machine: &Machine, collateral: &str) -> Result<(), ClientError> {
    let key = *running.service.key_hash();
    let connect = Connect {
        server_name: "localhost",
        pin: Some(*key.as_bytes()),
        config_id: "s/api",
        otp: None,
        token: None,
    };
    let stream = TcpStream::connect(running.attested).expect("a server");
    let own = enclave(&key, "s", "api");
    let attested = Session::connect(stream, &connect, |request| {
        Ok::<_, io::Error>(Evidence {
            kind: EvidenceKind::SgxDcap,
            quote: Bytes(machine.quote(&own, &request.report_data)),
            claims: Claims {
                collateral: Some(collateral.to_owned()),
            },
        })
    });
    attested.map(|_| ())
}

#[test]
fn a_clock_set_back_does_not_bring_old_collateral_to_life() {
    let dir = tempfile::tempdir().unwrap();
    let now = UnixTime::from_system();
    let before = UnixTime(now.0 - 60 * DAY);
    let mut machine = Machine::made_at(dir.path(), UnixTime(now.0 - 90 * DAY));
    let old = machine.collateral(before);
    let new = machine.collateral(now);
    assert_ne!(old, new);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    // An innocent CAS whose clock stands 60 days back believes the old collateral: it is valid then.
    let back: fn() -> UnixTime = || UnixTime(UnixTime::from_system().0 - 60 * DAY);
    let elsewhere = tempfile::tempdir().unwrap();
    for (place, first) in [(&elsewhere, false), (&dir, true)] {
        let running = start(&runtime, place.path(), &machine, UnixTime::from_system);
        let identity = Identity::generate().unwrap();
        let address = format!("127.0.0.1:{}", running.api.port()).parse().unwrap();
        let client = Client::new(address, None, Some(identity));
        let tolerance = format!("\"{}\"", machine.tolerance());
        client.upload(&session("s", &[&tolerance], "")).unwrap();
        if first {
            attest(&running, &machine, &new).unwrap();
            // Old collateral is expired by now anyway.
            assert!(attest(&running, &machine, &old).is_err());
        }
        runtime.block_on(running.stop());
    }
    let innocent = start(&runtime, elsewhere.path(), &machine, back);
    attest(&innocent, &machine, &old).unwrap();
    runtime.block_on(innocent.stop());
    // The CAS that has seen the new one remembers, although it was restarted.
    let warned = start(&runtime, dir.path(), &machine, back);
    let refused = attest(&warned, &machine, &old);
    assert!(
        matches!(
            refused,
            Err(ClientError::Refused {
                code: RefusalCode::AttestationRefused,
                ..
            })
        ),
        "{refused:?}"
    );
    let audit = std::fs::read_to_string(dir.path().join("data/audit.jsonl")).unwrap();
    assert!(audit.contains("set the clock"), "{audit}");
}
