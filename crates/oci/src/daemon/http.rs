// SPDX-License-Identifier: Apache-2.0
//! As much of HTTP/1.1 (RFC 9112) as one request per connection needs.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;

/// Largest response head accepted, in bytes.
const MAX_HEAD: u64 = 16 << 10;
/// Fields accepted in a response head.
const MAX_FIELDS: usize = 64;
/// Longest chunk-size line accepted, extensions included.
const MAX_CHUNK_LINE: u64 = 256;
/// Informational responses accepted before the real one.
const MAX_INFORMATIONAL: usize = 4;

/// Why a response cannot be understood.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HttpError {
    /// A body length that is none, or two of them.
    #[error("Response has an unusable body length")]
    BodyLength,
    /// The head is larger than 16 KiB or cut off.
    #[error("Response head is too large or incomplete")]
    Head,
    /// The connection broke.
    #[error("Connection failed")]
    Io(#[from] io::Error),
    /// Not HTTP.
    #[error("Response is not HTTP")]
    Parse(#[from] httparse::Error),
}

/// A response whose body is yet to be read.
pub(super) struct Response<S: Read = UnixStream> {
    pub(super) status: u16,
    pub(super) body: Body<S>,
}

impl<S: Read> Response<S> {
    pub(super) fn read(stream: S) -> Result<Self, HttpError> {
        let mut stream = BufReader::with_capacity(crate::compression::BUFFER, stream);
        for _ in 0..=MAX_INFORMATIONAL {
            let head = read_head(&mut stream)?;
            let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
            let mut parsed = httparse::Response::new(&mut fields);
            if parsed.parse(&head)?.is_partial() {
                return Err(HttpError::Head);
            }
            let status = parsed.code.ok_or(HttpError::Head)?;
            if (100..200).contains(&status) {
                continue;
            }
            let framing = Framing::of(parsed.headers)?;
            return Ok(Self {
                status,
                body: Body { stream, framing },
            });
        }
        Err(HttpError::Head)
    }
}

/// Reads up to and including the empty line.
fn read_head(stream: &mut impl BufRead) -> Result<Vec<u8>, HttpError> {
    let mut head = Vec::new();
    let mut limited = stream.take(MAX_HEAD);
    loop {
        let before = head.len();
        if limited.read_until(b'\n', &mut head)? == 0 {
            return Err(HttpError::Head);
        }
        if matches!(head.get(before..), Some(b"\r\n" | b"\n")) {
            return Ok(head);
        }
    }
}

/// How the end of a body is found (RFC 9112 §6.3).
enum Framing {
    Chunked {
        /// Bytes left of the current chunk.
        left: u64,
        is_first: bool,
        is_done: bool,
    },
    Length(u64),
    ToEnd,
}

impl Framing {
    fn of(fields: &[httparse::Header<'_>]) -> Result<Self, HttpError> {
        let mut length = None;
        let mut is_chunked = false;
        for field in fields {
            if field.name.eq_ignore_ascii_case("transfer-encoding") {
                if !field.value.eq_ignore_ascii_case(b"chunked") {
                    return Err(HttpError::BodyLength);
                }
                is_chunked = true;
            } else if field.name.eq_ignore_ascii_case("content-length") {
                let value = std::str::from_utf8(field.value)
                    .ok()
                    .filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))
                    .and_then(|text| text.parse::<u64>().ok())
                    .ok_or(HttpError::BodyLength)?;
                if length.is_some_and(|other| other != value) {
                    return Err(HttpError::BodyLength);
                }
                length = Some(value);
            }
        }
        match (is_chunked, length) {
            (true, None) => Ok(Self::Chunked {
                left: 0,
                is_first: true,
                is_done: false,
            }),
            (false, Some(length)) => Ok(Self::Length(length)),
            (false, None) => Ok(Self::ToEnd),
            // Two answers to where the body ends.
            (true, Some(_)) => Err(HttpError::BodyLength),
        }
    }
}

/// Reads a body; a body that is cut off is an error, not an end.
pub(super) struct Body<S: Read> {
    stream: BufReader<S>,
    framing: Framing,
}

fn invalid(message: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, message)
}

/// Reads a line of at most 256 bytes without its end.
fn read_line(stream: &mut impl BufRead) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    stream.take(MAX_CHUNK_LINE).read_until(b'\n', &mut line)?;
    if line.pop() != Some(b'\n') {
        return Err(invalid("malformed chunk"));
    }
    if line.last() == Some(&b'\r') {
        line.pop();
    }
    Ok(line)
}

/// Reads the next chunk's size; 0 after the last.
fn next_chunk(stream: &mut impl BufRead, is_first: bool) -> io::Result<u64> {
    if !is_first && !read_line(stream)?.is_empty() {
        return Err(invalid("malformed chunk"));
    }
    let line = read_line(stream)?;
    let digits = line.split(|byte| *byte == b';').next().unwrap_or_default();
    let size = std::str::from_utf8(digits.trim_ascii())
        .ok()
        .filter(|text| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_hexdigit()))
        .and_then(|text| u64::from_str_radix(text, 16).ok())
        .ok_or_else(|| invalid("malformed chunk size"))?;
    Ok(size)
}

impl<S: Read> Read for Body<S> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if buf.is_empty() {
            return Ok(0);
        }
        let left = match &mut self.framing {
            Framing::ToEnd => return self.stream.read(buf),
            Framing::Length(left) => left,
            Framing::Chunked {
                left,
                is_first,
                is_done,
            } => {
                if *left == 0 && !*is_done {
                    *left = next_chunk(&mut self.stream, *is_first)?;
                    *is_first = false;
                    *is_done = *left == 0;
                }
                left
            }
        };
        if *left == 0 {
            return Ok(0);
        }
        let wanted = usize::try_from(*left).unwrap_or(usize::MAX).min(buf.len());
        let read = self
            .stream
            .read(buf.get_mut(..wanted).unwrap_or_default())?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        *left = left.saturating_sub(read as u64);
        Ok(read)
    }
}

/// Writes a request body in chunks of a fixed size (RFC 9112 §7.1).
pub(super) struct ChunkWriter<W: Write> {
    inner: W,
    pending: Vec<u8>,
}

impl<W: Write> ChunkWriter<W> {
    pub(super) fn new(inner: W) -> Self {
        Self {
            inner,
            pending: Vec::with_capacity(crate::compression::BUFFER),
        }
    }

    fn send(&mut self) -> io::Result<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        write!(self.inner, "{:x}\r\n", self.pending.len())?;
        self.inner.write_all(&self.pending)?;
        self.inner.write_all(b"\r\n")?;
        self.pending.clear();
        Ok(())
    }

    /// Sends what is pending and the last chunk.
    pub(super) fn finish(mut self) -> io::Result<()> {
        self.send()?;
        self.inner.write_all(b"0\r\n\r\n")?;
        self.inner.flush()
    }
}

impl<W: Write> Write for ChunkWriter<W> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        if self.pending.len() >= crate::compression::BUFFER {
            self.send()?;
        }
        let room = crate::compression::BUFFER - self.pending.len();
        let taken = buf.get(..room.min(buf.len())).unwrap_or_default();
        self.pending.extend_from_slice(taken);
        Ok(taken.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.send()?;
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn body(bytes: &[u8]) -> Result<(u16, Vec<u8>), String> {
        let response = Response::read(bytes).map_err(|error| error.to_string())?;
        let mut body = Vec::new();
        response
            .body
            .take(1 << 20)
            .read_to_end(&mut body)
            .map_err(|error| error.to_string())?;
        Ok((response.status, body))
    }

    #[test]
    fn bodies_end_where_their_framing_says() {
        let chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nA;x=y\r\n0123456789\r\n0\r\n\r\nrest";
        assert_eq!(body(chunked), Ok((200, b"abc0123456789".to_vec())));
        let length = b"HTTP/1.1 404 No\r\nContent-Length: 2\r\n\r\nabc";
        assert_eq!(body(length), Ok((404, b"ab".to_vec())));
        let to_end = b"HTTP/1.0 200 OK\r\n\r\nabc";
        assert_eq!(body(to_end), Ok((200, b"abc".to_vec())));
        let informed = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\nabc";
        assert_eq!(body(informed), Ok((200, b"abc".to_vec())));
    }

    #[test]
    fn cut_and_contradictory_responses_are_errors() {
        for bytes in [
            &b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabc"[..],
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-3\r\nabc\r\n0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
            b"HTTP/1.1 200 OK\r\nContent-Length: +1\r\n\r\na",
            b"HTTP/1.1 200 OK\r\n",
            b"",
        ] {
            assert!(body(bytes).is_err(), "{}", String::from_utf8_lossy(bytes));
        }
        let endless = [b"HTTP/1.1 200 OK\r\nX: ".to_vec(), vec![b'a'; 20 << 10]].concat();
        assert!(body(&endless).is_err());
    }

    proptest! {
        #[test]
        fn what_is_written_in_chunks_reads_back(parts in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..500), 0..20)) {
            let mut sent = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
            let mut writer = ChunkWriter::new(&mut sent);
            for part in &parts {
                writer.write_all(part).expect("memory");
                writer.flush().expect("memory");
            }
            writer.finish().expect("memory");
            prop_assert_eq!(body(&sent), Ok((200, parts.concat())));
        }

        #[test]
        fn arbitrary_responses_never_panic(tail in "[ -~\r\n]{0,200}") {
            let _ = body(format!("HTTP/1.1 200 OK\r\n{tail}").as_bytes());
            let _ = body(tail.as_bytes());
        }
    }
}
