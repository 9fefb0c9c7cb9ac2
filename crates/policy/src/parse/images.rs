// SPDX-License-Identifier: Apache-2.0
//! The `images` section.

use std::collections::BTreeMap;

use super::references::{self, Target};
use super::{Secrets, named};
use crate::fields::Reader;
use crate::model::{DEFAULT_PERMISSION, Image, InjectionFile};
use crate::name::Name;
use crate::problem::Problem;
use crate::yaml::{Node, Value};

pub(super) fn read(
    reader: &mut Reader<'_>,
    node: &Node,
    secrets: &Secrets,
) -> BTreeMap<Name, Image> {
    let later = ["volumes", "provide_secrets"];
    let each =
        |reader: &mut Reader<'_>, fields: &mut crate::fields::Fields<'_>, _: Option<&Name>| {
            let mut image = Image::default();
            if let Some(node) = fields.take("injection_files") {
                for item in reader.list(node).unwrap_or_default() {
                    let Some((path, file)) = injection_file(reader, item, secrets) else {
                        continue;
                    };
                    if image.injection_files.contains_key(&path) {
                        let (what, name) = ("injection file", crate::fields::shortened(&path));
                        reader.error(item.span, Problem::DuplicateName { what, name });
                    }
                    image.injection_files.insert(path, file);
                }
            }
            Some(image)
        };
    named(reader, node, "image", each, &later)
}

fn injection_file(
    reader: &mut Reader<'_>,
    node: &Node,
    secrets: &Secrets,
) -> Option<(String, InjectionFile)> {
    let what = "The path of an injection file";
    if matches!(node.value, Value::Scalar { .. }) {
        let path = reader.path(node, what)?;
        let file = InjectionFile {
            content: None,
            permission: DEFAULT_PERMISSION,
        };
        return Some((path, file));
    }
    let mut fields = reader.fields(node, "an injection file")?;
    let path = fields
        .need(reader, "path", "")
        .and_then(|node| reader.path(node, what));
    let content = match fields.take("content") {
        None => Some(None),
        Some(node) => reader.text(node).and_then(|text| {
            references::template(reader, node.span, &text, secrets, Target::File).map(Some)
        }),
    };
    let permission = match fields.take("permission") {
        None => Some(DEFAULT_PERMISSION),
        Some(node) => permission(reader, node),
    };
    fields.finish(reader, &[]);
    let file = InjectionFile {
        content: content?,
        permission: permission?,
    };
    Some((path?, file))
}

/// `0oNNN`: with the prefix only, since a bare number means different things to different readers.
fn permission(reader: &mut Reader<'_>, node: &Node) -> Option<u32> {
    let text = reader.text(node)?;
    let mode = text
        .strip_prefix("0o")
        .filter(|digits| digits.bytes().all(|b| b.is_ascii_digit()))
        .and_then(|digits| u32::from_str_radix(digits, 8).ok());
    match mode {
        Some(mode) if mode <= 0o777 => Some(mode),
        _ => {
            let problem = Problem::BadChoice {
                what: "permission",
                value: crate::fields::shortened(&text),
                choices: "0o000 to 0o777, such as 0o400 for read-only by the owner",
            };
            reader.refuse(node.span, problem)
        }
    }
}
