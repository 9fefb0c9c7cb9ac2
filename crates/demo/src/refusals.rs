// SPDX-License-Identifier: Apache-2.0
//! What must not work, each attempted for real.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};

use crate::job::{Converted, SERVICE, SESSION, refused};
use crate::native::MARKERS;
use crate::owner::Owner;
use crate::process::Programs;
use crate::services::Services;
use crate::tamper::flip_one_bit;

/// One attempt and what it met.
#[derive(Debug, Clone)]
pub struct Refusal {
    /// What was tried.
    pub attempt: String,
    /// The last line that the attempt printed.
    pub answer: String,
}

/// Everything that the attempts need.
#[derive(Debug, Clone, Copy)]
pub struct Scene<'a> {
    /// The built programs.
    pub programs: &'a Programs,
    /// Platform, LAS and CAS.
    pub services: &'a Services,
    /// The converted image.
    pub converted: &'a Converted,
    /// Where files of the run lie.
    pub work: &'a Path,
}

impl Scene<'_> {
    /// The CAS cannot be reached.
    ///
    /// # Errors
    /// The image ran all the same.
    pub fn without_cas(&self) -> Result<Refusal> {
        self.attempt(
            "the CAS is out of reach",
            &self.converted.reference,
            &[("SCONE_CAS_ADDR", "localhost:9:9")],
        )
    }

    /// One flipped bit in `path`.
    ///
    /// # Errors
    /// The changed image ran all the same.
    pub fn with_flipped_bit(&self, path: &str) -> Result<Refusal> {
        let tag = format!(
            "flipped{}",
            path.replace(|c: char| !c.is_ascii_alphanumeric(), "-")
        );
        let changed = flip_one_bit(&self.converted.reference, path, &tag, self.work)?;
        self.attempt(&format!("one flipped bit in {path}"), &changed, &[])
    }

    /// The session names another MRENCLAVE. The true session comes back afterwards.
    ///
    /// # Errors
    /// The image ran all the same, or the owner could not change the session.
    pub fn with_another_measurement(&self) -> Result<Refusal> {
        let owner = Owner::from_config(self.work, self.services.api_port())?;
        let session =
            fs::read_to_string(&self.converted.session).context("while reading the session")?;
        let measurement = measurement(&session)?;
        let other = session.replace(&measurement, &"ab".repeat(32));
        self.replace(&owner, &other)?;
        let result = self.attempt(
            "a session that names another MRENCLAVE",
            &self.converted.reference,
            &[],
        );
        self.replace(&owner, &session)?;
        result
    }

    /// A stranger's session names this image's MRENCLAVE: the enclave starts for
    /// the stranger, who gets nothing of the victim's.
    ///
    /// # Errors
    /// The stranger saw a protected file, or could not upload a session.
    pub fn with_a_strangers_session(&self) -> Result<Refusal> {
        let stranger = Owner::from_openssl(self.work, self.services.api_port())?;
        let theirs =
            fs::read_to_string(&self.converted.session).context("while reading the session")?;
        // The stranger knows all that is public: the measurement and the image.
        let measurement = measurement(&theirs)?;
        let attestation = theirs
            .lines()
            .skip_while(|line| !line.starts_with("security:"))
            .collect::<Vec<_>>()
            .join("\n");
        let yaml = format!(
            "name: strangers-session\nversion: \"0.3\"\nservices:\n  - name: {SERVICE}\n    \
             attestation:\n      - mrenclave: [\"{measurement}\"]\n    \
             command: [\"python3\", \"-c\", \"print(open('/app/rest_api.py').read())\"]\n    \
             pwd: /\n{attestation}\n"
        );
        stranger
            .upload(&yaml)?
            .success("uploading the stranger's session")?;
        let own_id = format!("strangers-session/{SERVICE}");
        let refusal = self.attempt(
            "a stranger's session that names this MRENCLAVE",
            &self.converted.reference,
            &[("SCONE_CONFIG_ID", &own_id)],
        )?;
        let reading = stranger.read(SESSION)?;
        ensure!(
            !reading.status.success(),
            "a stranger could read the owner's session: {}",
            reading.stdout
        );
        Ok(refusal)
    }

    fn replace(&self, owner: &Owner, yaml: &str) -> Result<()> {
        // The file is what was created; an update names what it replaces.
        let current = owner.read(SESSION)?.success("reading the session")?;
        let current: serde_json::Value = serde_json::from_str(&current)?;
        let hash = current["hash"]
            .as_str()
            .context("the CAS's answer has no hash")?;
        let kept: String = yaml
            .lines()
            .filter(|line| !line.starts_with("predecessor:"))
            .map(|line| format!("{line}\n"))
            .collect();
        owner
            .upload(&format!("{kept}predecessor: \"{hash}\"\n"))?
            .success("updating the session")?;
        Ok(())
    }

    fn attempt(&self, what: &str, image: &str, env: &[(&str, &str)]) -> Result<Refusal> {
        let finished = refused(self.programs, image, self.work, env)
            .with_context(|| format!("while trying: {what}"))?;
        for marker in MARKERS {
            ensure!(
                !finished.stdout.contains(marker) && !finished.stderr.contains(marker),
                "{what}: the attempt printed a protected marker"
            );
        }
        let answer = finished
            .stderr
            .lines()
            .rev()
            .find(|line| !line.trim().is_empty());
        Ok(Refusal {
            attempt: what.to_owned(),
            answer: answer.unwrap_or("(nothing)").trim().to_owned(),
        })
    }
}

/// The first MRENCLAVE that a session names.
fn measurement(session: &str) -> Result<String> {
    let (_, rest) = session
        .split_once("mrenclave")
        .context("the session names no MRENCLAVE")?;
    rest.split(|c: char| !c.is_ascii_hexdigit())
        .find(|word| word.len() == 64)
        .map(str::to_owned)
        .context("the session names no MRENCLAVE")
}
