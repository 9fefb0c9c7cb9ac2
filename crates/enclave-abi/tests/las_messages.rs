// SPDX-License-Identifier: Apache-2.0
//! The quoting service's messages as they travel.
#![cfg(feature = "wire")]

use enclave_abi::las::{Answer, Base64, Kind, Request};

#[test]
fn requests_have_their_documented_form() {
    let text = r#"{"request":"quote","report":"AAEC"}"#;
    let request: Request = serde_json::from_str(text).unwrap();
    assert_eq!(
        request,
        Request::Quote {
            report: Base64(vec![0, 1, 2])
        }
    );
    assert_eq!(serde_json::to_string(&request).unwrap(), text);
    assert_eq!(
        serde_json::to_string(&Request::Info {}).unwrap(),
        r#"{"request":"info"}"#
    );
}

#[test]
fn answers_have_their_documented_form() {
    let answer = Answer::Info {
        kind: Kind::Emulated,
        qe_target_info: Base64(vec![1]),
        platform_id: "00".into(),
        anchor: "ff".into(),
    };
    assert_eq!(
        serde_json::to_string(&answer).unwrap(),
        r#"{"answer":"info","kind":"emulated","qe_target_info":"AQ==","platform_id":"00","anchor":"ff"}"#
    );
    let refused: Answer = serde_json::from_str(r#"{"answer":"egetkey","error":256}"#).unwrap();
    assert_eq!(
        refused,
        Answer::Egetkey {
            key: None,
            error: 256
        }
    );
}

#[test]
fn unknown_fields_are_refused() {
    assert!(serde_json::from_str::<Request>(r#"{"request":"info","x":1}"#).is_err());
    assert!(
        serde_json::from_str::<Request>(r#"{"request":"quote","report":"AA==","x":1}"#).is_err()
    );
    assert!(serde_json::from_str::<Request>(r#"{"request":"quote","report":"@"}"#).is_err());
}
