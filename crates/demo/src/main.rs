// SPDX-License-Identifier: Apache-2.0
//! `make demo`: the main job, told step by step while it happens.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use demo::job::{Client, Converted, arguments, convert, start};
use demo::markers;
use demo::native::{self, MARKERS};
use demo::process::{Programs, Running};
use demo::refusals::Scene;
use demo::services::Services;

fn main() -> Result<()> {
    let target =
        PathBuf::from(std::env::var_os("ENSCONCE_TARGET").unwrap_or_else(|| "target".into()));
    let programs = Programs::in_dist(&target.join("dist"))?;
    let keep = std::env::var("KEEP").is_ok_and(|value| value == "1");
    let work = target.join("demo/run");
    if work.exists() {
        fs::remove_dir_all(&work).context("while removing the last run")?;
    }
    fs::create_dir_all(&work).context("while making the run's directory")?;
    let work = work.canonicalize()?;
    let mut clock = Clock::default();

    title("1. A native image: Debian with Flask, a service, its TLS key");
    let native = clock.time("native image (Debian packages cached)", || {
        native::build(&target.join("demo/cache"), &work)
    })?;
    let found: BTreeSet<_> = markers::in_layout(&native.dir)?
        .into_iter()
        .map(|(_, marker)| marker)
        .collect();
    say(&format!(
        "{}: a thief of this image reads {} of {} planted secrets",
        native.reference(),
        found.len(),
        MARKERS.len()
    ));

    title("2. An emulated SGX platform, its quoting service, a development CAS");
    let services = clock.time("platform, LAS and CAS", || {
        Services::start(&programs, &work)
    })?;
    say("emulation runs the production software without SGX; it protects nothing against root");

    title("3. sconify_image");
    let converted = clock.time("conversion", || {
        convert(&programs, &services, &native, &work)
    })?;
    for argument in arguments(
        &native.reference(),
        &converted.reference,
        &services,
        &converted.session,
        converted.port,
    ) {
        say(&format!("    {argument}"));
    }
    say(
        "the last three are for development: a CAS outside an enclave, an unsigned enclave, an emulated processor",
    );
    let found = markers::in_layout(&converted.dir)?;
    ensure!(
        found.is_empty(),
        "the converted image still holds {found:?}"
    );
    say(&format!(
        "{}: no secret in any layer, configuration or history",
        converted.reference
    ));

    title("4. It serves, without Docker and without root");
    let begin = Instant::now();
    let mut service = start(&programs, &converted.reference, &work, "service.log")?;
    let client = Client::new(&native.certificate, converted.port);
    let about = client.wait_until_serving(&mut service)?;
    clock.add("start to first HTTPS answer", begin.elapsed());
    say(&format!("GET /                {}", about.trim()));
    let stored = clock.time("one HTTPS POST", || {
        client.post("/notes/meeting", r#"{"at":"noon"}"#)
    })?;
    say(&format!("POST /notes/meeting  {}", stored.trim()));
    let recalled = clock.time("one HTTPS GET", || client.get("/notes/meeting"))?;
    say(&format!("GET /notes/meeting   {}", recalled.trim()));
    ensure!(
        recalled.contains("noon"),
        "the service forgot what it was told: {recalled}"
    );

    title("5. What root sees beside what the client sees");
    show_roots_view(&service, &converted)?;

    title("6. What is refused");
    if !keep {
        service.stop()?;
    }
    let scene = Scene {
        programs: &programs,
        services: &services,
        converted: &converted,
        work: &work,
    };
    let refusals = [
        scene.without_cas()?,
        scene.with_flipped_bit("/app/rest_api.py")?,
        scene.with_flipped_bit("/usr/lib/python3.11/json/__pycache__/__init__.cpython-311.pyc")?,
        scene.with_flipped_bit("/fspf/fs.fspf")?,
        scene.with_flipped_bit("/ensconce/enclave.img")?,
        scene.with_another_measurement()?,
        scene.with_a_strangers_session()?,
    ];
    for refusal in refusals {
        say(&format!("{}\n      {}", refusal.attempt, refusal.answer));
    }

    title("Times");
    clock.print();
    if keep {
        println!("\nIt still serves. Try:\n  {}", shown(&client));
        println!(
            "Stop it with:\n  kill {} {} {}",
            service.id(),
            services.cas.id(),
            services.las.id()
        );
        service.leave();
        services.leave();
    } else {
        println!(
            "\nEverything that was started has been stopped; files are in {}",
            work.display()
        );
    }
    Ok(())
}

fn show_roots_view(service: &Running, converted: &Converted) -> Result<()> {
    let process = PathBuf::from(format!("/proc/{}", service.id()));
    let arguments = fs::read_to_string(process.join("cmdline"))
        .unwrap_or_default()
        .replace('\0', " ");
    say(&format!("arguments of the process: {}", arguments.trim()));
    let environment = fs::read_to_string(process.join("environ")).unwrap_or_default();
    let markers = markers::in_file(&process.join("environ"))?;
    ensure!(markers.is_empty(), "the environment holds {markers:?}");
    say(&format!(
        "environment of the process: {} variables, GREETING {}",
        environment.split('\0').filter(|v| !v.is_empty()).count(),
        if environment.contains("GREETING") {
            "IS THERE"
        } else {
            "is not among them"
        }
    ));
    let start =
        demo::tamper::first_bytes(&converted.reference, "/app/rest_api.py", 32, &converted.dir)?;
    say(&format!(
        "/app/rest_api.py in the image: {} …",
        hex::encode(start)
    ));
    Ok(())
}

fn shown(client: &Client) -> String {
    let curl = client.curl();
    let arguments: Vec<_> = curl
        .get_args()
        .map(|argument| argument.to_string_lossy().into_owned())
        .collect();
    format!(
        "curl {} {}",
        arguments.join(" ").replace(" * ", " '*' "),
        client.url("/")
    )
}

fn title(text: &str) {
    println!("\n\u{1b}[1m{text}\u{1b}[0m");
}

fn say(text: &str) {
    println!("  {text}");
}

/// Times of the steps, for the table at the end.
#[derive(Debug, Default)]
struct Clock(Vec<(String, Duration)>);

impl Clock {
    fn time<T>(&mut self, what: &str, step: impl FnOnce() -> Result<T>) -> Result<T> {
        let begin = Instant::now();
        let result = step()?;
        self.add(what, begin.elapsed());
        Ok(result)
    }

    fn add(&mut self, what: &str, elapsed: Duration) {
        self.0.push((what.to_owned(), elapsed));
    }

    fn print(&self) {
        for (what, elapsed) in &self.0 {
            println!("  {what:<40} {:>8.0} ms", elapsed.as_secs_f64() * 1000.0);
        }
    }
}
