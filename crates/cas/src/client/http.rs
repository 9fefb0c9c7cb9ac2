// SPDX-License-Identifier: Apache-2.0
//! One request over one TLS connection: HTTP/1.1, `Connection: close`, bounded.

use std::io::{self, Read as _, Write as _};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::sync::Arc;
use std::time::Duration;

use policy::KeyHash;
use rustls::sign::SingleCertAndKey;
use rustls::{ClientConnection, StreamOwned};
use rustls_pki_types::ServerName;
use zeroize::Zeroizing;

use super::{Address, ClientError, Identity};

/// Time for connecting, and for each read and write.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Largest answer.
const MAX_ANSWER: u64 = 8 << 20;

pub(super) struct Request<'a> {
    pub(super) method: &'static str,
    pub(super) path: &'a str,
    pub(super) body: Option<&'a [u8]>,
}

pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: Zeroizing<Vec<u8>>,
    /// Hash of the root key of the connection.
    pub(super) key_hash: KeyHash,
}

/// Percent-encodes everything but unreserved characters and `/` (RFC 3986 §2).
pub(super) fn encode_path(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

fn connect(address: &Address) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for candidate in (address.host.as_str(), address.rest_port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&candidate, TIMEOUT) {
            Ok(stream) => {
                stream.set_read_timeout(Some(TIMEOUT))?;
                stream.set_write_timeout(Some(TIMEOUT))?;
                stream.set_nodelay(true)?;
                return Ok(stream);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

type Tls = StreamOwned<ClientConnection, TcpStream>;

fn handshake(
    address: &Address,
    pin: Option<&KeyHash>,
    identity: Option<&Identity>,
) -> Result<Tls, ClientError> {
    let setup = |error: Box<dyn std::error::Error + Send + Sync>| ClientError::Setup(error);
    let pinned = pin.map(|pin| *pin.as_bytes());
    let (mut config, _) =
        attest::channel::tls::client_config(pinned).map_err(|e| setup(e.into()))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    // The attested channel's throw-away certificate is not for here.
    config.client_auth_cert_resolver = match identity {
        Some(identity) => {
            let key = identity.certified_key().map_err(|e| setup(e.into()))?;
            Arc::new(SingleCertAndKey::from(key))
        }
        None => Arc::new(NoCertificate),
    };
    let name = ServerName::try_from(address.host.clone()).map_err(|e| setup(e.into()))?;
    let connection = ClientConnection::new(Arc::new(config), name).map_err(|e| setup(e.into()))?;
    let stream = connect(address).map_err(|source| ClientError::Unreachable {
        address: address.rest(),
        source,
    })?;
    let mut tls = StreamOwned::new(connection, stream);
    while tls.conn.is_handshaking() {
        if let Err(source) = tls.conn.complete_io(&mut tls.sock) {
            let failed = || address.rest();
            let refused = source
                .get_ref()
                .and_then(|inner| inner.downcast_ref::<rustls::Error>())
                .is_some_and(|e| matches!(e, rustls::Error::InvalidCertificate(_)));
            return Err(match pin {
                Some(pin) if refused => ClientError::WrongKey {
                    address: failed(),
                    expected: *pin,
                },
                _ => ClientError::Tls {
                    address: failed(),
                    source,
                },
            });
        }
    }
    Ok(tls)
}

#[derive(Debug)]
struct NoCertificate;

impl rustls::client::ResolvesClientCert for NoCertificate {
    fn resolve(
        &self,
        _root_hint_subjects: &[&[u8]],
        _schemes: &[rustls::SignatureScheme],
    ) -> Option<Arc<rustls::sign::CertifiedKey>> {
        None
    }

    fn has_certs(&self) -> bool {
        false
    }
}

/// Sends a request and reads the answer to the end of the connection.
pub(super) fn exchange(
    address: &Address,
    pin: Option<&KeyHash>,
    identity: Option<&Identity>,
    request: &Request<'_>,
) -> Result<Answer, ClientError> {
    let mut tls = handshake(address, pin, identity)?;
    let odd = |problem| ClientError::Protocol {
        address: address.rest(),
        problem,
    };
    let root = tls.conn.peer_certificates().and_then(<[_]>::last);
    let key_hash = root
        .and_then(|root| KeyHash::of_certificate_der(root).ok())
        .ok_or_else(|| odd("it presents no certificate chain"))?;
    let body = request.body.unwrap_or_default();
    let head = format!(
        "{} {} HTTP/1.1\r\nHost: {}\r\nUser-Agent: ensconce/{}\r\nAccept: application/json\r\n\
         Content-Type: application/yaml\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        request.method,
        request.path,
        address.rest(),
        env!("CARGO_PKG_VERSION"),
        body.len(),
    );
    let failed = |source| ClientError::Tls {
        address: address.rest(),
        source,
    };
    tls.write_all(head.as_bytes()).map_err(failed)?;
    tls.write_all(body).map_err(failed)?;
    tls.flush().map_err(failed)?;
    let mut raw = Zeroizing::new(Vec::new());
    let read = (&mut tls).take(MAX_ANSWER).read_to_end(&mut raw);
    // The length decides whether the answer is complete, not the way the connection ended.
    if let Err(source) = read
        && source.kind() != io::ErrorKind::UnexpectedEof
    {
        return Err(failed(source));
    }
    let (status, body) =
        parse(&raw).ok_or_else(|| odd("the answer is not HTTP/1.1 as expected"))?;
    Ok(Answer {
        status,
        body: Zeroizing::new(body.to_vec()),
        key_hash,
    })
}

/// Status and body of an answer with `Content-Length`.
fn parse(raw: &[u8]) -> Option<(u16, &[u8])> {
    let end = raw.windows(4).position(|window| window == b"\r\n\r\n")?;
    let (head, body) = raw.split_at_checked(end)?;
    let body = body.get(4..)?;
    let head = std::str::from_utf8(head).ok()?;
    let mut lines = head.split("\r\n");
    let status = lines.next()?.strip_prefix("HTTP/1.1 ")?.get(..3)?;
    let mut length: Option<usize> = None;
    for line in lines {
        let (name, value) = line.split_once(':')?;
        if name.eq_ignore_ascii_case("content-length") {
            length = Some(value.trim().parse().ok()?);
        }
        if name.eq_ignore_ascii_case("transfer-encoding") {
            return None;
        }
    }
    let body = body.get(..length?)?;
    Some((status.parse().ok()?, body))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_answer_needs_its_length() {
        let ok = b"HTTP/1.1 201 Created\r\ncontent-length: 2\r\n\r\n{}";
        assert_eq!(parse(ok), Some((201, &b"{}"[..])));
        for bad in [
            &b"HTTP/1.1 200 OK\r\n\r\n{}"[..],
            b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n{}",
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ncontent-length: 2\r\n\r\n{}",
            b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\n{}",
            b"",
        ] {
            assert_eq!(parse(bad), None);
        }
        assert_eq!(encode_path("a/b~c d%"), "a/b~c%20d%25");
    }

    proptest! {
        #[test]
        fn any_bytes_are_an_answer_or_refused(raw: Vec<u8>) {
            let _ = parse(&raw);
        }
    }
}
