//! What `pillion check` says of filters' settings: of what is wrong, and of what may be.
//!
//! For each `tests/config/filters/PLUGIN/NAME.yaml` it says exactly the text of `NAME.txt`. A mistake fails the check, a warning
//! does not. To accept what a change of wording does to them, run with `BLESS=1` and read the difference.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "clippy.toml allows these in tests; the helpers stand outside #[test]"
)]

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use pillion_filters::Registry;

fn fixtures() -> Vec<PathBuf> {
    let entries = |folder: &Path| {
        let entries = fs::read_dir(folder).unwrap();
        entries.map(|entry| entry.unwrap().path()).collect::<Vec<_>>()
    };
    let folders = entries(Path::new("tests/config/filters"));
    let mut files: Vec<PathBuf> = folders.iter().flat_map(|folder| entries(folder)).collect();
    files.retain(|file| file.extension() == Some(OsStr::new("yaml")));
    files.sort();
    assert!(files.len() >= 30, "only {} fixtures were found", files.len());
    files
}

/// What `pillion check` says, and whether it is content.
fn check(file: &Path) -> (String, bool) {
    let output = Command::new(env!("CARGO_BIN_EXE_pillion"))
        .arg("check")
        .arg(file)
        .env("PASSWORD", "hunter2")
        .output()
        .unwrap();
    (String::from_utf8(output.stderr).unwrap(), output.status.success())
}

#[test]
fn what_is_said_of_each() {
    let mut wrong = Vec::new();
    for file in fixtures() {
        let (told, content) = check(&file);
        let expectation = file.with_extension("txt");
        if std::env::var_os("BLESS").is_some() {
            fs::write(&expectation, &told).unwrap();
        }
        let expected = fs::read_to_string(&expectation).unwrap_or_default();
        let is_warning = file.file_name().unwrap().to_str().unwrap().starts_with("warns_");
        let may_be_silent = file.file_name().unwrap().to_str().unwrap().starts_with("quiet_");
        let name = file.display();
        if told != expected {
            wrong.push(format!("{name}\n--- expected\n{expected}--- told\n{told}"));
        }
        if content != (is_warning || may_be_silent) || told.is_empty() != may_be_silent {
            wrong.push(format!("{name} (content: {content}) says\n{told}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

#[test]
fn nothing_that_is_said_shows_what_a_variable_holds() {
    for file in fixtures() {
        let (told, _) = check(&file);
        for part in ["hunt", "unte", "nter", "ter2"] {
            assert!(!told.contains(part), "{}: {told}", file.display());
        }
    }
}

#[test]
fn the_folders_are_of_plugins() {
    for entry in fs::read_dir("tests/config/filters").unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(Registry::builtin().get(&name).is_some(), "`{name}` is no plugin");
    }
}
