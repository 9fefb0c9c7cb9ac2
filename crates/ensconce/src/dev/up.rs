// SPDX-License-Identifier: Apache-2.0
//! `ensconce dev up`.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::{
    DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _,
};
use std::path::Path;

use attest::las::Address as LasAddress;
use attest::time::UnixTime;
use las::platform::{Platform, PlatformInfo};
use rustix::fs::FlockOperation;

use super::place::Place;
use super::process::Starting;
use super::purge::{LOCK, MADE_PLATFORM};
use super::record::Record;
use super::services::{
    CAS, CasAnswer, LAS, ask_cas, ask_las, cas_arguments, las_arguments, log_file, program,
    ready_file, record_file,
};
use super::{Up, down};
use crate::console::Console;
use crate::exit::{Class, Classify as _, Failure};

/// Permission bits of the socket unless told otherwise (S19).
const SOCKET_MODE: u32 = 0o660;

/// Starts what does not run yet, waits until it answers, says how to use it.
pub(super) fn up(place: &Place, options: &Up) -> Result<(), Failure> {
    let console = Console::new(false, false, false);
    make_dir(&place.state, 0o700)?;
    let lock = lock(place)?;
    let anchor = platform(place)?;
    let place = &las(place, options, &anchor)?;
    let cas = cas(place, options)?;
    drop(lock);

    console.warning(
        "for development only: the processor is emulated and the CAS runs outside any enclave, so \
         nothing is protected from the root user of this machine",
    );
    let has_wide_socket = warn_of_wide_socket(place, console);
    print!("{}", instructions(place, &cas, &anchor));
    if !has_wide_socket {
        let user = rustix::process::geteuid();
        console.notice(if user.is_root() {
            format!(
                "only root reaches the socket; for a container that runs as user 1000: ensconce \
                 dev up{} --allow-user 1000",
                place.option()
            )
        } else {
            format!(
                "only this user reaches the socket; let containers run as the same one: docker \
                 run --user={}",
                user.as_raw()
            )
        });
    }
    Ok(())
}

/// One `up` or `down` at a time.
pub(super) fn lock(place: &Place) -> Result<File, Failure> {
    let path = place.file(LOCK);
    let doing = || format!("Cannot lock '{}'", path.display());
    let file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .class(Class::Internal, doing())?;
    rustix::fs::flock(&file, FlockOperation::LockExclusive).class(Class::Internal, doing())?;
    Ok(file)
}

/// Makes a directory and those above it; leaves existing ones as they are.
fn make_dir(path: &Path, mode: u32) -> Result<(), Failure> {
    let make = || -> io::Result<()> {
        if path.is_dir() {
            return Ok(());
        }
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        DirBuilder::new().mode(mode).create(path)?;
        // The umask may have taken more away.
        fs::set_permissions(path, fs::Permissions::from_mode(mode))
    };
    make().class(
        Class::Internal,
        format!(
            "Cannot make the directory '{}'; name another one with --dir",
            path.display()
        ),
    )
}

/// Makes the platform if there is none; gives its anchor.
fn platform(place: &Place) -> Result<String, Failure> {
    let usable = || {
        format!(
            "The platform in '{}' is not usable",
            place.platform.display()
        )
    };
    if !place.platform.exists() {
        if let Some(parent) = place.platform.parent() {
            fs::create_dir_all(parent).class(Class::Internal, usable())?;
        }
        // Before the platform, so that an interrupted making is cleaned up too.
        fs::write(place.file(MADE_PLATFORM), "").class(Class::Internal, usable())?;
        Platform::init(&place.platform, UnixTime::from_system())
            .class(Class::Internal, "Cannot make the emulated platform")?;
    }
    PlatformInfo::read(&place.platform)
        .map(|info| info.anchor)
        .class(Class::Internal, usable())
}

/// The running LAS, started if need be; gives the place with its socket.
fn las(place: &Place, options: &Up, anchor: &str) -> Result<Place, Failure> {
    let file = record_file(place, LAS);
    let mut place = place.clone();
    if let Some(record) = Record::read(&file)?.filter(Record::is_running) {
        let socket = record.socket.unwrap_or_else(|| place.socket.clone());
        if place.is_socket_chosen && place.socket != socket {
            return Err(another(&place, LAS, socket.display()));
        }
        place.socket = socket;
        let answer = ask_las(&LasAddress::Unix(place.socket.clone()));
        check_las(answer, anchor).map_err(|problem| {
            Failure::new(
                Class::Internal,
                format!(
                    "The LAS runs (process {}) but {problem}; restart it: ensconce dev down{opt} \
                     && ensconce dev up{opt}",
                    record.pid,
                    opt = place.option()
                ),
            )
        })?;
        if let Some(mode) = options.socket_mode {
            fs::set_permissions(&place.socket, fs::Permissions::from_mode(mode)).class(
                Class::Internal,
                format!("Cannot change the mode of '{}'", place.socket.display()),
            )?;
        }
    } else {
        if let Some(parent) = place.socket.parent() {
            // Containers of any user pass through it; the socket has its own bits.
            make_dir(parent, 0o755)?;
        }
        let mode = options.socket_mode.unwrap_or(SOCKET_MODE);
        let starting = Starting::spawn(
            "ensconce-las",
            &program(LAS)?,
            &las_arguments(&place, mode),
            &log_file(&place, LAS),
        )?;
        starting.record(Some(place.socket.clone()))?.write(&file)?;
        let address = LasAddress::Unix(place.socket.clone());
        let ready = starting.wait_for(|| check_las(ask_las(&address), anchor));
        if ready.is_err() {
            down::remove(&file)?;
        }
        ready?;
    }
    if let Some(uid) = options.allow_user {
        give_socket(&place, uid)?;
    }
    Ok(place)
}

fn check_las(
    answer: Result<super::services::LasAnswer, String>,
    anchor: &str,
) -> Result<(), String> {
    match answer {
        Ok(las) if las.is_emulated && las.anchor == anchor => Ok(()),
        Ok(_) => Err("its platform is another one".to_owned()),
        Err(problem) => Err(problem),
    }
}

fn give_socket(place: &Place, uid: u32) -> Result<(), Failure> {
    let owner = rustix::fs::Uid::from_raw(uid);
    match rustix::fs::chown(&place.socket, Some(owner), None) {
        Err(rustix::io::Errno::PERM) => Err(Failure::new(
            Class::Usage,
            "Only root can give the socket to another user; as this user, --socket-mode 0666 lets \
             every user of this machine in",
        )),
        other => other.class(
            Class::Internal,
            format!("Cannot change the owner of '{}'", place.socket.display()),
        ),
    }
}

/// The running CAS, started if need be.
fn cas(place: &Place, options: &Up) -> Result<CasAnswer, Failure> {
    let file = record_file(place, CAS);
    let ready = ready_file(place);
    if let Some(record) = Record::read(&file)?.filter(Record::is_running) {
        let cas = ask_cas(&ready).map_err(|problem| {
            Failure::new(
                Class::Internal,
                format!(
                    "The CAS runs (process {}) but {problem}; restart it: ensconce dev down{opt} \
                     && ensconce dev up{opt}",
                    record.pid,
                    opt = place.option()
                ),
            )
        })?;
        let differs =
            |wanted: Option<u16>, has| wanted.is_some_and(|port| port != 0 && port != has);
        if differs(options.api_port, cas.address.rest_port)
            || differs(options.attested_port, cas.address.attested_port)
            || options.listen.is_some_and(|listen| listen != cas.listen)
        {
            return Err(another(place, CAS, &cas.address));
        }
        return Ok(cas);
    }
    down::remove(&ready)?;
    let arguments = cas_arguments(
        place,
        options.listen.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        options.api_port.unwrap_or(cas::api::PORT),
        options.attested_port.unwrap_or(cas::channel::PORT),
    );
    let starting = Starting::spawn(
        "ensconce-cas",
        &program(CAS)?,
        &arguments,
        &log_file(place, CAS),
    )?;
    starting.record(None)?.write(&file)?;
    let answer = starting.wait_for(|| ask_cas(&ready));
    if answer.is_err() {
        down::remove(&file)?;
    }
    answer
}

fn another(place: &Place, service: &str, address: impl std::fmt::Display) -> Failure {
    Failure::new(
        Class::Usage,
        format!(
            "The {} runs already at {address}; to move it: ensconce dev down{opt}, then ensconce \
             dev up{opt} with the new address",
            service.to_uppercase(),
            opt = place.option()
        ),
    )
}

/// Warns of everybody whom the socket lets in besides this user.
fn warn_of_wide_socket(place: &Place, console: Console) -> bool {
    let power = "forge evidence of any enclave on this platform and derive any enclave's keys";
    let Ok(metadata) = fs::metadata(&place.socket) else {
        return false;
    };
    let owner = metadata.uid();
    let is_given = owner != rustix::process::geteuid().as_raw();
    if is_given {
        console.warning(format!("INSECURE: user {owner} can {power}"));
    }
    let is_open = metadata.mode() & 0o006 != 0;
    if is_open {
        console.warning(format!(
            "INSECURE: the socket has mode {:04o}, so every user of this machine can {power}",
            metadata.mode() & 0o7777
        ));
    }
    is_open || is_given
}

/// What to type next.
fn instructions(place: &Place, cas: &CasAnswer, anchor: &str) -> String {
    let socket = place.socket.display();
    let is_default = place.socket == Path::new(enclave_abi::las::DEFAULT_SOCKET);
    let run = if is_default {
        String::new()
    } else {
        format!("SCONE_LAS_ADDR=unix:{socket} ")
    };
    // Containers find the socket under its default path, whatever it is here.
    let volume = match place.socket.parent() {
        Some(dir) if place.socket.ends_with("las.sock") => {
            format!("{}:/run/ensconce", dir.display())
        }
        _ => format!("{socket}:{}", enclave_abi::las::DEFAULT_SOCKET),
    };
    format!(
        "\
CAS       {address}
CAS key   {key}
LAS       unix:{socket}
platform  {platform}
anchor    {anchor}
state     {state}

Convert:
  ensconce convert --from=IMAGE --to=IMAGE --binary=PATH \\
    --cas={address} --cas-debug \\
    --allow-debug-mode --allow-emulated-platform={anchor}
Run without a container:
  {run}ensconce run IMAGE
Run with docker:
  docker run --network=host -v {volume} IMAGE
",
        address = cas.address,
        key = cas.key,
        platform = place.platform.display(),
        state = place.state.display(),
    )
}
