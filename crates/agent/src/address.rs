// SPDX-License-Identifier: Apache-2.0
//! Names of the CAS: `/etc/hosts` first, then the resolver.
//!
//! The agent runs before any file of the image is mounted, so there is no
//! `/etc/nsswitch.conf`, and a C library's rule without one is to ask the
//! network first: it would never learn what a container engine wrote into
//! `/etc/hosts`, nor who `localhost` is. No answer is trusted; the CAS proves
//! itself by its key.

use std::fs::File;
use std::io::{self, Read as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs as _};
use std::path::Path;

/// Where container engines write the names they know.
pub const HOSTS: &str = "/etc/hosts";
/// Bytes of the file that count: the host decides how long it is.
const MOST_BYTES: u64 = 64 * 1024;
/// Addresses that are tried.
const MOST_ADDRESSES: usize = 16;

/// All addresses of a host: itself if it is one, else those that the hosts file
/// names, else the loopback for `localhost` (RFC 6761 §6.3), else what the
/// resolver says.
///
/// # Errors
/// As the resolver: nobody knows the name.
pub fn resolve(host: &str, port: u16, hosts: &Path) -> io::Result<Vec<SocketAddr>> {
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, port)]);
    }
    let mut found = File::open(hosts)
        .and_then(|file| {
            let mut bytes = Vec::new();
            file.take(MOST_BYTES).read_to_end(&mut bytes)?;
            Ok(listed(&String::from_utf8_lossy(&bytes), host))
        })
        .unwrap_or_default();
    if found.is_empty() && is_localhost(host) {
        found = vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
    }
    if found.is_empty() {
        return Ok((host, port)
            .to_socket_addrs()?
            .take(MOST_ADDRESSES)
            .collect());
    }
    Ok(found
        .into_iter()
        .map(|address| SocketAddr::new(address, port))
        .collect())
}

/// Addresses that a hosts file gives to a name: `ADDRESS NAME… # comment`.
fn listed(hosts: &str, name: &str) -> Vec<IpAddr> {
    hosts
        .lines()
        .filter_map(|line| {
            let mut words = line.split('#').next()?.split_whitespace();
            let address = words.next()?.parse().ok()?;
            words
                .any(|word| word.eq_ignore_ascii_case(name))
                .then_some(address)
        })
        .take(MOST_ADDRESSES)
        .collect()
}

fn is_localhost(name: &str) -> bool {
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    name == "localhost" || name.ends_with(".localhost")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        file
    }

    #[test]
    fn the_hosts_file_comes_before_the_resolver() {
        let file = hosts(
            "# 10.0.0.9 cas\n10.0.0.7\tother CAS cas.internal # cas2\n\n::7 cas\nnonsense cas\n",
        );
        let resolve = |name| resolve(name, 18765, file.path());
        let expected: Vec<SocketAddr> = vec![
            "10.0.0.7:18765".parse().unwrap(),
            "[::7]:18765".parse().unwrap(),
        ];
        assert_eq!(resolve("cas").unwrap(), expected);
        assert_eq!(resolve("cas.internal").unwrap(), expected[..1]);
        assert!(resolve("cas2.invalid").is_err());
    }

    #[test]
    fn localhost_is_the_loopback_without_any_file() {
        let nowhere = Path::new("/nonexistent/hosts");
        for name in ["localhost", "LocalHost.", "cas.localhost"] {
            let found = resolve(name, 1, nowhere).unwrap();
            assert!(found.iter().all(|address| address.ip().is_loopback()));
            assert_eq!(found.len(), 2);
        }
        let literal = resolve("::1", 1, nowhere).unwrap();
        assert_eq!(literal, ["[::1]:1".parse().unwrap()]);
    }

    #[test]
    fn an_endless_hosts_file_is_read_only_so_far() {
        let zero = Path::new("/dev/zero");
        assert_eq!(resolve("localhost", 1, zero).unwrap().len(), 2);
        let many = hosts(&"10.0.0.1 cas\n".repeat(1000));
        assert_eq!(resolve("cas", 1, many.path()).unwrap().len(), 16);
    }
}
