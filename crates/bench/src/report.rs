// SPDX-License-Identifier: Apache-2.0
//! The table that a person reads: what was measured, against what, and whether
//! the bar holds. A missed bar is printed, not hidden; it does not fail the run.

use std::fmt::Write as _;

/// Figures of others for the same jobs, for orientation.
pub(crate) const PEERS: &str = "\
Quoted, not measured here: peers on this kind of machine need 12.5 ms of CPU for a C hello and 28 ms for \
`python3 -c pass` (gramine-direct), 1039 ns for a raw system call (gramine-direct), and read encrypted files \
at 101 MB per CPU second. CPU is user and system time of all processes of a side; figures are medians of seven \
alternating runs.";

/// One line.
#[derive(Debug)]
struct Row {
    what: String,
    ours: String,
    beside: String,
    bar: String,
    holds: Option<bool>,
}

/// All lines of a run.
#[derive(Debug, Default)]
pub(crate) struct Report(Vec<Row>);

impl Report {
    /// A figure with a bar: holds if `value <= limit` (or `>=` for rates).
    pub(crate) fn bar(
        &mut self,
        what: &str,
        value: f64,
        unit: &str,
        limit: f64,
        is_floor: bool,
        beside: &str,
    ) {
        let holds = if is_floor {
            value >= limit
        } else {
            value <= limit
        };
        self.0.push(Row {
            what: what.to_owned(),
            ours: format!("{value:.2} {unit}"),
            beside: beside.to_owned(),
            bar: format!("{} {limit} {unit}", if is_floor { ">=" } else { "<=" }),
            holds: Some(holds),
        });
        eprintln!("bench: {what}: {value:.2} {unit} ({beside})");
    }

    /// A figure that is only reported.
    pub(crate) fn figure(&mut self, what: &str, value: f64, unit: &str, beside: &str) {
        self.0.push(Row {
            what: what.to_owned(),
            ours: format!("{value:.2} {unit}"),
            beside: beside.to_owned(),
            bar: String::new(),
            holds: None,
        });
        eprintln!("bench: {what}: {value:.2} {unit} ({beside})");
    }

    /// Something that could not be measured, and why.
    pub(crate) fn missing(&mut self, what: &str, why: &str) {
        self.0.push(Row {
            what: what.to_owned(),
            ours: "not measured".to_owned(),
            // A cell is one line; the whole story goes to standard error.
            beside: why.lines().next().unwrap_or_default().to_owned(),
            bar: String::new(),
            holds: Some(false),
        });
        eprintln!("bench: {what}: not measured: {why}");
    }

    /// The table as Markdown.
    pub(crate) fn table(&self) -> String {
        let mut out = String::from("| measured | ours | beside | bar | |\n|---|---|---|---|---|\n");
        for row in &self.0 {
            let verdict = match row.holds {
                Some(true) => "holds",
                Some(false) => "MISSED",
                None => "",
            };
            // Writing to a string cannot fail.
            let _ = writeln!(
                out,
                "| {} | {} | {} | {} | {verdict} |",
                row.what, row.ours, row.beside, row.bar
            );
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::Report;

    #[test]
    fn a_missed_bar_is_named() {
        let mut report = Report::default();
        report.bar("start", 11.0, "ms", 10.0, false, "native 1 ms");
        report.bar("read", 700.0, "MB/s", 600.0, true, "native 5000 MB/s");
        report.missing("docker", "dockerd ended\nwith a long story");
        let table = report.table();
        assert!(table.contains("| docker | not measured | dockerd ended |  | MISSED |"));
        assert!(table.contains("| start | 11.00 ms | native 1 ms | <= 10 ms | MISSED |"));
        assert!(table.contains("| read | 700.00 MB/s | native 5000 MB/s | >= 600 MB/s | holds |"));
    }
}
