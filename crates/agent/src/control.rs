// SPDX-License-Identifier: Apache-2.0
//! What the kernel offers to the agent.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};

use anyhow::{Context as _, Result, bail, ensure};
use enclave_abi::codec::Writer;
use enclave_abi::manifest::{Manifest, ProgramConfig};
use enclave_abi::start::{
    BLOCK_MAX, FILE_BLOCK, FILE_CONFIG, FILE_INJECT, FILE_MANIFEST, FILE_MOUNT, FILE_REPORT,
    FILE_START, Inject, Mount, StartBlock,
};
use rustix::process::{WaitOptions, WaitStatus, wait};
use sgx::report::{Report, TargetInfo};
use zeroize::Zeroizing;

/// Longest manifest that is read.
const MANIFEST_MAX: usize = 16 << 20;

/// How the program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// It exited with this code.
    Code(u8),
    /// This signal killed it.
    Signal(u8),
}

impl Ended {
    /// The exit code that a shell would show.
    pub const fn code(self) -> u8 {
        match self {
            Self::Code(code) => code,
            Self::Signal(signal) => 128_u8.saturating_add(signal),
        }
    }
}

/// The kernel, as the agent sees it.
pub trait Control {
    /// What the host claims.
    ///
    /// # Errors
    /// If it cannot be read or is malformed.
    fn start_block(&mut self) -> Result<StartBlock>;

    /// What is measured.
    ///
    /// # Errors
    /// If it cannot be read or is malformed.
    fn manifest(&mut self) -> Result<Manifest>;

    /// EREPORT: what this enclave says to `target`.
    ///
    /// # Errors
    /// If the kernel refuses.
    fn report(&mut self, report_data: &[u8; 64], target: &TargetInfo) -> Result<Report>;

    /// Mounts the protected root.
    ///
    /// # Errors
    /// If the kernel refuses: wrong key, wrong tag, damaged or exchanged files.
    fn mount(&mut self, mount: &Mount) -> Result<()>;

    /// Creates a file in enclave memory.
    ///
    /// # Errors
    /// If the kernel refuses.
    fn inject(&mut self, file: &Inject) -> Result<()>;

    /// Says what the program is given.
    ///
    /// # Errors
    /// If the kernel refuses.
    fn configure(&mut self, config: &ProgramConfig) -> Result<()>;

    /// Starts the program; the control files are gone afterwards.
    ///
    /// # Errors
    /// If the kernel refuses.
    fn start(&mut self) -> Result<()>;

    /// Waits until the program ended.
    ///
    /// # Errors
    /// If there is no program.
    fn wait(&mut self) -> Result<Ended>;
}

/// The kernel's control files.
#[derive(Debug, Default)]
pub struct Files {
    report: Option<File>,
}

fn read_all(path: &str, max: usize) -> Result<Zeroizing<Vec<u8>>> {
    let mut bytes = Zeroizing::new(Vec::new());
    let limit = u64::try_from(max).unwrap_or(u64::MAX).saturating_add(1);
    File::open(path)
        .and_then(|file| file.take(limit).read_to_end(&mut bytes))
        .with_context(|| {
            format!("cannot read {path}; the agent runs only as the first process of an enclave")
        })?;
    ensure!(bytes.len() <= max, "{path} is longer than {max} bytes");
    Ok(bytes)
}

/// Hands over one message in one write, as the kernel demands.
fn write_message(path: &str, message: &[u8]) -> Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .open(path)
        .with_context(|| format!("cannot open {path}"))?;
    let written = file
        .write(message)
        .with_context(|| format!("kernel refuses the message to {path}"))?;
    ensure!(
        written == message.len(),
        "kernel took only a part of the message to {path}"
    );
    Ok(())
}

impl Control for Files {
    fn start_block(&mut self) -> Result<StartBlock> {
        StartBlock::decode(&read_all(FILE_BLOCK, BLOCK_MAX)?).context(
            "host's start block is malformed; check the SCONE_* variables of the container",
        )
    }

    fn manifest(&mut self) -> Result<Manifest> {
        Manifest::decode(&read_all(FILE_MANIFEST, MANIFEST_MAX)?)
            .context("measured manifest is malformed; convert the image again")
    }

    fn report(&mut self, report_data: &[u8; 64], target: &TargetInfo) -> Result<Report> {
        if self.report.is_none() {
            // Kept open: the only control file that outlives the start.
            self.report = Some(
                OpenOptions::new()
                    .read(true)
                    .write(true)
                    .open(FILE_REPORT)
                    .with_context(|| format!("cannot open {FILE_REPORT}"))?,
            );
        }
        let Some(file) = &mut self.report else {
            bail!("cannot open {FILE_REPORT}");
        };
        let mut request = report_data.to_vec();
        request.extend_from_slice(&target.to_bytes());
        let written = file.write(&request).context("kernel refuses a REPORT")?;
        ensure!(written == request.len(), "kernel refuses a REPORT");
        let mut report = [0; Report::SIZE];
        file.read_exact(&mut report)
            .context("kernel gives no REPORT")?;
        Ok(Report::from_bytes(&report))
    }

    fn mount(&mut self, mount: &Mount) -> Result<()> {
        write_message(FILE_MOUNT, &Zeroizing::new(mount.encode()))
    }

    fn inject(&mut self, file: &Inject) -> Result<()> {
        write_message(FILE_INJECT, &Zeroizing::new(file.encode()))
    }

    fn configure(&mut self, config: &ProgramConfig) -> Result<()> {
        let mut writer = Writer::new();
        config.write(&mut writer);
        write_message(FILE_CONFIG, &Zeroizing::new(writer.finish()))
    }

    fn start(&mut self) -> Result<()> {
        write_message(FILE_START, &[1])
    }

    fn wait(&mut self) -> Result<Ended> {
        loop {
            match wait(WaitOptions::empty()) {
                Ok(Some((_, status))) => {
                    if let Some(ended) = ended(status) {
                        return Ok(ended);
                    }
                }
                Ok(None) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error).context("cannot wait for the program"),
            }
        }
    }
}

/// `None` while the program merely stopped or went on.
fn ended(status: WaitStatus) -> Option<Ended> {
    let byte = |value: i32| u8::try_from(value).unwrap_or(u8::MAX);
    status
        .exit_status()
        .map(|code| Ended::Code(byte(code)))
        .or_else(|| {
            status
                .terminating_signal()
                .map(|signal| Ended::Signal(byte(signal)))
        })
}
