// SPDX-License-Identifier: Apache-2.0
//! Values that the CAS generates for secrets, and which of them survive an update.

use std::collections::BTreeMap;

use aws_lc_rs::error::Unspecified;
use aws_lc_rs::rand;
use policy::Name;
use policy::model::{SecretKind, Session};
use zeroize::Zeroizing;

use super::Record;

/// First printable ASCII character without blank.
const FIRST: u8 = b'!';
/// Number of printable ASCII characters from `!` to `~`.
const PRINTABLE: u8 = b'~' - FIRST + 1;

/// The values of all generated secrets of `session`: kept where the old version generated a secret of
/// the same name, kind and size, fresh otherwise.
pub(super) fn for_session(
    session: &Session,
    old: Option<(&Record, &Session)>,
) -> Result<BTreeMap<Name, Zeroizing<Vec<u8>>>, Unspecified> {
    let mut values = BTreeMap::new();
    for (name, secret) in &session.secrets {
        if secret.value.is_some() {
            continue;
        }
        let kept = old.and_then(|(record, old)| {
            let before = old.secrets.get(name)?;
            secret.keeps_value_of(before).then_some(())?;
            record.generated(name).cloned()
        });
        let value = match kept {
            Some(value) => value,
            None => generate(secret.kind)?,
        };
        values.insert(name.clone(), value);
    }
    Ok(values)
}

fn generate(kind: SecretKind) -> Result<Zeroizing<Vec<u8>>, Unspecified> {
    let size = usize::try_from(kind.size()).unwrap_or(0);
    if let SecretKind::Ascii { .. } = kind {
        return printable(size);
    }
    let mut value = Zeroizing::new(vec![0; size]);
    rand::fill(&mut value)?;
    Ok(value)
}

/// Uniformly distributed printable characters: bytes beyond the last full multiple are drawn again.
fn printable(size: usize) -> Result<Zeroizing<Vec<u8>>, Unspecified> {
    let usable = u8::MAX - u8::MAX % PRINTABLE;
    let mut value = Zeroizing::new(Vec::with_capacity(size));
    let mut drawn = Zeroizing::new([0; 64]);
    while value.len() < size {
        rand::fill(&mut *drawn)?;
        let usable = drawn.iter().filter(|byte| **byte < usable);
        let characters = usable.map(|byte| FIRST + byte % PRINTABLE);
        let missing = size - value.len();
        value.extend(characters.take(missing));
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(secrets: &str) -> Session {
        let text = format!("version: \"0.3\"\nname: s\nsecrets: {secrets}\n");
        policy::parse(&text).unwrap().session
    }

    fn name(text: &str) -> Name {
        Name::parse(text).unwrap()
    }

    #[test]
    fn values_have_their_kind_and_size_and_differ() {
        let session = session(
            "[{name: a, kind: ascii, size: 300}, {name: b, kind: binary, size: 32}, {name: c, kind: ascii, value: x}]",
        );
        let one = for_session(&session, None).unwrap();
        let two = for_session(&session, None).unwrap();
        assert_eq!(one.len(), 2);
        assert_eq!(one[&name("a")].len(), 300);
        assert!(one[&name("a")].iter().all(u8::is_ascii_graphic));
        assert_eq!(one[&name("b")].len(), 32);
        assert_ne!(one[&name("a")], two[&name("a")]);
        assert_ne!(one[&name("b")], two[&name("b")]);
    }

    #[test]
    fn a_value_survives_an_update_unless_kind_size_or_name_change() {
        let before = session(
            "[{name: a, kind: ascii}, {name: b, kind: binary}, {name: c, kind: ascii, value: x}, {name: d, kind: ascii}]",
        );
        let record = Record::new([0; 32], for_session(&before, None).unwrap());
        let after = session(
            "[{name: a, kind: ascii}, {name: b, kind: binary, size: 21}, {name: c, kind: ascii, size: 1}, {name: e, kind: ascii}]",
        );
        let values = for_session(&after, Some((&record, &before))).unwrap();
        assert_eq!(Some(&values[&name("a")]), record.generated(&name("a")));
        assert_ne!(
            values[&name("b")].len(),
            record.generated(&name("b")).unwrap().len()
        );
        assert!(values.contains_key(&name("c")));
        assert!(!values.contains_key(&name("d")));
        assert!(values.contains_key(&name("e")));
    }
}
