// SPDX-License-Identifier: Apache-2.0
//! Frames on a byte stream: u32 little-endian length, then JSON.
//!
//! Blocking callers use [`read_frame`] and [`write_frame`]. Asynchronous
//! callers read four bytes, ask [`payload_len`], read that many bytes and call
//! [`decode`]; they send what [`encode`] returns. Payload buffers are zeroized
//! because frames carry keys.

use std::io::{self, Read, Write};

use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;
use zeroize::{Zeroize as _, Zeroizing};

/// Bytes of the length prefix.
pub const PREFIX_LEN: usize = 4;
/// Longest payload of any frame.
pub const MAX_FRAME: usize = 1 << 20;
/// Longest payload of `hello`.
pub const MAX_HELLO: usize = 4 << 10;
/// Longest payload of `evidence`.
pub const MAX_EVIDENCE: usize = 64 << 10;

/// Why a frame could not be read or written.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CodecError {
    /// The stream failed or ended inside a frame.
    #[error("frame could not be transferred")]
    Io(#[from] io::Error),
    /// The peer closed the stream between two frames.
    #[error("peer closed the connection")]
    Closed,
    /// The announced or produced payload is longer than allowed.
    #[error("frame of {len} bytes exceeds the limit of {limit}")]
    TooLong {
        /// Length of the payload.
        len: usize,
        /// What is allowed at this point.
        limit: usize,
    },
    /// A frame without payload.
    #[error("empty frame")]
    Empty,
    /// The payload is not the expected JSON. The position is all that is told:
    /// the parser's own message could quote a secret.
    #[error("frame is not valid at line {line} column {column} ({problem})")]
    Json {
        /// Line, from 1.
        line: usize,
        /// Column, from 1.
        column: usize,
        /// Class of the problem.
        problem: &'static str,
    },
}

impl From<serde_json::Error> for CodecError {
    fn from(error: serde_json::Error) -> Self {
        use serde_json::error::Category;
        Self::Json {
            line: error.line(),
            column: error.column(),
            problem: match error.classify() {
                Category::Io => "output failed",
                Category::Syntax => "syntax",
                Category::Data => "unexpected member or value",
                Category::Eof => "premature end",
            },
        }
    }
}

/// A growing buffer that wipes what it outgrows.
struct Wiping {
    bytes: Zeroizing<Vec<u8>>,
}

impl Write for Wiping {
    fn write(&mut self, chunk: &[u8]) -> io::Result<usize> {
        let needed = self.bytes.len().saturating_add(chunk.len());
        if needed > self.bytes.capacity() {
            let mut larger = Vec::with_capacity(needed.saturating_mul(2));
            larger.extend_from_slice(&self.bytes);
            let mut outgrown = std::mem::replace(&mut *self.bytes, larger);
            outgrown.zeroize();
        }
        self.bytes.extend_from_slice(chunk);
        Ok(chunk.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Makes the whole frame, prefix included.
///
/// # Errors
/// [`CodecError::TooLong`] if the payload exceeds [`MAX_FRAME`].
pub fn encode<T: Serialize>(frame: &T) -> Result<Zeroizing<Vec<u8>>, CodecError> {
    let mut buffer = Wiping {
        bytes: Zeroizing::new(Vec::with_capacity(4096)),
    };
    buffer.bytes.extend_from_slice(&[0; PREFIX_LEN]);
    serde_json::to_writer(&mut buffer, frame)?;
    let mut bytes = buffer.bytes;
    let len = bytes.len().saturating_sub(PREFIX_LEN);
    let prefix =
        u32::try_from(len)
            .ok()
            .filter(|_| len <= MAX_FRAME)
            .ok_or(CodecError::TooLong {
                len,
                limit: MAX_FRAME,
            })?;
    if let Some(head) = bytes.first_chunk_mut::<PREFIX_LEN>() {
        *head = prefix.to_le_bytes();
    }
    Ok(bytes)
}

/// Reads the payload length out of a prefix.
///
/// # Errors
/// [`CodecError::TooLong`] above `limit` (itself capped by [`MAX_FRAME`]),
/// [`CodecError::Empty`] for zero.
pub fn payload_len(prefix: [u8; PREFIX_LEN], limit: usize) -> Result<usize, CodecError> {
    let limit = limit.min(MAX_FRAME);
    let len = usize::try_from(u32::from_le_bytes(prefix)).unwrap_or(usize::MAX);
    match len {
        0 => Err(CodecError::Empty),
        len if len > limit => Err(CodecError::TooLong { len, limit }),
        len => Ok(len),
    }
}

/// Reads a payload (without prefix).
///
/// # Errors
/// [`CodecError::Json`] if it is not exactly one JSON value of type `T`.
pub fn decode<T: DeserializeOwned>(payload: &[u8]) -> Result<T, CodecError> {
    Ok(serde_json::from_slice(payload)?)
}

/// Reads one frame from a blocking stream.
///
/// # Errors
/// [`CodecError`]; [`CodecError::Closed`] only if the stream ended cleanly
/// before the first byte of the prefix.
pub fn read_frame<T: DeserializeOwned>(
    stream: &mut impl Read,
    limit: usize,
) -> Result<T, CodecError> {
    let mut prefix = [0; PREFIX_LEN];
    let (first, rest) = prefix.split_at_mut(1);
    loop {
        match stream.read(first) {
            Ok(0) => return Err(CodecError::Closed),
            Ok(_) => break,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
    stream.read_exact(rest)?;
    let len = payload_len(prefix, limit)?;
    let mut payload = Zeroizing::new(vec![0; len]);
    stream.read_exact(&mut payload)?;
    decode(&payload)
}

/// Writes one frame to a blocking stream and flushes it.
///
/// # Errors
/// [`CodecError::Io`] or [`CodecError::TooLong`].
pub fn write_frame<T: Serialize>(stream: &mut impl Write, frame: &T) -> Result<(), CodecError> {
    stream.write_all(&encode(frame)?)?;
    stream.flush()?;
    Ok(())
}
