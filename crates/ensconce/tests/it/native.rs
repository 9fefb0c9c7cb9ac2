// SPDX-License-Identifier: Apache-2.0
//! Native images, made without the crates under test.

use std::fs;
use std::io::Write as _;
use std::path::Path;

use oci::digest::Digest;
use serde_json::{Value, json};

use crate::tool::{Desk, compile};

/// Stands for what must not be readable in a result.
pub(crate) const MARKER: &str = "a-secret-that-must-stay-inside";

/// One layer in the making.
pub(crate) struct Layer(tar::Builder<Vec<u8>>);

impl Layer {
    pub(crate) fn new() -> Self {
        Self(tar::Builder::new(Vec::new()))
    }

    fn header(kind: tar::EntryType, mode: u32) -> tar::Header {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1_700_000_000);
        header.set_size(0);
        header
    }

    pub(crate) fn file(mut self, path: &str, mode: u32, content: impl AsRef<[u8]>) -> Self {
        let mut header = Self::header(tar::EntryType::Regular, mode);
        let content = content.as_ref();
        header.set_size(content.len() as u64);
        self.0
            .append_data(&mut header, path, content)
            .expect("memory");
        self
    }

    pub(crate) fn dir(mut self, path: &str) -> Self {
        let mut header = Self::header(tar::EntryType::Directory, 0o755);
        self.0
            .append_data(&mut header, path, &[][..])
            .expect("memory");
        self
    }

    pub(crate) fn link(mut self, path: &str, target: &str, is_hard: bool) -> Self {
        let kind = if is_hard {
            tar::EntryType::Link
        } else {
            tar::EntryType::Symlink
        };
        let mut header = Self::header(kind, 0o777);
        self.0
            .append_link(&mut header, path, target)
            .expect("memory");
        self
    }

    fn finish(self) -> Vec<u8> {
        self.0.into_inner().expect("memory")
    }
}

/// A program with its loader and library from this machine, and a script.
pub(crate) fn base(desk: &Desk) -> Layer {
    let program = desk.path("hello");
    compile(
        &["-O1"],
        "#include <stdio.h>\nint main(void) { return puts(\"hello\"); }",
        &program,
    );
    let read = |path: &str| fs::read(path).expect("gcc's library");
    Layer::new()
        .dir("usr/bin")
        .file("usr/bin/hello", 0o755, fs::read(&program).expect("program"))
        .link("usr/bin/hi", "hello", false)
        .file("usr/bin/tool", 0o755, "#!/usr/bin/env hello\nnothing\n")
        .file("usr/bin/note", 0o644, "not a program")
        .file(
            "lib64/ld-linux-x86-64.so.2",
            0o755,
            read("/lib64/ld-linux-x86-64.so.2"),
        )
        .file(
            "lib/x86_64-linux-gnu/libc.so.6",
            0o755,
            read("/lib/x86_64-linux-gnu/libc.so.6"),
        )
        .file("etc/passwd", 0o644, "root:x:0:0::/root:/bin/sh\n")
        .file("srv/public", 0o644, "everybody may read this")
}

/// Application files above the base: one secret, one that replaces another.
pub(crate) fn app() -> Layer {
    Layer::new()
        .dir("app")
        .file("app/secret", 0o600, MARKER)
        .file("app/large", 0o644, format!("{MARKER}\n").repeat(10_000))
        .file("app/empty", 0o644, "")
        .link("app/again", "app/secret", true)
        .link("app/soft", "/etc/passwd", false)
        .file("app/deep/er/file", 0o644, format!("deep {MARKER}"))
}

/// `ENTRYPOINT`, `CMD` and so on of the usual native image.
pub(crate) fn config() -> Value {
    json!({
        "Entrypoint": ["hello"], "Cmd": ["--from", "native"],
        "Env": ["PATH=/usr/bin", format!("TOKEN={MARKER}")],
        "WorkingDir": "/app", "User": "1000", "ExposedPorts": {"8443/tcp": {}},
        "Labels": {"note": MARKER}, "StopSignal": "SIGINT",
        "Healthcheck": {"Test": ["CMD", "true"]},
    })
}

/// Writes `oci:native:app`.
pub(crate) fn write(desk: &Desk, architecture: &str, config: &Value, layers: Vec<Layer>) {
    let dir = desk.path("native");
    fs::create_dir_all(dir.join("blobs/sha256")).expect("mkdir");
    let mut descriptors = Vec::new();
    let mut diff_ids = Vec::new();
    for layer in layers {
        let plain = layer.finish();
        diff_ids.push(Digest::of(&plain));
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&plain).expect("memory");
        let stored = gzip.finish().expect("memory");
        descriptors.push(blob(
            &dir,
            "application/vnd.oci.image.layer.v1.tar+gzip",
            &stored,
        ));
    }
    let config = json!({
        "architecture": architecture, "os": "linux", "config": config,
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
        "history": [{"created_by": format!("RUN echo {MARKER}")}],
    });
    let config = blob(
        &dir,
        "application/vnd.oci.image.config.v1+json",
        config.to_string().as_bytes(),
    );
    let manifest = json!({"schemaVersion": 2, "config": config, "layers": descriptors});
    let mut manifest = blob(
        &dir,
        "application/vnd.oci.image.manifest.v1+json",
        manifest.to_string().as_bytes(),
    );
    manifest["annotations"] = json!({"org.opencontainers.image.ref.name": "app"});
    let index = json!({"schemaVersion": 2, "manifests": [manifest]});
    fs::write(dir.join("index.json"), index.to_string()).expect("index");
    fs::write(dir.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).expect("marker");
}

fn blob(dir: &Path, media_type: &str, bytes: &[u8]) -> Value {
    let digest = Digest::of(bytes);
    fs::write(dir.join("blobs/sha256").join(digest.to_hex()), bytes).expect("blob");
    json!({"mediaType": media_type, "digest": digest, "size": bytes.len()})
}

/// A desk with the usual native image.
pub(crate) fn desk() -> Desk {
    let desk = Desk::new();
    let layers = vec![base(&desk), app()];
    write(&desk, "amd64", &config(), layers);
    desk
}
