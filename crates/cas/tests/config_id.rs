// SPDX-License-Identifier: Apache-2.0
//! Rule S1's CONFIGID is computed by the launcher, the agent's channel and the
//! session language. They must agree; `enclave-host` tests the same value.

#[test]
fn channel_and_sessions_agree_on_configid() {
    let expected = "909f839baaac4cee383b051524f9ca0aeaa85f7bc3449a8ec1a498c95ac92a50";
    let by_policy = policy::config_id_hash(&[7; 32], "ns/session", "service");
    assert_eq!(hex::encode(by_policy), expected);
    let by_channel = attest::channel::binding::config_id(&[7; 32], "ns/session", "service", None);
    assert_eq!(hex::encode(&by_channel[..32]), expected);
    assert_eq!(by_channel[32..], [0; 32]);
}
