// SPDX-License-Identifier: Apache-2.0
//! How layers are stored, and the readers and writers for it.

use std::io::{self, BufRead, Read, Write};

use flate2::bufread::MultiGzDecoder;
use flate2::write::GzEncoder;

/// Size of the steps in which layers are read and written.
pub(crate) const BUFFER: usize = 256 << 10;

/// Largest zstd window accepted, as a power of two: 128 MiB, what the zstd
/// tool itself accepts unless told otherwise.
const MAX_ZSTD_WINDOW_LOG: u32 = 27;

/// The storage form of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Compression {
    /// gzip (RFC 1952), of any number of members.
    Gzip,
    /// A plain tar archive.
    None,
    /// zstd (RFC 8878), of any number of frames.
    Zstd,
}

impl Compression {
    /// The OCI media type of a layer stored this way.
    #[must_use]
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Gzip => "application/vnd.oci.image.layer.v1.tar+gzip",
            Self::None => "application/vnd.oci.image.layer.v1.tar",
            Self::Zstd => "application/vnd.oci.image.layer.v1.tar+zstd",
        }
    }

    /// Recognises the form by its first bytes; docker archives do not name it.
    #[must_use]
    pub fn sniff(start: &[u8]) -> Self {
        if start.starts_with(&[0x1f, 0x8b]) {
            Self::Gzip
        } else if start.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
            Self::Zstd
        } else {
            Self::None
        }
    }

    /// A reader of the decompressed bytes.
    pub(crate) fn decoder<R: BufRead>(self, inner: R) -> io::Result<Decoder<R>> {
        Ok(match self {
            Self::Gzip => Decoder::Gzip(Box::new(MultiGzDecoder::new(inner))),
            Self::None => Decoder::None(inner),
            Self::Zstd => {
                let mut decoder = zstd::Decoder::with_buffer(inner)?;
                decoder.window_log_max(MAX_ZSTD_WINDOW_LOG)?;
                Decoder::Zstd(decoder)
            }
        })
    }
}

/// Decompresses; made by [`Compression::decoder`].
pub(crate) enum Decoder<R: BufRead> {
    Gzip(Box<MultiGzDecoder<R>>),
    None(R),
    Zstd(zstd::Decoder<'static, R>),
}

impl<R: BufRead> Decoder<R> {
    /// The compressed side, to see what the decoder left unread.
    pub(crate) fn into_inner(self) -> R {
        match self {
            Self::Gzip(decoder) => decoder.into_inner(),
            Self::None(inner) => inner,
            Self::Zstd(decoder) => decoder.finish(),
        }
    }
}

impl<R: BufRead> Read for Decoder<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Gzip(decoder) => decoder.read(buf),
            Self::None(inner) => inner.read(buf),
            Self::Zstd(decoder) => decoder.read(buf),
        }
    }
}

/// How a new layer is compressed. The levels are part of the result: the
/// same input and level give the same bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Level {
    /// gzip, 0 to 9; higher values count as 9.
    Gzip(u32),
    /// No compression: right for ciphertext, which does not shrink.
    None,
    /// zstd, 1 to 19; values outside count as the nearest.
    Zstd(i32),
}

impl Level {
    /// The form this level produces.
    #[must_use]
    pub fn compression(self) -> Compression {
        match self {
            Self::Gzip(_) => Compression::Gzip,
            Self::None => Compression::None,
            Self::Zstd(_) => Compression::Zstd,
        }
    }

    pub(crate) fn encoder<W: Write>(self, inner: W) -> io::Result<Encoder<W>> {
        Ok(match self {
            // GzEncoder leaves name and time empty: the header is constant.
            Self::Gzip(level) => Encoder::Gzip(GzEncoder::new(
                inner,
                flate2::Compression::new(level.min(9)),
            )),
            Self::None => Encoder::None(inner),
            Self::Zstd(level) => {
                let mut encoder = zstd::Encoder::new(inner, level.clamp(1, 19))?;
                encoder.include_checksum(true)?;
                Encoder::Zstd(encoder)
            }
        })
    }
}

/// Compresses; made by [`Level::encoder`].
pub(crate) enum Encoder<W: Write> {
    Gzip(GzEncoder<W>),
    None(W),
    Zstd(zstd::Encoder<'static, W>),
}

impl<W: Write> Encoder<W> {
    pub(crate) fn finish(self) -> io::Result<W> {
        match self {
            Self::Gzip(encoder) => encoder.finish(),
            Self::None(inner) => Ok(inner),
            Self::Zstd(encoder) => encoder.finish(),
        }
    }
}

impl<W: Write> Write for Encoder<W> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match self {
            Self::Gzip(encoder) => encoder.write(buf),
            Self::None(inner) => inner.write(buf),
            Self::Zstd(encoder) => encoder.write(buf),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Gzip(encoder) => encoder.flush(),
            Self::None(inner) => inner.flush(),
            Self::Zstd(encoder) => encoder.flush(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pack(level: Level, bytes: &[u8]) -> Vec<u8> {
        let mut encoder = level.encoder(Vec::new()).expect("encoder");
        encoder.write_all(bytes).expect("memory");
        encoder.finish().expect("memory")
    }

    fn unpack(compression: Compression, bytes: &[u8]) -> io::Result<Vec<u8>> {
        let mut plain = Vec::new();
        compression
            .decoder(bytes)?
            .take(1 << 20)
            .read_to_end(&mut plain)?;
        Ok(plain)
    }

    #[test]
    fn members_and_frames_may_follow_each_other() {
        for level in [Level::Gzip(6), Level::Zstd(3)] {
            let mut stored = pack(level, b"one ");
            stored.extend(pack(level, b"two"));
            let plain = unpack(level.compression(), &stored).expect("two parts");
            assert_eq!(plain, b"one two");
        }
    }

    #[test]
    fn truncated_and_trailing_bytes_are_errors() {
        for level in [Level::Gzip(6), Level::Zstd(3)] {
            let mut stored = pack(level, b"some content that matters");
            let cut = stored.get(..stored.len() - 3).expect("longer than 3");
            assert!(unpack(level.compression(), cut).is_err());
            stored.extend(b"garbage");
            assert!(unpack(level.compression(), &stored).is_err());
        }
    }

    proptest! {
        #[test]
        fn what_is_packed_unpacks_and_is_recognised(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
            for level in [Level::Gzip(1), Level::Gzip(9), Level::Zstd(1)] {
                let stored = pack(level, &bytes);
                prop_assert_eq!(Compression::sniff(&stored), level.compression());
                prop_assert_eq!(&unpack(level.compression(), &stored).expect("own output"), &bytes);
                prop_assert_eq!(pack(level, &bytes), stored);
            }
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = unpack(Compression::Gzip, &bytes);
            let _ = unpack(Compression::Zstd, &bytes);
        }
    }
}
