// SPDX-License-Identifier: Apache-2.0
//! Closures of real programs, compared with what the real loaders do.
#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use enclave_abi::startup::{Role, StartupList};
use enclave_image::closure::{Closure, ClosureError, Libc};
use enclave_image::elf::ElfError;
use enclave_image::root::{HostRoot, RootError, resolve};
use enclave_image::startup;

fn find(path: &Path) -> Result<Closure, ClosureError> {
    Closure::find(&HostRoot::new("/"), path.as_os_str().as_bytes())
}

fn paths(closure: &Closure) -> BTreeSet<PathBuf> {
    closure
        .files
        .iter()
        .map(|file| PathBuf::from(std::ffi::OsStr::from_bytes(&file.path)))
        .collect()
}

/// What the dynamic loader itself says it loads, without symbolic links.
fn ldd(program: &Path) -> BTreeSet<PathBuf> {
    let out = Command::new("ldd").arg(program).output().unwrap();
    String::from_utf8(out.stdout)
        .unwrap()
        .split_whitespace()
        .filter(|word| word.starts_with('/'))
        .map(|word| fs::canonicalize(word).unwrap())
        .collect()
}

fn compile(compiler: &str, args: &[&str], source: &str, out: &Path) {
    let input = out.with_extension("c");
    fs::write(&input, source).unwrap();
    let status = Command::new(compiler)
        .args(["-o".as_ref(), out.as_os_str(), input.as_os_str()])
        .args(args)
        .current_dir(out.parent().unwrap())
        .status()
        .unwrap_or_else(|error| panic!("{compiler} is installed: {error}"));
    assert!(status.success());
}

const MAIN: &str = "int main(void) { return 0; }\n";

#[test]
fn closures_of_installed_programs_are_what_the_loader_loads() {
    for program in [
        "/usr/bin/ls",
        "/usr/bin/openssl",
        "/usr/bin/gcc",
        "/usr/bin/apt-get",
    ] {
        let program = fs::canonicalize(program).unwrap();
        let closure = find(&program).unwrap();
        assert_eq!(closure.libc, Libc::Glibc);
        let mut expected = ldd(&program);
        expected.insert(program.clone());
        let variants = |path: &PathBuf| path.to_string_lossy().contains("glibc-hwcaps");
        let mut got = paths(&closure);
        got.retain(|path| !variants(path));
        expected.retain(|path| !variants(path));
        assert_eq!(got, expected, "{program:?}");
        assert_eq!(closure.files[0].role, Role::Program);
        assert_eq!(closure.files[1].role, Role::Loader);
        assert!(closure.files[2..].iter().all(|f| f.role == Role::Library));
    }
}

#[test]
fn musl_programs_need_their_loader_only() {
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join("program");
    compile("musl-gcc", &["-O2"], MAIN, &program);
    let closure = find(&program).unwrap();
    assert_eq!(closure.libc, Libc::Musl);
    let loader = fs::canonicalize("/lib/ld-musl-x86_64.so.1").unwrap();
    assert_eq!(paths(&closure), [program, loader].into());
}

#[test]
fn static_programs_need_nothing() {
    let dir = tempfile::tempdir().unwrap();
    for kind in ["-static", "-static-pie"] {
        let program = dir.path().join(kind);
        compile("gcc", &[kind], MAIN, &program);
        let closure = find(&program).unwrap();
        assert_eq!(closure.libc, Libc::Static);
        assert_eq!(closure.files.len(), 1);
        assert_eq!(closure.program(), program.as_os_str().as_bytes());
    }
}

#[test]
fn search_paths_in_the_files_are_followed_like_the_loader_does() {
    let dir = tempfile::tempdir().unwrap();
    let dir = fs::canonicalize(dir.path()).unwrap();
    for sub in ["lib", "lib/inner", "bin"] {
        fs::create_dir(dir.join(sub)).unwrap();
    }
    let inner = dir.join("lib/inner/libinner.so");
    compile(
        "gcc",
        &["-shared", "-fPIC", "-Wl,-soname,libinner.so"],
        "int inner(void){return 1;}\n",
        &inner,
    );
    let outer = dir.join("lib/libouter.so");
    let source = "int inner(void); int outer(void){return inner();}\n";
    compile(
        "gcc",
        &[
            "-shared",
            "-fPIC",
            "-Linner",
            "-linner",
            "-Wl,-rpath,$ORIGIN/inner",
        ],
        source,
        &outer,
    );
    let main = "int outer(void); int main(void){return outer();}\n";
    let tags = [
        ("runpath", "-Wl,--enable-new-dtags"),
        ("rpath", "-Wl,--disable-new-dtags"),
    ];
    for (name, tag) in tags {
        let program = dir.join("bin").join(name);
        let link = [
            "-L../lib",
            "-louter",
            "-Wl,-rpath-link,../lib/inner",
            tag,
            "-Wl,-rpath,${ORIGIN}/../lib",
        ];
        compile("gcc", &link, main, &program);
        let closure = find(&program).unwrap();
        let mut expected = ldd(&program);
        expected.insert(program.clone());
        assert!(expected.contains(&inner));
        assert_eq!(paths(&closure), expected, "{name}");
    }
    fs::remove_file(&inner).unwrap();
    let error = find(&dir.join("bin/runpath")).unwrap_err();
    let ClosureError::Missing {
        name,
        wanted_by,
        searched,
    } = error
    else {
        panic!("{error}");
    };
    assert_eq!(name, b"libinner.so");
    assert_eq!(wanted_by, outer.as_os_str().as_bytes());
    assert_eq!(searched[0], dir.join("lib/inner").as_os_str().as_bytes());
}

/// A root of its own, in which links lead out unless they are confined.
fn small_root() -> (tempfile::TempDir, HostRoot) {
    let dir = tempfile::tempdir().unwrap();
    let at = |path: &str| dir.path().join(path);
    for sub in ["bin", "lib64", "opt/libs", "etc/ld.so.conf.d"] {
        fs::create_dir_all(at(sub)).unwrap();
    }
    fs::write(at("opt/marker"), "").unwrap();
    compile(
        "gcc",
        &["-shared", "-fPIC", "-Wl,-soname,libx.so.1"],
        "int x(void){return 0;}\n",
        &at("opt/libs/libx.so.1.0"),
    );
    symlink("/opt/libs/libx.so.1.0", at("opt/libs/libx.so.1")).unwrap();
    compile(
        "gcc",
        &["../opt/libs/libx.so.1.0"],
        "int x(void); int main(void){return x();}\n",
        &at("bin/program"),
    );
    fs::copy("/lib64/ld-linux-x86-64.so.2", at("opt/libs/ld.so")).unwrap();
    symlink("../opt/libs/ld.so", at("lib64/ld-linux-x86-64.so.2")).unwrap();
    fs::copy("/lib/x86_64-linux-gnu/libc.so.6", at("lib64/libc.so.6")).unwrap();
    fs::write(
        at("etc/ld.so.conf"),
        "# comment\ninclude ld.so.conf.d/*.conf\n",
    )
    .unwrap();
    fs::write(at("etc/ld.so.conf.d/x.conf"), "/opt/libs # here\n").unwrap();
    let root = HostRoot::new(dir.path());
    (dir, root)
}

#[test]
fn configuration_and_links_are_those_of_the_image() {
    let (_dir, root) = small_root();
    let closure = Closure::find(&root, b"/bin/../bin/program").unwrap();
    let got: Vec<&[u8]> = closure.files.iter().map(|f| &f.path[..]).collect();
    assert_eq!(
        got,
        [
            &b"/bin/program"[..],
            b"/opt/libs/ld.so",
            b"/opt/libs/libx.so.1.0",
            b"/lib64/libc.so.6"
        ]
    );
}

#[test]
fn variants_for_newer_cpus_are_all_taken() {
    let (dir, root) = small_root();
    let variant = dir.path().join("opt/libs/glibc-hwcaps/x86-64-v3");
    fs::create_dir_all(&variant).unwrap();
    fs::copy(
        dir.path().join("opt/libs/libx.so.1.0"),
        variant.join("libx.so.1"),
    )
    .unwrap();
    let closure = Closure::find(&root, b"/bin/program").unwrap();
    let has = |path: &[u8]| closure.files.iter().any(|f| f.path == path);
    assert!(has(b"/opt/libs/glibc-hwcaps/x86-64-v3/libx.so.1"));
    assert!(has(b"/opt/libs/libx.so.1.0"));
}

#[test]
fn objects_for_other_machines_are_passed_over() {
    let (dir, root) = small_root();
    fs::create_dir(dir.path().join("opt/first")).unwrap();
    let mut foreign = fs::read(dir.path().join("opt/libs/libx.so.1.0")).unwrap();
    foreign[18] = 183;
    fs::write(dir.path().join("opt/first/libx.so.1"), foreign).unwrap();
    fs::write(dir.path().join("etc/ld.so.conf.d/a.conf"), "/opt/first\n").unwrap();
    let closure = Closure::find(&root, b"/bin/program").unwrap();
    assert!(
        closure
            .files
            .iter()
            .any(|f| f.path == b"/opt/libs/libx.so.1.0")
    );
}

#[test]
fn unusable_programs_are_named() {
    let (dir, root) = small_root();
    let find = |path: &[u8]| Closure::find(&root, path).unwrap_err();
    fs::write(dir.path().join("bin/script"), "#!/bin/sh\necho\n").unwrap();
    let error = find(b"/bin/script");
    assert!(
        matches!(&error, ClosureError::Script { first_line, .. } if first_line == b"#!/bin/sh")
    );
    assert!(matches!(find(b"/bin/none"), ClosureError::NotFound { .. }));
    assert!(matches!(
        find(b"/bin/program/none"),
        ClosureError::NotFound { .. }
    ));
    assert!(matches!(find(b"/bin"), ClosureError::NotAFile { .. }));
    assert!(matches!(
        find(b"bin/program"),
        ClosureError::Root(RootError::Path { .. })
    ));
    fs::write(dir.path().join("bin/text"), "hello").unwrap();
    assert!(matches!(
        find(b"/bin/text"),
        ClosureError::Elf {
            source: ElfError::NotElf,
            ..
        }
    ));
    fs::remove_file(dir.path().join("opt/libs/ld.so")).unwrap();
    assert!(matches!(
        find(b"/bin/program"),
        ClosureError::Interpreter { .. }
    ));
}

#[test]
fn a_file_of_many_names_is_one_file() {
    let (dir, root) = small_root();
    let at = |path: &str| dir.path().join(path);
    let names: Vec<String> = (0..900).map(|n| format!("libw{n}.so")).collect();
    compile(
        "gcc",
        &["-shared", "-fPIC"],
        "int w(void){return 0;}\n",
        &at("opt/libs/libw.so"),
    );
    for name in &names {
        symlink("libw.so", at("opt/libs").join(name)).unwrap();
    }
    let wants: Vec<String> = names.iter().map(|name| format!("-l:{name}")).collect();
    let mut args = vec!["-Wl,--no-as-needed", "-L../opt/libs"];
    args.extend(wants.iter().map(String::as_str));
    compile("gcc", &args, MAIN, &at("bin/wants"));
    let closure = Closure::find(&root, b"/bin/wants").unwrap();
    let same = closure
        .files
        .iter()
        .filter(|f| f.path == b"/opt/libs/libw.so");
    assert_eq!(same.count(), 1, "one file under many names is one file");
}

#[test]
fn links_stay_inside_and_end() {
    let (dir, root) = small_root();
    let at = |path: &str| dir.path().join(path);
    symlink("loop-b", at("loop-a")).unwrap();
    symlink("loop-a", at("loop-b")).unwrap();
    assert!(matches!(
        resolve(&root, b"/loop-a"),
        Err(RootError::Links { .. })
    ));
    symlink("../../../../../../opt/marker", at("bin/out")).unwrap();
    let (path, _) = resolve(&root, b"/bin/out").unwrap().unwrap();
    assert_eq!(path, b"/opt/marker");
    symlink("/etc/passwd", at("bin/absolute")).unwrap();
    assert_eq!(resolve(&root, b"/bin/absolute").unwrap(), None);
    // A chain that doubles at every step must not run forever.
    for step in 0..60 {
        let target = format!("d{}/d{}", step + 1, step + 1);
        symlink(target, at(&format!("d{step}"))).unwrap();
    }
    assert!(matches!(
        resolve(&root, b"/d0"),
        Err(RootError::Links { .. }) | Ok(None)
    ));
}

#[test]
fn startup_list_is_reproducible_and_holds_every_file() {
    let (_dir, root) = small_root();
    let closure = Closure::find(&root, b"/bin/program").unwrap();
    let list = startup::list(&closure).unwrap();
    assert_eq!(
        list,
        startup::list(&Closure::find(&root, b"/bin/program").unwrap()).unwrap()
    );
    assert_eq!(StartupList::decode(&list.encode()).unwrap(), list);
    assert_eq!(list.files.len(), closure.files.len());
    for (file, source) in list.files.iter().zip(&closure.files) {
        assert_eq!(file.path, source.path);
        assert_eq!(file.size, source.bytes.len() as u64);
        let chunks: Vec<_> = source
            .bytes
            .chunks(65536)
            .map(shieldfs::digest::chunk_hash)
            .collect();
        assert_eq!(file.chunks, chunks);
    }
    let libc = list.find(b"/lib64/libc.so.6").unwrap();
    assert!(libc.sites.len() > 400);
}
