// SPDX-License-Identifier: Apache-2.0
//! The normalised text of a session: defaults spelled out, older forms replaced, names sorted.
//! Reading it again gives the same session. It holds explicit secrets, so it is wiped on drop.

use zeroize::Zeroizing;

use crate::access::{Operation, Rule};
use crate::attestation::{Advisories, Svn, Variant};
use crate::model::{Argument, FspfKey, Image, Secret, SecretKind, Service, Session, Variable};

/// A growing document with an indentation.
struct Writer {
    out: Zeroizing<String>,
    depth: usize,
    /// The next line starts a list element.
    dash: bool,
}

impl Writer {
    fn line(&mut self, text: &str) {
        let indent = if self.dash {
            self.depth - 1
        } else {
            self.depth
        };
        for _ in 0..indent {
            self.out.push_str("  ");
        }
        if self.dash {
            self.out.push_str("- ");
            self.dash = false;
        }
        self.out.push_str(text);
        self.out.push('\n');
    }

    fn field(&mut self, key: &str, value: &str) {
        let text = Zeroizing::new(format!("{key}: {}", &*quoted(value)));
        self.line(&text);
    }

    fn plain(&mut self, key: &str, value: impl std::fmt::Display) {
        self.line(&format!("{key}: {value}"));
    }

    fn indented(&mut self, head: &str, body: impl FnOnce(&mut Self)) {
        self.line(head);
        self.depth += 1;
        body(self);
        self.depth -= 1;
    }

    /// One element of a list that is a mapping.
    fn element(&mut self, body: impl FnOnce(&mut Self)) {
        self.depth += 1;
        self.dash = true;
        body(self);
        self.depth -= 1;
    }

    /// One element of a list that is a text.
    fn item(&mut self, value: &str) {
        self.depth += 1;
        self.dash = true;
        let text = quoted(value);
        self.line(&text);
        self.depth -= 1;
    }

    /// A text of several lines as a literal block where that loses nothing, else quoted.
    fn block(&mut self, key: &str, value: &str) {
        let plain = |c: char| matches!(c, ' '..='~' | '\n');
        let body = value.strip_suffix('\n');
        let fits = body.is_some_and(|body| {
            !body.is_empty() && !body.ends_with('\n') && !body.starts_with([' ', '\n'])
        });
        let Some(body) = body.filter(|_| fits && value.chars().all(plain)) else {
            return self.field(key, value);
        };
        self.indented(&format!("{key}: |"), |w| {
            for line in body.split('\n') {
                if line.is_empty() {
                    w.out.push('\n');
                } else {
                    w.line(line);
                }
            }
        });
    }
}

/// A double-quoted YAML scalar (YAML 1.2 §7.3.1); any text is possible.
pub fn quoted(text: &str) -> Zeroizing<String> {
    let mut out = Zeroizing::new(String::with_capacity(text.len() + 2));
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            ' '..='~' => out.push(c),
            c => {
                let code = u32::from(c);
                out.push_str(&format!("\\U{code:08x}"));
            }
        }
    }
    out.push('"');
    out
}

impl Session {
    /// The normalised YAML of the session, explicit secret values included.
    pub fn to_yaml(&self) -> Zeroizing<String> {
        let mut w = Writer {
            out: Zeroizing::new(String::new()),
            depth: 0,
            dash: false,
        };
        let version = match self.patch {
            0 => "0.3".to_owned(),
            patch => format!("0.3.{patch}"),
        };
        w.field("version", &version);
        w.field("name", self.name.as_str());
        if let Some(hash) = &self.predecessor {
            w.field("predecessor", &hex::encode(hash));
        }
        if let Some(salt) = &self.salt {
            w.field("salt", &hex::encode(salt));
        }
        if let Some(creator) = &self.creator {
            w.block("creator", creator.certificate_pem());
        }
        if !self.services.is_empty() {
            w.line("services:");
            for (name, one) in &self.services {
                w.element(|w| service(w, name.as_str(), one));
            }
        }
        if !self.secrets.is_empty() {
            w.line("secrets:");
            for (name, one) in &self.secrets {
                w.element(|w| secret(w, name.as_str(), one));
            }
        }
        if !self.images.is_empty() {
            w.line("images:");
            for (name, one) in &self.images {
                w.element(|w| image(w, name.as_str(), one));
            }
        }
        w.indented("access_policy:", |w| {
            for operation in Operation::ALL {
                rule(w, operation.as_str(), self.access.rule(operation));
            }
        });
        security(&mut w, self);
        w.out
    }
}

fn service(w: &mut Writer, name: &str, service: &Service) {
    w.field("name", name);
    if let Some(command) = &service.command {
        w.line("command:");
        for argument in command {
            match argument {
                Argument::Text(text) => w.item(&text.to_source()),
                Argument::Host(n) => w.item(&format!("@@{n}")),
            }
        }
    }
    if !service.environment.is_empty() {
        w.indented("environment:", |w| {
            for (name, value) in &service.environment {
                match value {
                    Variable::Text(text) => w.field(&quoted(name), &text.to_source()),
                    Variable::Host => w.field(&quoted(&format!(r"\@\@{name}")), ""),
                }
            }
        });
    }
    if let Some(pwd) = &service.pwd {
        w.field("pwd", pwd);
    }
    if let Some(fspf) = &service.fspf {
        w.field("fspf_path", &fspf.path);
        match &fspf.key {
            FspfKey::Literal(key) => w.field("fspf_key", &Zeroizing::new(hex::encode(&key[..]))),
            FspfKey::Secret(name) => w.field("fspf_key", &format!("$$SCONE::{name}$$")),
        }
        if let Some(tag) = &fspf.tag {
            w.field("fspf_tag", &hex::encode(tag));
        }
        w.field("fspf_update_policy", fspf.update_policy.as_str());
    }
    if let Some(image) = &service.image {
        w.field("image_name", image.as_str());
    }
    if !service.attestation.is_empty() {
        w.line("attestation:");
        for one in &service.attestation {
            w.element(|w| variant(w, one));
        }
    }
}

fn variant(w: &mut Writer, variant: &Variant) {
    if !variant.mrenclaves.is_empty() {
        w.line("mrenclave:");
        for mrenclave in &variant.mrenclaves {
            w.item(&hex::encode(mrenclave));
        }
    }
    let Some(signer) = &variant.signer else {
        return;
    };
    w.indented("signer:", |w| {
        w.field("mrsigner", &hex::encode(signer.mrsigner));
        w.plain("isvprodid", signer.isvprodid);
        match signer.isvsvn {
            Svn::Exact(svn) => w.plain("isvsvn", svn),
            Svn::Range { min, max } => {
                if let Some(min) = min {
                    w.plain("isvsvn_min", min);
                }
                if let Some(max) = max {
                    w.plain("isvsvn_max", max);
                }
            }
        }
    });
}

fn secret(w: &mut Writer, name: &str, secret: &Secret) {
    w.field("name", name);
    w.field("kind", secret.kind.as_str());
    let Some(value) = &secret.value else {
        return w.plain("size", secret.kind.size());
    };
    match secret.kind {
        // The parser admits nothing but UTF-8 here.
        SecretKind::Ascii { .. } => {
            let text = Zeroizing::new(String::from_utf8_lossy(value).into_owned());
            w.field("value", &text);
        }
        SecretKind::Binary { .. } => w.field("value", &Zeroizing::new(hex::encode(&value[..]))),
    }
}

fn image(w: &mut Writer, name: &str, image: &Image) {
    w.field("name", name);
    if image.injection_files.is_empty() {
        return;
    }
    w.line("injection_files:");
    for (path, file) in &image.injection_files {
        w.element(|w| {
            w.field("path", path);
            if let Some(content) = &file.content {
                w.block("content", &content.to_source());
            }
            w.field("permission", &format!("0o{:03o}", file.permission));
        });
    }
}

fn rule(w: &mut Writer, key: &str, rule: &Rule) {
    match rule {
        Rule::Any => w.field(key, "ANY"),
        Rule::None => w.field(key, "NONE"),
        Rule::Of(entries) => {
            w.line(&format!("{key}:"));
            for entry in entries {
                w.item(&entry.to_string());
            }
        }
    }
}

fn security(w: &mut Writer, session: &Session) {
    let security = &session.security;
    w.indented("security:", |w| {
        w.indented("attestation:", |w| {
            w.field("mode", security.mode.as_str());
            if security.tolerate.is_empty() {
                w.line("tolerate: []");
            } else {
                w.line("tolerate:");
                for tolerance in &security.tolerate {
                    w.item(&tolerance.to_string());
                }
            }
            match &security.ignore_advisories {
                Advisories::All => w.field("ignore_advisories", "*"),
                Advisories::Listed(list) if list.is_empty() => w.line("ignore_advisories: []"),
                Advisories::Listed(list) => {
                    w.line("ignore_advisories:");
                    for advisory in list {
                        w.item(advisory);
                    }
                }
            }
        });
    });
}
