// SPDX-License-Identifier: Apache-2.0
//! `ensconce dev status`.

use std::process::ExitCode;

use attest::las::Address as LasAddress;
use las::platform::PlatformInfo;

use super::place::Place;
use super::record::Record;
use super::services::{ALL, CAS, ask_cas, ask_las, log_file, ready_file, record_file};
use crate::exit::Failure;

/// Exit code when nothing runs, as in the Linux Standard Base.
const NOTHING_RUNS: u8 = 3;
/// Exit code when something runs and something does not answer.
const PARTLY: u8 = 1;

/// Prints a table; the exit code says whether everything answers.
pub(super) fn status(place: &Place) -> Result<ExitCode, Failure> {
    let mut lines = vec![["SERVICE", "STATE", "PID", "ADDRESS", "DETAIL"].map(String::from)];
    let (mut running, mut answering) = (0, 0);
    for service in ALL {
        let record = Record::read(&record_file(place, service))?;
        let Some(record) = record else {
            lines.push([service, "down", "-", "-", "-"].map(String::from));
            continue;
        };
        if !record.is_running() {
            let log = format!(
                "it ended by itself, see {}",
                log_file(place, service).display()
            );
            lines.push([service, "died", "-", "-", &log].map(String::from));
            continue;
        }
        running += 1;
        let (address, detail) = if service == CAS {
            match ask_cas(&ready_file(place)) {
                Ok(cas) => (cas.address.to_string(), Ok(format!("key {}", cas.key))),
                Err(problem) => ("-".to_owned(), Err(problem)),
            }
        } else {
            let address = LasAddress::Unix(record.socket.unwrap_or_else(|| place.socket.clone()));
            let detail = ask_las(&address).map(|las| format!("anchor {}", las.anchor));
            (address.to_string(), detail)
        };
        answering += usize::from(detail.is_ok());
        let state = if detail.is_ok() { "up" } else { "silent" };
        let detail = detail.unwrap_or_else(|problem| problem);
        let pid = record.pid.to_string();
        lines.push([service, state, &pid, &address, &detail].map(String::from));
    }
    let platform = place.platform.display().to_string();
    let (state, detail) = match PlatformInfo::read(&place.platform) {
        Ok(info) => ("present", format!("emulated, anchor {}", info.anchor)),
        Err(_) if !place.platform.exists() => ("absent", "-".to_owned()),
        Err(error) => ("unusable", format!("{:#}", anyhow::Error::from(error))),
    };
    lines.push(["platform", state, "-", &platform, &detail].map(String::from));
    print!("{}", table(&lines));
    Ok(ExitCode::from(match (running, answering) {
        (_, all) if all == ALL.len() => 0,
        (0, _) => NOTHING_RUNS,
        _ => PARTLY,
    }))
}

/// Columns two blanks apart, the last as long as it is.
fn table<const N: usize>(lines: &[[String; N]]) -> String {
    let mut widths = [0; N];
    for line in lines {
        for (width, cell) in widths.iter_mut().zip(line) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    for line in lines {
        let mut row = String::new();
        for (cell, width) in line.iter().zip(widths) {
            row.push_str(&format!("{cell:width$}  "));
        }
        text.push_str(row.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let lines = [["a", "bb", "c"], ["aaa", "", "cc"]].map(|line| line.map(String::from));
        assert_eq!(table(&lines), "a    bb  c\naaa      cc\n");
    }
}
