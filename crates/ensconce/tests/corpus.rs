// SPDX-License-Identifier: Apache-2.0
//! Real programs, natively and in an enclave: equal output, equal end.
//!
//! Every case runs in both modes of the emulated CPU. The built programs are
//! found through `ENSCONCE_DIST`, the compilers are `gcc` and `musl-gcc`.
#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

#[path = "corpus/case.rs"]
mod case;

use case::{Case, Mode, compare, refuses_children};

/// Declares every case once per mode.
macro_rules! corpus {
    ($($name:ident = $case:expr;)*) => {
        mod fast {
            use super::*;
            $(#[test] fn $name() { compare(&$case, Mode::Fast); })*
        }
        mod strict {
            use super::*;
            $(#[test] fn $name() { compare(&$case, Mode::Strict); })*
        }
    };
}

corpus! {
    hello_glibc_static = Case::c("hello", "gcc", "-static").args(&["one", "", "two words"]);
    hello_glibc_static_pie = Case::c("hello", "gcc", "-static-pie").args(&["one"]);
    hello_glibc_dynamic_pie = Case::c("hello", "gcc", "-pie").args(&["one"]);
    hello_glibc_dynamic_fixed = Case::c("hello", "gcc", "-no-pie").args(&["one"]);
    hello_musl_static = Case::c("hello", "musl-gcc", "-static").args(&["one"]);
    hello_musl_dynamic_pie = Case::c("hello", "musl-gcc", "-pie").args(&["one"]);
    hello_musl_dynamic_fixed = Case::c("hello", "musl-gcc", "-no-pie").args(&["one"]);

    standard_input_is_copied = Case::c("echo", "gcc", "-pie").input(300_000);
    threads_glibc = Case::c("threads", "gcc", "-pie");
    threads_glibc_static = Case::c("threads", "gcc", "-static");
    threads_musl = Case::c("threads", "musl-gcc", "-pie");
    faults_are_handled = Case::c("segv", "gcc", "-pie");
    faults_are_handled_musl_static = Case::c("segv", "musl-gcc", "-static");
    alarms_during_floating_point = Case::c("alarm", "gcc", "-pie");
    signals_glibc = Case::c("signals", "gcc", "-pie");
    signals_musl = Case::c("signals", "musl-gcc", "-pie");
    memory_glibc = Case::c("memory", "gcc", "-pie").file("mapped");
    memory_musl_static = Case::c("memory", "musl-gcc", "-static").file("mapped");
    pipes_and_epoll = Case::c("ipc", "gcc", "-pie");
    pipes_and_epoll_musl = Case::c("ipc", "musl-gcc", "-pie");
    futexes = Case::c("futex", "gcc", "-pie");
    files_glibc = Case::c("files", "gcc", "-pie").file(".");
    files_musl = Case::c("files", "musl-gcc", "-static").file(".");
    sockets = Case::c("sockets", "gcc", "-pie").file("socket");
    registers_survive_interruptions = Case::c("torture", "gcc", "-pie").args(&[&case::torture_seconds()]);

    death_by_abort = Case::c("die", "gcc", "-pie").args(&["abort"]);
    death_by_unhandled_fault = Case::c("die", "gcc", "-pie").args(&["segv"]);
    death_by_illegal_instruction = Case::c("die", "gcc", "-pie").args(&["ill"]);
    death_by_sigkill = Case::c("die", "gcc", "-pie").args(&["kill"]);
    exit_code_is_passed_on = Case::c("die", "gcc", "-pie").args(&["exit"]);
    exit_from_another_thread = Case::c("die", "gcc", "-pie").args(&["thread"]);

    installed_ls = Case::installed("/usr/bin/ls").args(&["-la", "/usr/share/doc/bash"]);
    installed_sort = Case::installed("/usr/bin/sort").args(&["-r"]).input(5_000);
    installed_perl = Case::installed("/usr/bin/perl").args(&["-e", "print join(',', map { $_ ** 2 } 1..50), \"\\n\""]);
    python_json_and_hashes = Case::python("json_and_hashes");
    python_threading_and_queues = Case::python("threading_and_queues");
    python_http_server = Case::python("http_server");
    python_database = Case::python("database").file(".");
    python_signals_and_asyncio = Case::python("signals_and_asyncio");
}

#[test]
fn python_reports_that_processes_cannot_be_made() {
    for mode in [Mode::Fast, Mode::Strict] {
        refuses_children(&Case::python("no_children"), mode);
    }
}
