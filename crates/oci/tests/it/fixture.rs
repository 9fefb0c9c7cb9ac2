// SPDX-License-Identifier: Apache-2.0
//! Archives and layouts made byte by byte, independent of the crate's own
//! writers.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use oci::digest::Digest;
use oci::image::Image;
use oci::limits::Limits;
use oci::path::RootPath;
use oci::reference::Reference;
use oci::root::{RootError, RootView};
use tar::{EntryType, Header};
use tempfile::TempDir;

pub(crate) fn temp() -> TempDir {
    tempfile::tempdir().expect("temporary directory")
}

pub(crate) fn at(path: impl AsRef<[u8]>) -> RootPath {
    RootPath::parse(path).expect("test path")
}

pub(crate) fn reference(text: &str) -> Reference {
    text.parse().expect("test reference")
}

/// An archive in the making.
#[derive(Clone, Default)]
pub(crate) struct Tar(pub(crate) Vec<u8>);

impl Tar {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Any header, with checksum, and any content.
    pub(crate) fn entry(
        mut self,
        name: impl AsRef<[u8]>,
        kind: u8,
        content: &[u8],
        change: impl FnOnce(&mut Header),
    ) -> Self {
        let mut header = Header::new_ustar();
        for (to, from) in header.as_old_mut().name.iter_mut().zip(name.as_ref()) {
            *to = *from;
        }
        header.set_entry_type(EntryType::new(kind));
        header.set_mode(0o755);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1_700_000_000);
        header.set_size(content.len() as u64);
        change(&mut header);
        header.set_cksum();
        self.0.extend_from_slice(header.as_bytes());
        self.0.extend_from_slice(content);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    pub(crate) fn file(self, name: &str, content: &str) -> Self {
        self.entry(name, b'0', content.as_bytes(), |_| {})
    }

    pub(crate) fn dir(self, name: &str) -> Self {
        self.entry(name, b'5', b"", |_| {})
    }

    fn link(self, name: &str, kind: u8, target: &str) -> Self {
        self.entry(name, kind, b"", |header| {
            let field = &mut header.as_old_mut().linkname;
            for (to, from) in field.iter_mut().zip(target.bytes()) {
                *to = from;
            }
        })
    }

    pub(crate) fn symlink(self, name: &str, target: &str) -> Self {
        self.link(name, b'2', target)
    }

    pub(crate) fn hard_link(self, name: &str, target: &str) -> Self {
        self.link(name, b'1', target)
    }

    pub(crate) fn pax(self, records: &[u8]) -> Self {
        self.entry("pax", b'x', records, |_| {})
    }

    pub(crate) fn end(mut self) -> Vec<u8> {
        self.0.extend_from_slice(&[0; 1024]);
        self.0
    }
}

/// One record of a PAX header with the length it should have.
pub(crate) fn record(key: &str, value: impl AsRef<[u8]>) -> Vec<u8> {
    let body = [b" ", key.as_bytes(), b"=", value.as_ref(), b"\n"].concat();
    let mut length = body.len();
    while length != body.len() + length.to_string().len() {
        length = body.len() + length.to_string().len();
    }
    [length.to_string().into_bytes(), body].concat()
}

#[derive(Clone, Copy)]
pub(crate) enum Form {
    Gzip,
    Plain,
    Zstd,
}

impl Form {
    pub(crate) fn pack(self, plain: &[u8]) -> Vec<u8> {
        match self {
            Self::Plain => plain.to_vec(),
            Self::Gzip => {
                let mut encoder =
                    flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
                encoder.write_all(plain).expect("memory");
                encoder.finish().expect("memory")
            }
            Self::Zstd => zstd::encode_all(plain, 1).expect("memory"),
        }
    }

    fn media_type(self) -> &'static str {
        match self {
            Self::Plain => "application/vnd.oci.image.layer.v1.tar",
            Self::Gzip => "application/vnd.docker.image.rootfs.diff.tar.gzip",
            Self::Zstd => "application/vnd.oci.image.layer.v1.tar+zstd",
        }
    }
}

/// Writes blobs and returns a descriptor.
fn blob(dir: &Path, media_type: &str, bytes: &[u8]) -> serde_json::Value {
    let digest = Digest::of(bytes);
    fs::write(dir.join("blobs/sha256").join(digest.to_hex()), bytes).expect("blob");
    serde_json::json!({
        "mediaType": media_type, "digest": digest, "size": bytes.len()
    })
}

/// Writes a layout with one tag, `native`.
pub(crate) fn write_layout(dir: &Path, layers: &[(Form, Vec<u8>)]) {
    fs::create_dir_all(dir.join("blobs/sha256")).expect("blobs");
    let stored: Vec<_> = layers
        .iter()
        .map(|(form, plain)| blob(dir, form.media_type(), &form.pack(plain)))
        .collect();
    let diff_ids: Vec<_> = layers.iter().map(|(_, plain)| Digest::of(plain)).collect();
    let config = serde_json::json!({
        "architecture": "amd64", "os": "linux",
        "config": {"Env": ["PATH=/bin"], "Cmd": ["/bin/true"], "User": "7"},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    });
    let config = blob(
        dir,
        "application/vnd.oci.image.config.v1+json",
        config.to_string().as_bytes(),
    );
    let manifest = serde_json::json!({
        "schemaVersion": 2, "config": config, "layers": stored,
    });
    let mut entry = blob(
        dir,
        "application/vnd.oci.image.manifest.v1+json",
        manifest.to_string().as_bytes(),
    );
    entry["annotations"] = serde_json::json!({"org.opencontainers.image.ref.name": "native"});
    let index = serde_json::json!({"schemaVersion": 2, "manifests": [entry]});
    fs::write(dir.join("index.json"), index.to_string()).expect("index");
    fs::write(dir.join("oci-layout"), r#"{"imageLayoutVersion": "1.0.0"}"#).expect("marker");
}

pub(crate) fn open(text: &str) -> Image {
    let temp = std::env::temp_dir();
    Image::open(&reference(text), &Limits::default(), &temp).expect("image opens")
}

pub(crate) fn layout_image(layers: &[(Form, Vec<u8>)]) -> Image {
    let dir = temp();
    write_layout(dir.path(), layers);
    // Blobs are open files by now, so the directory may go.
    open(&format!("oci:{}:native", dir.path().display()))
}

pub(crate) fn try_view(layers: &[Vec<u8>], limits: &Limits) -> Result<RootView, RootError> {
    let layers: Vec<_> = layers
        .iter()
        .map(|layer| (Form::Plain, layer.clone()))
        .collect();
    RootView::open(&layout_image(&layers), limits, &std::env::temp_dir())
}

pub(crate) fn view(layers: &[Vec<u8>]) -> RootView {
    try_view(layers, &Limits::default()).expect("layers merge")
}

pub(crate) fn content(view: &RootView, path: &str) -> String {
    let (_, node) = view.resolve(&at(path)).expect("path resolves");
    let oci::root::NodeKind::File(data) = &node.kind else {
        panic!("{path} is no file");
    };
    let bytes = view.content(data).expect("content").read_all(1 << 20);
    String::from_utf8(bytes.expect("read")).expect("text")
}

pub(crate) fn paths(view: &RootView) -> Vec<String> {
    view.iter().map(|(path, _)| path.to_string()).collect()
}

/// Whether a tool is there. Its absence is visible, and an error in CI.
pub(crate) fn has_tool(name: &str) -> bool {
    let found = Command::new(name)
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    if !found {
        assert!(
            std::env::var("CI").as_deref() != Ok("true"),
            "{name} is not installed"
        );
        eprintln!("skipped: {name} is not installed");
    }
    found
}
