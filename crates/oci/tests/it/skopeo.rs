// SPDX-License-Identifier: Apache-2.0
//! Interoperation with skopeo, in both directions.

use std::process::Command;

use oci::compression::Level;
use oci::layer::entry::Metadata;
use oci::layer::write::{LayerWriter, NewEntry};
use oci::limits::Limits;
use oci::output::NewImage;
use oci::root::RootView;

use crate::fixture::*;

fn skopeo(arguments: &[&str]) {
    let output = Command::new("skopeo")
        .arg("--insecure-policy")
        .args(arguments)
        .output()
        .expect("skopeo runs");
    assert!(
        output.status.success(),
        "skopeo {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn skopeo_reads_what_we_write_and_we_read_what_skopeo_writes() {
    if !has_tool("skopeo") {
        return;
    }
    let dir = temp();
    let path = |name: &str| dir.path().join(name).display().to_string();
    let native = layout_image(&[(Form::Gzip, Tar::new().file("a", "native").end())]);
    let view = RootView::open(&native, &Limits::default(), dir.path()).expect("view");
    let mut layers = vec![view.layers()[0].blob().clone()];
    let long = "deep/".repeat(40) + "file";
    for (number, level) in [Level::Gzip(6), Level::Zstd(3), Level::None]
        .into_iter()
        .enumerate()
    {
        let mut writer = LayerWriter::new(dir.path(), level).expect("writer");
        let text = format!("new {number}");
        let file = NewEntry::File {
            size: text.len() as u64,
        };
        let metadata = Metadata::of_root(0o644);
        let name = at(format!("{number}/{long}"));
        writer
            .append(&name, &file, &metadata, text.as_bytes())
            .expect("append");
        layers.push(writer.finish().expect("finish"));
    }
    let new = NewImage {
        config: native.config().carry_over(),
        layers,
    };
    let ours = format!("oci:{}:ours", path("ours"));
    new.stage(&reference(&ours))
        .expect("stage")
        .commit()
        .expect("commit");
    let our_archive = format!("docker-archive:{}:made/by:us", path("ours.tar"));
    new.stage(&reference(&our_archive))
        .expect("stage")
        .commit()
        .expect("commit");

    let their_layout = format!("oci:{}:theirs", path("theirs"));
    let their_archive = format!("docker-archive:{}:made/by:them", path("theirs.tar"));
    let again = format!("oci:{}:again", path("again"));
    skopeo(&["copy", &ours, &their_layout]);
    skopeo(&["copy", &our_archive, &again]);
    skopeo(&["copy", &our_archive, &their_archive]);
    for source in [&their_layout, &their_archive, &again] {
        let image = open(source);
        let view = RootView::open(&image, &Limits::default(), dir.path()).expect("view");
        assert_eq!(content(&view, "/a"), "native", "{source}");
        for number in 0..3 {
            let name = format!("/{number}/{long}");
            assert_eq!(content(&view, &name), format!("new {number}"), "{source}");
        }
        assert_eq!(image.config().user, "7");
    }
}
