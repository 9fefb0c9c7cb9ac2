// SPDX-License-Identifier: Apache-2.0
//! The launcher's messages: `[ENSCONCE|LEVEL] text`, one line each, on a private
//! descriptor, because the program may do with its standard error what it likes.

use std::fmt;
use std::fs::File;
use std::io::Write as _;
use std::sync::OnceLock;

use enclave_abi::start::LogLevel;

static SINK: OnceLock<(File, LogLevel)> = OnceLock::new();

/// Sends messages of `level` and above to `file` from now on. Later calls
/// change nothing.
pub fn init(file: File, level: LogLevel) {
    let _ = SINK.set((file, level));
}

/// The launcher cannot go on.
pub fn fatal(text: fmt::Arguments<'_>) {
    write(LogLevel::Fatal, text);
}

/// A weakness that the user must know of; shown at every level.
pub fn notice(text: fmt::Arguments<'_>) {
    write_line("WARNING", text);
}

/// Something is unusual.
pub fn warning(text: fmt::Arguments<'_>) {
    write(LogLevel::Warning, text);
}

/// What happens.
pub fn info(text: fmt::Arguments<'_>) {
    write(LogLevel::Info, text);
}

/// A message of the given level.
pub fn write(level: LogLevel, text: fmt::Arguments<'_>) {
    let wanted = SINK.get().map_or(LogLevel::Error, |(_, wanted)| *wanted);
    if level <= wanted {
        write_line(name(level), text);
    }
}

fn write_line(level: &str, text: fmt::Arguments<'_>) {
    // One write per line: lines of threads do not mix.
    let line = format!("[ENSCONCE|{level}] {text}\n");
    // A closed log must not stop the enclave.
    let _ = match SINK.get() {
        Some((file, _)) => (&mut &*file).write_all(line.as_bytes()),
        None => std::io::stderr().write_all(line.as_bytes()),
    };
}

fn name(level: LogLevel) -> &'static str {
    match level {
        LogLevel::Fatal => "FATAL",
        LogLevel::Error => "ERROR",
        LogLevel::Warning => "WARNING",
        LogLevel::Info => "INFO",
        LogLevel::Debug => "DEBUG",
        LogLevel::Trace => "TRACE",
    }
}
