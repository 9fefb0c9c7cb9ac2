// SPDX-License-Identifier: Apache-2.0
//! Which entries of which layers hold what lies at given paths, hidden
//! content of lower layers included.

use std::collections::{BTreeSet, HashSet};

use super::resolve::walk;
use super::{FileData, NodeKind, RootView};
use crate::compression::Level;
use crate::layer::LayerBlob;
use crate::layer::entry::EntryKind;
use crate::layer::rewrite::{Action, rewrite};
use crate::layer::write::WriteError;
use crate::path::RootPath;

/// The entries that must not reach a result in clear.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selection {
    entries: Vec<BTreeSet<usize>>,
    /// Visible paths outside the prefixes whose content is the same file as
    /// something inside, by hard links: protecting one and not the other
    /// would leave the content in clear. Ascending.
    pub shared_outside: Vec<RootPath>,
}

impl Selection {
    /// Whether a layer holds none of the selected content, so that it may be
    /// used again as it is.
    #[must_use]
    pub fn is_clean(&self, layer: usize) -> bool {
        self.entries.get(layer).is_some_and(BTreeSet::is_empty)
    }

    /// Whether entry number `entry` of a layer is selected.
    #[must_use]
    pub fn contains(&self, layer: usize, entry: usize) -> bool {
        self.entries
            .get(layer)
            .is_some_and(|entries| entries.contains(&entry))
    }
}

impl RootView {
    /// Selects every entry of every layer at or below `prefixes`: visible,
    /// overwritten or deleted by an upper layer, reached through links, or a
    /// second name of the same file.
    ///
    /// Entries for a prefix itself that are only a directory are not selected:
    /// they hold nothing.
    #[must_use]
    pub fn select(&self, prefixes: &[RootPath]) -> Selection {
        let mut prefixes = prefixes.to_vec();
        let led_to: Vec<RootPath> = prefixes
            .iter()
            .filter_map(|path| walk(&self.nodes, path, true).ok())
            .map(|walked| walked.path)
            .collect();
        prefixes.extend(led_to);
        let is_inside = |path: &RootPath| prefixes.iter().any(|prefix| path.is_within(prefix));

        let mut data: HashSet<FileData> = HashSet::new();
        for record in self.records.iter().flatten() {
            if is_inside(&record.entry.path) || is_inside(&record.effective) {
                data.extend(record.data);
            }
        }
        let entries = self.records.iter().map(|records| {
            let selected = records.iter().enumerate().filter(|(_, record)| {
                let is_bare_directory = record.entry.kind == EntryKind::Directory
                    && prefixes.contains(&record.effective);
                let is_named = is_inside(&record.entry.path) || is_inside(&record.effective);
                is_named && !is_bare_directory
                    || record.data.is_some_and(|file| data.contains(&file))
            });
            selected.map(|(number, _)| number).collect()
        });
        let shared_outside = self.iter().filter(|(path, node)| {
            matches!(&node.kind, NodeKind::File(file) if data.contains(file)) && !is_inside(path)
        });
        Selection {
            entries: entries.collect(),
            shared_outside: shared_outside.map(|(path, _)| path.clone()).collect(),
        }
    }

    /// Copies a layer without the selected entries.
    ///
    /// # Errors
    /// [`WriteError`], also for a layer that the view does not have.
    pub fn rewrite_without(
        &self,
        selection: &Selection,
        layer: usize,
        level: Level,
        temp: &std::path::Path,
    ) -> Result<LayerBlob, WriteError> {
        let (Some(content), Some(records)) = (self.layers.get(layer), self.records.get(layer))
        else {
            return Err(std::io::Error::from(std::io::ErrorKind::NotFound).into());
        };
        let entries: Vec<_> = records.iter().map(|record| record.entry.clone()).collect();
        rewrite(content, &entries, level, temp, |number, _| {
            if selection.contains(layer, number) {
                Action::Drop
            } else {
                Action::Keep
            }
        })
    }
}
