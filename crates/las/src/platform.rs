// SPDX-License-Identifier: Apache-2.0
//! The emulated platform and the directory that holds it.
//!
//! | file | mode | what |
//! |---|---|---|
//! | `platform.json` | 0644 | version, identifiers, anchor |
//! | `fuse.key` | 0600 | 32 bytes beneath all keys of the emulated CPU |
//! | `root.{crt,key}` | 0644, 0600 | the anchor |
//! | `pck-ca.{crt,key}`, `pck.{crt,key}`, `tcb-signing.{crt,key}` | 0644, 0600 | below the anchor |
//! | `crl/root.crl`, `crl/pck-ca.crl` | 0644 | DER |
//! | `tcb-info.json`, `qe-identity.json` | 0644 | signed documents in Intel's envelope |

mod files;
mod renewal;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use attest::anchor::{Anchor, AnchorError};
use attest::collateral::Collateral;
use attest::dcap::PckExtension;
use attest::time::UnixTime;
use serde::{Deserialize, Serialize};
use sgx::derive::FuseKey;
use thiserror::Error;
use zeroize::Zeroizing;

use crate::pki::{CertificateSpec, Entity, PkiError, Profile};
use crate::quoting::{QuotingEnclave, qe_identity};

/// Where the platform lies unless told otherwise.
pub const DEFAULT_DIR: &str = "/var/lib/ensconce/platform";
/// CPUSVN of every emulated platform.
pub const CPU_SVN: [u8; 16] = [1; 16];
/// PCESVN of every emulated platform.
pub const PCE_SVN: u16 = 1;
/// FMSPC of every emulated platform: no silicon has it.
pub const FMSPC: [u8; 6] = *b"EMUSGX";
/// PCEID of every emulated platform.
pub const PCE_ID: [u8; 2] = [0, 0];

/// Version of the directory's layout.
const VERSION: u32 = 1;
/// Certificates are valid for 20 years.
const CERTIFICATE_SECONDS: u64 = 20 * 365 * 86_400;

/// Why the platform cannot be made or used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum PlatformError {
    /// There is something already.
    #[error("{} exists already; a platform is never overwritten, choose another directory", path.display())]
    Exists {
        /// The directory.
        path: PathBuf,
    },
    /// There is no platform.
    #[error("{} holds no emulated platform; make one with `ensconce platform init`", path.display())]
    Absent {
        /// The directory.
        path: PathBuf,
    },
    /// A secret can be read by others.
    #[error("{} may be read by others (mode {mode:o}); it must be 0600 and its directory 0700", path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// A file could not be read or written.
    #[error("{} cannot be used", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file holds something else than expected.
    #[error("{} is damaged: {problem}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The layout is of another version.
    #[error("platform has layout version {version}, this program reads {VERSION}")]
    Version {
        /// The version found.
        version: u32,
    },
    /// A PKI object could not be made or read.
    #[error("platform's PKI failed")]
    Pki(#[from] PkiError),
    /// The root certificate is no anchor.
    #[error("platform's root is no anchor")]
    Anchor(#[from] AnchorError),
    /// No randomness.
    #[error("the system gave no randomness")]
    Random,
}

/// `platform.json`: nothing in it is secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlatformInfo {
    /// Version of the layout.
    pub version: u32,
    /// Hex SHA-256 of the anchor's SubjectPublicKeyInfo, as in the tolerance
    /// `emulated-platform:…`.
    pub anchor: String,
    /// Hex identifier of the machine, 16 bytes (`INTEL_QE_ID` in sessions).
    pub qe_id: String,
    /// Hex FMSPC.
    pub fmspc: String,
    /// When it was made (RFC 3339).
    pub created: String,
}

impl PlatformInfo {
    /// Reads what is public about a platform; needs no right to its keys.
    ///
    /// # Errors
    /// [`PlatformError`].
    pub fn read(dir: &Path) -> Result<Self, PlatformError> {
        let path = dir.join("platform.json");
        let bytes = match files::read(&path) {
            Err(PlatformError::File { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                return Err(PlatformError::Absent {
                    path: dir.to_owned(),
                });
            }
            other => other?,
        };
        let info: Self = serde_json::from_slice(&bytes).map_err(|_| PlatformError::Damaged {
            path,
            problem: "not the expected JSON",
        })?;
        if info.version != VERSION {
            return Err(PlatformError::Version {
                version: info.version,
            });
        }
        Ok(info)
    }

    /// Path of the root certificate, which operators install as an anchor.
    pub fn root_certificate(dir: &Path) -> PathBuf {
        dir.join("root.crt")
    }
}

/// An emulated platform with its keys.
pub struct Platform {
    dir: PathBuf,
    info: PlatformInfo,
    fuses: FuseKey,
    root: Entity,
    pck_ca: Entity,
    pck: Entity,
    tcb_signing: Entity,
    collateral: Collateral,
    expires: UnixTime,
}

impl fmt::Debug for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Platform")
            .field("dir", &self.dir)
            .field("info", &self.info)
            .finish_non_exhaustive()
    }
}

impl Platform {
    /// Makes a new platform in `dir`, which must be absent or empty.
    ///
    /// # Errors
    /// [`PlatformError::Exists`] rather than overwriting anything.
    pub fn init(dir: &Path, now: UnixTime) -> Result<Self, PlatformError> {
        files::create_dir(dir)?;
        let mut fuses = Zeroizing::new([0; 32]);
        aws_lc_rs::rand::fill(fuses.as_mut_slice()).map_err(|_| PlatformError::Random)?;
        let mut qe_id = [0; 16];
        aws_lc_rs::rand::fill(&mut qe_id).map_err(|_| PlatformError::Random)?;

        // Machines' clocks differ: certificates begin a day before.
        let not_before = UnixTime(now.0.saturating_sub(86_400));
        let not_after = now.plus(CERTIFICATE_SECONDS);
        let issue = |common_name, profile, issuer| {
            let spec = CertificateSpec {
                common_name,
                profile,
                not_before,
                not_after,
            };
            Entity::issue(&spec, issuer)
        };
        let root = issue("Ensconce Emulated SGX Root CA", Profile::Ca(1), None)?;
        let pck_ca = issue(
            "Ensconce Emulated SGX PCK Platform CA",
            Profile::Ca(0),
            Some(&root),
        )?;
        let tcb_signing = issue(
            "Ensconce Emulated SGX TCB Signing",
            Profile::DocumentSigner,
            Some(&root),
        )?;
        let extension = PckExtension {
            fmspc: FMSPC,
            pce_id: PCE_ID,
            components: CPU_SVN,
            pce_svn: PCE_SVN,
            cpu_svn: CPU_SVN,
        };
        let pck = issue(
            "Ensconce Emulated SGX PCK Certificate",
            Profile::Pck(extension),
            Some(&pck_ca),
        )?;

        let anchor = Anchor::emulated(&root.der)?;
        let attest::anchor::Platform::Emulated(spki) = anchor.platform() else {
            return Err(AnchorError::Intel.into());
        };
        let info = PlatformInfo {
            version: VERSION,
            anchor: hex::encode(spki),
            qe_id: hex::encode(qe_id),
            fmspc: hex::encode_upper(FMSPC),
            created: now.to_string(),
        };
        files::write_new(&dir.join("fuse.key"), fuses.as_slice(), files::SECRET)?;
        for (name, entity) in [
            ("root", &root),
            ("pck-ca", &pck_ca),
            ("pck", &pck),
            ("tcb-signing", &tcb_signing),
        ] {
            files::write_new(
                &dir.join(format!("{name}.key")),
                entity.key().to_pem()?.as_bytes(),
                files::SECRET,
            )?;
            files::write_new(
                &dir.join(format!("{name}.crt")),
                entity.pem.as_bytes(),
                files::PUBLIC,
            )?;
        }
        let mut platform = Self {
            dir: dir.to_owned(),
            fuses: FuseKey::new(*fuses),
            info,
            root,
            pck_ca,
            pck,
            tcb_signing,
            collateral: renewal::empty(),
            expires: UnixTime(0),
        };
        platform.renew(now)?;
        // Last: its presence says that the platform is complete.
        let text =
            serde_json::to_vec_pretty(&platform.info).map_err(|_| PlatformError::Damaged {
                path: dir.to_owned(),
                problem: "identifiers cannot be written",
            })?;
        files::write_new(&dir.join("platform.json"), &text, files::PUBLIC)?;
        Ok(platform)
    }

    /// Opens a platform; its secrets must be readable by the owner alone.
    ///
    /// # Errors
    /// [`PlatformError`].
    pub fn open(dir: &Path) -> Result<Self, PlatformError> {
        let info = PlatformInfo::read(dir)?;
        let fuse_path = dir.join("fuse.key");
        let fuses: Zeroizing<[u8; 32]> = Zeroizing::new(
            files::read_secret(&fuse_path)?
                .as_slice()
                .try_into()
                .map_err(|_| PlatformError::Damaged {
                    path: fuse_path,
                    problem: "not 32 bytes",
                })?,
        );
        let entity = |name: &str| -> Result<Entity, PlatformError> {
            let path = dir.join(format!("{name}.crt"));
            let certificate = files::read_text(&path)?;
            let key = files::read_secret(&dir.join(format!("{name}.key")))?;
            Ok(Entity::from_pem(&certificate, &key)?)
        };
        let root = entity("root")?;
        let attest::anchor::Platform::Emulated(spki) = Anchor::emulated(&root.der)?.platform()
        else {
            return Err(AnchorError::Intel.into());
        };
        if info.anchor != hex::encode(spki) {
            return Err(PlatformError::Damaged {
                path: dir.join("platform.json"),
                problem: "names another anchor than root.crt",
            });
        }
        let mut platform = Self {
            dir: dir.to_owned(),
            fuses: FuseKey::new(*fuses),
            info,
            root,
            pck_ca: entity("pck-ca")?,
            pck: entity("pck")?,
            tcb_signing: entity("tcb-signing")?,
            collateral: renewal::empty(),
            expires: UnixTime(0),
        };
        platform.load_collateral()?;
        Ok(platform)
    }

    /// What is public about the platform.
    pub const fn info(&self) -> &PlatformInfo {
        &self.info
    }

    /// The anchor to be installed where this platform's evidence shall count.
    ///
    /// # Errors
    /// [`AnchorError`] never in practice: the root was checked.
    pub fn anchor(&self) -> Result<Anchor, AnchorError> {
        Anchor::emulated(&self.root.der)
    }

    /// The emulated CPU's secret. It stays in this process.
    pub(crate) const fn fuses(&self) -> &FuseKey {
        &self.fuses
    }

    /// Starts the quoting enclave with a fresh attestation key.
    ///
    /// # Errors
    /// [`PlatformError`].
    pub fn quoting_enclave(&self) -> Result<QuotingEnclave, PlatformError> {
        let mut qe_id = [0; 16];
        hex::decode_to_slice(&self.info.qe_id, &mut qe_id).map_err(|_| PlatformError::Damaged {
            path: self.dir.join("platform.json"),
            problem: "qe_id is not 32 hexadecimal digits",
        })?;
        let chain = [&self.pck, &self.pck_ca, &self.root].map(|entity| entity.pem.as_str());
        Ok(QuotingEnclave::new(
            qe_identity(),
            &self.pck,
            chain.concat(),
            CPU_SVN,
            qe_id,
        )?)
    }
}
