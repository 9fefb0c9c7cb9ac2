// SPDX-License-Identifier: Apache-2.0
//! The protected file system: authenticated tree, chunks, regions, FSPF key and tag.
//!
//! A converter gives a [`seal::Sealer`] the files of an image. It gets back what to store at the
//! files' own paths (plaintext or ciphertext, as the [`region`] of the path asks for) and one more
//! file, the FSPF, which lists every path with its metadata and the hashes of its stored chunks.
//! The kernel of an enclave opens the FSPF with a [`read::Fspf`] and trusts two values that it got
//! from its attested configuration: the [FSPF key](key::FspfKey), which opens what is secret, and
//! the [FSPF tag](key::FspfTag), which pins everything: content, names, deletions, types, regions.
//!
//! ```
//! use shieldfs::{entry::Meta, key::FspfKey, read::Fspf, region::Regions, seal::Sealer};
//!
//! // The converter: one encrypted file.
//! let key = FspfKey::from_bytes([7; 32]); // from a random number generator, of course
//! let regions = Regions::defaults().dir_encrypted(b"/app")?;
//! let mut sealer = Sealer::new(key.clone(), regions);
//! sealer.add_dir(b"/app", Meta::with_mode(0o755))?;
//! let mut stored = Vec::new();
//! sealer.add_file(b"/app/recipe", Meta::with_mode(0o600), &b"two eggs"[..], &mut stored)?;
//! let sealed = sealer.finish()?;
//! assert_eq!(stored.len(), 8 + 16); // ciphertext and GCM tag, to be stored at /app/recipe
//!
//! // The kernel: only key and tag are trusted.
//! let mut fspf = Fspf::open(&sealed.bytes[..], &key, sealed.tag)?;
//! let entry = fspf.lookup(b"/app/recipe")?.expect("it was added");
//! assert!(fspf.lookup(b"/app/other")?.is_none());
//! let file = fspf.open_file(&entry)?;
//! let mut buffer = vec![0; file.buffer_len()];
//! let length = file.read_chunk(&mut fspf, 0, &stored, &mut buffer)?;
//! assert_eq!(&buffer[..length], b"two eggs");
//!
//! // The host: one bit is enough to be refused.
//! stored[3] ^= 1;
//! let refused = file.read_chunk(&mut fspf, 0, &stored, &mut buffer).unwrap_err();
//! assert_eq!(
//!     refused.to_string(),
//!     "/app/recipe was changed: chunk 0, bytes 0..24, does not match its hash"
//! );
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Module map
//!
//! | module | holds |
//! |---|---|
//! | [`digest`] | chunk hashes, the file digest that is a file's identity everywhere |
//! | [`key`] | FSPF key and tag, derivation of file and page keys |
//! | [`region`] | classes of protection and the table from path to class |
//! | [`path`] | checks of normalised absolute paths |
//! | [`entry`] | what the tree says about one path |
//! | [`seal`] | the writing side |
//! | [`read`] | the reading side: tree, listings, file content |
//! | [`backing`] | where bytes come from and go to |
//! | [`header`], [`page`], [`blob`] | the format: header, tree pages, long byte strings |
//! | [`xattr`], [`sites`] | extended attributes, syscall-site lists |
//! | [`cipher`], [`wire`] | AES-GCM in place, bounded reading of fields |
//!
//! # How a tree is written
//!
//! Entries are sorted by (parent path, name), so the entries of a directory are neighbours and an
//! absent name is proven absent by the one leaf in which it would be. [Leaves and branches](page)
//! form a B-tree of pages of 16 KiB; each reference holds the hash of the sealed page below it.
//! Hashes bind; AES-256-GCM only hides. Every key is derived from a hash of what it seals, so no
//! (key, nonce) pair ever meets two plaintexts, whichever builds share an FSPF key.
//!
//! What is visible without the key: sizes, the number of pages, and which files and pages did not
//! change between two builds under the same FSPF key.
#![no_std]
#![forbid(unsafe_code)]
#![cfg_attr(not(test), warn(clippy::indexing_slicing))]

extern crate alloc;

pub mod backing;
pub mod blob;
pub mod cipher;
pub mod digest;
pub mod entry;
pub mod header;
pub mod key;
pub mod page;
pub mod path;
pub mod read;
pub mod region;
pub mod seal;
pub mod sites;
pub mod wire;
pub mod xattr;
