// SPDX-License-Identifier: Apache-2.0
//! Layers that are remembered instead of read.

use std::fs;
use std::sync::Mutex;

use oci::layer::recall::{Contents, LayerKey, Memory, Recalled};
use oci::limits::Limits;
use oci::output::NewImage;
use oci::root::RootView;
use oci::slice::FileSlice;

use crate::fixture::*;

/// Remembers one view, and of the contents only the largest.
#[derive(Debug)]
struct Seen {
    view: RootView,
    asked: Mutex<Vec<LayerKey>>,
}

#[derive(Debug)]
struct Kept(u64, FileSlice);

impl Contents for Kept {
    fn at(&self, offset: u64, size: u64) -> Option<FileSlice> {
        (offset == self.0 && size == self.1.len()).then(|| self.1.clone())
    }
}

impl Memory for Seen {
    fn recall(&self, key: &LayerKey) -> Option<Recalled> {
        self.asked.lock().expect("lock").push(*key);
        let layers = self.view.layers();
        let number = layers.iter().position(|layer| layer.key() == *key)?;
        let entries: Vec<_> = self.view.entries(number).cloned().collect();
        // Not what the layer holds, to tell where content came from.
        let kept = FileSlice::spool(&std::env::temp_dir(), &b"remembered"[..]).expect("spool");
        let offset = entries.iter().find_map(|entry| match entry.kind {
            oci::layer::entry::EntryKind::File { offset, size: 10 } => Some(offset),
            _ => None,
        });
        Some(Recalled {
            size: layers[number].size(),
            entries,
            contents: Box::new(Kept(offset.unwrap_or(0), kept)),
        })
    }
}

fn layers() -> Vec<(Form, Vec<u8>)> {
    let base = Tar::new()
        .dir("etc")
        .file("etc/kept", "0123456789")
        .file("etc/other", "not kept");
    let upper = Tar::new().file("etc/.wh.gone", "").file("etc/new", "new");
    vec![(Form::Gzip, base.end()), (Form::Plain, upper.end())]
}

fn seen(dir: &std::path::Path) -> (oci::image::Image, Seen) {
    write_layout(dir, &layers());
    let image = open(&format!("oci:{}:native", dir.display()));
    let view = RootView::open(&image, &Limits::default(), dir).expect("first reading");
    let asked = Mutex::default();
    (image, Seen { view, asked })
}

#[test]
fn remembered_layers_merge_alike_and_are_read_when_needed() {
    let dir = temp();
    let (image, memory) = seen(dir.path());
    let again = RootView::open_with(&image, &Limits::default(), dir.path(), &memory)
        .expect("second reading");
    assert_eq!(memory.asked.lock().expect("lock").len(), 2);
    assert!(again.iter().eq(memory.view.iter()));
    for (first, second) in memory.view.layers().iter().zip(again.layers()) {
        assert_eq!(first.key(), second.key());
        assert_eq!(first.size(), second.size());
        assert!(first.recalled_entries().is_none() && second.recalled_entries().is_some());
    }
    assert_eq!(content(&again, "/etc/kept"), "remembered");
    assert_eq!(content(&again, "/etc/other"), "not kept");
    assert_eq!(content(&again, "/etc/new"), "new");
    let whole = |view: &RootView| {
        let content = view.layers()[0].content().expect("content");
        content.read_all(1 << 20).expect("read")
    };
    assert_eq!(whole(&again), whole(&memory.view));
    // What is remembered counts against the limits, too.
    let mut limits = Limits::default();
    limits.entries = 3;
    assert!(RootView::open_with(&image, &limits, dir.path(), &memory).is_err());
}

#[test]
fn a_remembered_layer_that_was_damaged_since_is_noticed_when_used() {
    let dir = temp();
    let (_, memory) = seen(dir.path());
    let key = memory.view.layers()[0].key();
    let blob = dir.path().join("blobs/sha256").join(key.digest.to_hex());
    let mut bytes = fs::read(&blob).expect("blob");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&blob, bytes).expect("write");
    let image = open(&format!("oci:{}:native", dir.path().display()));
    let view = RootView::open_with(&image, &Limits::default(), dir.path(), &memory)
        .expect("nothing was read yet");
    assert!(view.layers()[0].content().is_err());
    let config = image.config().carry_over();
    let layers = view.layers().iter().map(|layer| layer.blob().clone());
    let result = NewImage {
        config,
        layers: layers.collect(),
    };
    for target in ["oci:{}/out:x", "docker-archive:{}/out.tar:name:x"] {
        let target = target.replace("{}", &dir.path().display().to_string());
        assert!(result.stage(&reference(&target)).is_err(), "{target}");
    }
    assert!(!dir.path().join("out").exists() && !dir.path().join("out.tar").exists());
}
