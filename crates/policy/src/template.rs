// SPDX-License-Identifier: Apache-2.0
//! Template variables `$NAME` and `${NAME}`: replaced in values by the client before an upload.
//!
//! Replacement happens after the YAML is read, so that a value cannot add structure. `$$` is left
//! alone: it opens and closes secret placeholders.

use zeroize::Zeroizing;

/// A variable without a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Undefined(pub(crate) String);

/// Gives the value of a template variable.
pub trait Variables {
    /// The value of `name`, or `None` if it has none.
    fn value(&self, name: &str) -> Option<Zeroizing<String>>;
}

impl Variables for std::collections::BTreeMap<String, String> {
    fn value(&self, name: &str) -> Option<Zeroizing<String>> {
        self.get(name).map(|value| Zeroizing::new(value.clone()))
    }
}

/// Replaces every variable of `text` once; values are not searched again.
pub(crate) fn substitute(
    text: &str,
    variables: &dyn Variables,
) -> Result<Zeroizing<String>, Undefined> {
    let mut out = Zeroizing::new(String::with_capacity(text.len()));
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        out.push_str(before);
        if let Some(after) = after.strip_prefix('$') {
            out.push_str("$$");
            rest = after;
            continue;
        }
        let (name, tail) = match after.strip_prefix('{').map(|braced| braced.split_once('}')) {
            Some(Some((name, tail))) if name_length(name) == name.len() => (name, tail),
            Some(_) => ("", after),
            None => after.split_at(name_length(after)),
        };
        if name.is_empty() {
            out.push('$');
            rest = after;
            continue;
        }
        let value = variables.value(name);
        out.push_str(&value.ok_or_else(|| Undefined(name.to_owned()))?);
        rest = tail;
    }
    out.push_str(rest);
    Ok(out)
}

/// Bytes of the variable name at the start of `text`: a letter or `_`, then letters, digits, `_`.
fn name_length(text: &str) -> usize {
    let is_name = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    if text.starts_with(|c: char| c.is_ascii_digit()) {
        return 0;
    }
    text.bytes().take_while(|b| is_name(*b)).count()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn replaced(text: &str) -> Result<String, Undefined> {
        let variables = BTreeMap::from([
            ("A".to_owned(), "one".to_owned()),
            ("B_2".to_owned(), "$A".to_owned()),
        ]);
        substitute(text, &variables).map(|value| value.to_string())
    }

    #[test]
    fn replaces_names_and_leaves_placeholders() {
        for (text, expected) in [
            ("x$A.y", "xone.y"),
            ("${A}y", "oney"),
            ("$B_2", "$A"),
            ("$$SCONE::A$$", "$$SCONE::A$$"),
            ("$A$$SCONE::A$$$A", "one$$SCONE::A$$one"),
            ("5$ and $1 and ${", "5$ and $1 and ${"),
            ("${}", "${}"),
        ] {
            assert_eq!(replaced(text).as_deref(), Ok(expected), "{text}");
        }
        assert_eq!(replaced("$MISSING x"), Err(Undefined("MISSING".to_owned())));
    }

    proptest! {
        #[test]
        fn any_text_is_replaced_or_refused(text in "[${}A_b1é ]{0,20}") {
            let _ = replaced(&text);
        }
    }
}
