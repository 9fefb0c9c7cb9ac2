// SPDX-License-Identifier: Apache-2.0
//! Properties over arbitrary sessions: text form and hash.

use std::collections::{BTreeMap, BTreeSet};

use proptest::collection::{btree_map, btree_set, vec};
use proptest::option::of;
use proptest::prelude::*;
use zeroize::Zeroizing;

use crate::access::{AccessPolicy, Entry, Rule};
use crate::attestation::{Advisories, Mode, Security, Signer, Svn, Tolerance, Variant};
use crate::key_hash::KeyHash;
use crate::model::{
    Argument, Fspf, FspfKey, Image, InjectionFile, Secret, SecretKind, Service, Session,
    UpdatePolicy, Variable,
};
use crate::name::{Name, SessionName};
use crate::parse;
use crate::placeholder::{Format, Piece, SecretRef, Template};

fn name() -> impl Strategy<Value = Name> {
    "[a-z][a-z0-9_~-]{0,5}".prop_map(|text| Name::parse(&text).unwrap())
}

/// Any text without NUL, without `$` (which could complete a placeholder) and `@` (host arguments).
fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        "[ -#%-?A-~\n\té\u{2028}\u{85}🦀]{1,12}",
        Just("yes".to_owned()),
        Just("0123".to_owned()),
        Just("null".to_owned()),
        Just(" lead\n\n trail \n".to_owned()),
        Just("line\nline\n".to_owned()),
    ]
}

/// A template over one ascii secret `a` and one binary secret `b`.
fn template(raw: bool) -> impl Strategy<Value = Template> {
    let reference =
        (any::<bool>(), 0..6_usize, any::<bool>()).prop_map(move |(ascii, format, escape_json)| {
            let format = match (ascii, Format::ALL[format].1) {
                (true, _) => None,
                (false, Format::Bin) if raw && !escape_json => None,
                (false, Format::Bin) => Some(Format::Hex),
                (false, format) => Some(format),
            };
            let name = Name::parse(if ascii { "a" } else { "b" }).unwrap();
            Piece::Secret(SecretRef {
                name,
                format,
                escape_json,
            })
        });
    let pair = (text(), reference)
        .prop_map(|(text, reference)| [Piece::Text(Zeroizing::new(text)), reference]);
    (vec(pair, 0..3), of(text())).prop_map(|(pairs, tail)| {
        let mut pieces: Vec<Piece> = pairs.into_iter().flatten().collect();
        pieces.extend(tail.map(|text| Piece::Text(Zeroizing::new(text))));
        Template(pieces)
    })
}

fn svn() -> impl Strategy<Value = Svn> {
    prop_oneof![
        any::<u16>().prop_map(Svn::Exact),
        (of(0..100_u16), of(100..200_u16)).prop_map(|(min, max)| Svn::Range { min, max }),
    ]
}

fn variant() -> impl Strategy<Value = Variant> {
    let signer =
        (any::<[u8; 32]>(), any::<u16>(), svn()).prop_map(|(mrsigner, isvprodid, isvsvn)| Signer {
            mrsigner,
            isvprodid,
            isvsvn,
        });
    (btree_set(any::<[u8; 32]>(), 0..3), of(signer)).prop_map(|(mut mrenclaves, signer)| {
        if signer.is_none() {
            mrenclaves.insert([7; 32]);
        }
        Variant { mrenclaves, signer }
    })
}

fn fspf() -> impl Strategy<Value = Fspf> {
    (any::<[u8; 32]>(), any::<bool>(), of(any::<[u8; 16]>())).prop_map(|(key, literal, tag)| Fspf {
        path: "/fspf/fs.fspf".to_owned(),
        key: if literal {
            FspfKey::Literal(Zeroizing::new(key))
        } else {
            FspfKey::Secret(Name::parse("k").unwrap())
        },
        tag,
        update_policy: match tag {
            Some(_) => UpdatePolicy::Reinitializable,
            None => UpdatePolicy::NoRollbackProtection,
        },
    })
}

fn service() -> impl Strategy<Value = Service> {
    let argument = prop_oneof![3 => template(false).prop_map(Argument::Text)];
    let command =
        (text(), vec(argument, 0..3), of(1..9_u32)).prop_map(|(program, mut rest, host)| {
            let program = Template(vec![Piece::Text(Zeroizing::new(program))]);
            rest.insert(0, Argument::Text(program));
            rest.extend(host.map(Argument::Host));
            rest
        });
    let variable = prop_oneof![
        template(false).prop_map(Variable::Text),
        Just(Variable::Host)
    ];
    (
        of(command),
        btree_map("[A-Z ]{1,6}", variable, 0..3),
        of("(/[a-z ]{1,4}){1,3}"),
        of(fspf()),
        any::<bool>(),
        vec(variant(), 1..3),
    )
        .prop_map(
            |(command, environment, pwd, fspf, image, attestation)| Service {
                command,
                environment,
                pwd,
                fspf,
                image: image.then(|| Name::parse("image").unwrap()),
                attestation,
            },
        )
}

fn rule() -> impl Strategy<Value = Rule> {
    let entry = prop_oneof![
        Just(Entry::Creator),
        any::<[u8; 32]>().prop_map(|hash| Entry::Key(KeyHash::from_bytes(hash))),
    ];
    prop_oneof![
        Just(Rule::Any),
        Just(Rule::None),
        btree_set(entry, 1..3).prop_map(Rule::Of),
    ]
}

fn secrets() -> impl Strategy<Value = BTreeMap<Name, Secret>> {
    (text(), vec(any::<u8>(), 0..9), 1..99_u32).prop_map(|(ascii, binary, size)| {
        let explicit = |kind, value: Vec<u8>| Secret {
            kind,
            value: Some(Zeroizing::new(value)),
        };
        let length = |len: usize| u32::try_from(len).unwrap();
        let kind_a = SecretKind::Ascii {
            size: length(ascii.len()),
        };
        let kind_b = SecretKind::Binary {
            size: length(binary.len()),
        };
        let generated = |kind| Secret { kind, value: None };
        BTreeMap::from([
            (
                Name::parse("a").unwrap(),
                explicit(kind_a, ascii.into_bytes()),
            ),
            (Name::parse("b").unwrap(), explicit(kind_b, binary)),
            (
                Name::parse("k").unwrap(),
                generated(SecretKind::Binary { size: 32 }),
            ),
            (
                Name::parse("g").unwrap(),
                generated(SecretKind::Ascii { size }),
            ),
        ])
    })
}

fn security() -> impl Strategy<Value = Security> {
    let tolerance = prop_oneof![
        (0..7_usize).prop_map(|index| Tolerance::NAMED[index].1),
        any::<[u8; 32]>().prop_map(Tolerance::EmulatedPlatform),
    ];
    (
        prop_oneof![Just(Mode::Hardware), Just(Mode::None)],
        btree_set(tolerance, 0..4),
        btree_set("INTEL-SA-[0-9]{5}", 0..3),
        any::<bool>(),
    )
        .prop_map(|(mode, tolerate, listed, all)| Security {
            mode,
            ignore_advisories: if all && tolerate.contains(&Tolerance::DebugMode) {
                Advisories::All
            } else {
                Advisories::Listed(listed)
            },
            tolerate,
        })
}

/// Sessions that the language can express.
pub(crate) fn session() -> impl Strategy<Value = Session> {
    let file =
        (of(template(true)), 0..=0o777_u32).prop_map(|(content, permission)| InjectionFile {
            content: content.filter(|template| !template.0.is_empty()),
            permission,
        });
    let image = btree_map("(/[a-z ]{1,4}){1,3}", file, 0..3).prop_map(|injection_files| {
        BTreeMap::from([(Name::parse("image").unwrap(), Image { injection_files })])
    });
    (
        (
            0..=12_u8,
            vec(name(), 1..4),
            of(any::<[u8; 32]>()),
            of(any::<[u8; 16]>()),
        ),
        btree_map(name(), service(), 0..3),
        secrets(),
        image,
        (rule(), rule(), rule(), rule()),
        security(),
    )
        .prop_map(
            |((patch, names, predecessor, salt), services, secrets, images, rules, security)| {
                let names: Vec<&str> = names.iter().map(Name::as_str).collect();
                Session {
                    patch,
                    name: SessionName::parse(&names.join("/")).unwrap(),
                    predecessor,
                    salt,
                    creator: None,
                    services,
                    secrets,
                    images,
                    access: AccessPolicy {
                        read: rules.0,
                        update: rules.1,
                        create_sessions: rules.2,
                        list_sessions: rules.3,
                    },
                    security,
                }
            },
        )
}

proptest! {
    #[test]
    fn the_normalised_text_reads_back_as_the_same_session(session in session()) {
        let text = session.to_yaml();
        let read = parse(&text).unwrap_or_else(|e| panic!("{e}\n{}", text.as_str())).session;
        prop_assert_eq!(&read, &session, "{}", text.as_str());
        prop_assert_eq!(read.hash(), session.hash());
        let again = read.to_yaml();
        prop_assert_eq!(again.as_str(), text.as_str());
    }

    #[test]
    fn different_sessions_have_different_hashes(a in session(), b in session()) {
        prop_assert_eq!(a == b, a.hash() == b.hash());
    }

    #[test]
    fn any_text_is_read_or_refused_with_an_error(text in "[a-z:\\-\\[\\]{}\"'|>&*!%@$ \n\t~#é]{0,60}") {
        if let Err(refusal) = parse(&text) {
            prop_assert!(!refusal.findings.is_empty());
            let _ = refusal.to_string();
        }
    }

    #[test]
    fn a_damaged_session_is_read_or_refused(session in session(), at in any::<prop::sample::Index>(), with in "[a-z:\\-\\[{\"'| \n\t$]{0,3}", cut in 0..20_usize) {
        let text = session.to_yaml();
        let chars: Vec<char> = text.chars().collect();
        let at = at.index(chars.len());
        let end = (at + cut).min(chars.len());
        let damaged: String = chars[..at].iter().copied().chain(with.chars()).chain(chars[end..].iter().copied()).collect();
        if let Err(refusal) = parse(&damaged) {
            prop_assert!(!refusal.findings.is_empty());
        }
    }
}

#[test]
fn the_order_of_keys_and_lists_of_sets_is_irrelevant() {
    let one = "version: \"0.3.12\"\nname: x\nsecrets: [{name: p, kind: ascii}, {kind: binary, name: q, size: 20}]\nsecurity: {attestation: {tolerate: [debug-mode, outdated-tcb]}}\n";
    let two = "security: {attestation: {tolerate: [outdated-tcb, debug-mode], mode: hardware}}\nsecrets: [{name: q, kind: binary}, {size: 20, kind: ascii, name: p}]\nname: x\nversion: 0.3.12\n";
    assert_eq!(
        parse(one).unwrap().session.hash(),
        parse(two).unwrap().session.hash()
    );
    let other = one.replace("size: 20", "size: 21");
    assert_ne!(
        parse(one).unwrap().session.hash(),
        parse(&other).unwrap().session.hash()
    );
}

#[test]
fn nothing_of_a_session_shows_a_secret_when_printed() {
    let marker = "PLANTED-MARKER";
    let text = format!(
        "version: \"0.3\"\nname: x\nsecrets: [{{name: p, kind: ascii, value: {marker}}}]\nimages: [{{name: i, injection_files: [{{path: /a, content: {marker}}}]}}]\nservices: [{{name: s, command: [a, {marker}], environment: {{A: {marker}}}, attestation: {{mrenclave: [{}]}}}}]\n",
        "0".repeat(64)
    );
    let parsed = parse(&text).unwrap();
    assert!(!format!("{parsed:?}").contains(marker));
    assert!(parsed.session.to_yaml().contains(marker));
    assert_eq!(BTreeSet::from([1]).len(), parsed.session.secrets.len());
}
