// SPDX-License-Identifier: Apache-2.0

use shieldfs::backing::InPlace;
use shieldfs::entry::Meta;
use shieldfs::key::FspfTag;
use shieldfs::read::Fspf;

use crate::sample::{key, meta, sealer};

fn tree(files: u32) -> (Vec<u8>, FspfTag, u8) {
    let mut sealer = sealer();
    for dir in 0..files.div_ceil(1000) {
        let path = format!("/d{dir}");
        sealer
            .add_dir(path.as_bytes(), Meta::with_mode(0o755))
            .unwrap();
    }
    for file in 0..files {
        let path = format!("/d{}/file-{file}", file / 1000);
        let content = file.to_le_bytes();
        sealer
            .add_file(path.as_bytes(), meta(), &content[..], &mut InPlace)
            .unwrap();
    }
    let sealed = sealer.finish().unwrap();
    (sealed.bytes, sealed.tag, sealed.stats.depth)
}

#[test]
fn start_up_and_lookups_do_not_grow_with_the_number_of_files() {
    let (few, few_tag, _) = tree(100);
    let (many, many_tag, depth) = tree(100_000);
    let few = Fspf::open(&few[..], &key(), few_tag).unwrap();
    let mut many = Fspf::open(&many[..], &key(), many_tag).unwrap();
    assert_eq!((few.pages_read(), many.pages_read()), (1, 1));
    assert_eq!(many.entry_count(), 100_101);
    assert!(depth <= 5, "{depth} levels");

    // One root-to-leaf path for the first, at most one for each later one.
    assert!(many.lookup(b"/d57/file-57123").unwrap().is_some());
    assert_eq!(many.pages_read(), u64::from(depth));
    for file in (0..100_000_u32).step_by(997) {
        let before = many.pages_read();
        let path = format!("/d{}/file-{file}", file / 1000);
        let entry = many.lookup(path.as_bytes()).unwrap().unwrap();
        assert_eq!(entry.file().unwrap().size(), 4);
        assert!(many.pages_read() - before < u64::from(depth));
        assert_eq!(many.lookup(format!("{path}x").as_bytes()).unwrap(), None);
    }

    let mut count = 0;
    many.read_dir(b"/d99", 0, |_| {
        count += 1;
        true
    })
    .unwrap();
    assert_eq!(count, 1000);
}

#[test]
fn a_tiny_cache_changes_cost_but_not_results() {
    let (bytes, tag, _) = tree(3000);
    let mut fspf = Fspf::open_with_cache(&bytes[..], &key(), tag, 0).unwrap();
    let mut names = Vec::new();
    fspf.read_dir(b"/d2", 0, |entry| {
        names.push(entry.name.to_vec());
        true
    })
    .unwrap();
    assert_eq!(names.len(), 1000);
    let before = fspf.pages_read();
    fspf.lookup(b"/d0/file-0").unwrap();
    fspf.lookup(b"/d0/file-0").unwrap();
    assert!(fspf.pages_read() - before >= 4);
}
