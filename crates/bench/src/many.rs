// SPDX-License-Identifier: Apache-2.0
//! Whether starting grows with the number of protected files.

use std::time::{Duration, Instant};

use anyhow::Result;
use demo::services::Services;

use crate::Bench;
use crate::image::{Entries, Unpacked, convert, native};
use crate::report::Report;
use crate::sample::side_by_side;
use crate::subject::{Link, Mode, compile, sources};

const FEW: usize = 100;
const MANY: usize = 100_000;
/// Files of a directory.
const TOGETHER: usize = 100;

/// The same program beside 100 and beside 100,000 encrypted files, of which it
/// reads one.
pub(crate) fn measure(bench: &Bench, report: &mut Report) -> Result<()> {
    let services = Services::start(&bench.programs, &bench.work)?;
    let program = compile(&sources(), "read", Link::Static, &bench.work)?;
    let prepare = |name: &str, count: usize| -> Result<(Unpacked, Duration)> {
        let dir = bench.work.join(name);
        let names = names(count);
        let mut files: Entries<'_> = vec![("data/", 0o755, None)];
        for (directory, paths) in &names {
            files.push((directory, 0o755, None));
            files.extend(
                paths
                    .iter()
                    .map(|path| (path.as_str(), 0o644, Some(path.as_bytes()))),
            );
        }
        let image = native(&dir, &program, &["/data/0/7"], files)?;
        let begin = Instant::now();
        let options = ["--heap=64M", "--dir=/data"];
        let image = convert(bench, &services, &image, &dir, &options)?;
        let took = begin.elapsed();
        Ok((Unpacked::new(bench, &image, &dir.join("root"))?, took))
    };
    let (few, _) = prepare("few", FEW)?;
    let (many, conversion) = prepare("many", MANY)?;
    let [beside, ours] = side_by_side([&|| few.command(Mode::Fast), &|| many.command(Mode::Fast)])?;
    report.bar(
        "start with 100,000 protected files against 100, CPU",
        ours.median_cpu() / beside.median_cpu(),
        "x",
        1.10,
        false,
        &format!(
            "{:.1} ms against {:.1} ms (best {:.1} and {:.1}); converting them took {:.1} s",
            ours.median_cpu() * 1e3,
            beside.median_cpu() * 1e3,
            ours.best_cpu() * 1e3,
            beside.best_cpu() * 1e3,
            conversion.as_secs_f64()
        ),
    );
    Ok(())
}

/// Directories and their files.
fn names(count: usize) -> Vec<(String, Vec<String>)> {
    (0..count.div_ceil(TOGETHER))
        .map(|directory| {
            let files = directory * TOGETHER..count.min((directory + 1) * TOGETHER);
            (
                format!("data/{directory}/"),
                files
                    .map(|file| format!("data/{directory}/{}", file % TOGETHER))
                    .collect(),
            )
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{MANY, names};

    #[test]
    fn there_are_as_many_files_as_said_and_each_has_its_own_name() {
        let names = names(MANY);
        let all: std::collections::HashSet<_> = names.iter().flat_map(|(_, files)| files).collect();
        assert_eq!(all.len(), MANY);
        assert!(all.contains(&"data/0/7".to_owned()));
        assert!(names.iter().all(|(directory, files)| {
            files
                .iter()
                .all(|file| file.starts_with(directory.as_str()))
        }));
    }
}
