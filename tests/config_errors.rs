//! Every mistake in a configuration is told with its place, what is wrong and what to write instead.
//!
//! Each `tests/config/bad/NAME.yaml` is refused with exactly the text of `NAME.txt`. To accept what a change of wording
//! does to them, run with `BLESS=1` and read the difference.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use pillion::config::{ConfigError, ConfigErrors, Environment, Loaded, Loader, deserialize_erased};
use pillion_filters::Direction;
use pillion_filters::units::{ByteSize, HumanDuration};
use serde::Deserialize;

const KNOWN: [&str; 9] = [
    "request_id",
    "access_log",
    "tracing",
    "metrics",
    "limits",
    "headers",
    "cache",
    "compression",
    "circuit_breaker",
];

/// What a plugin of the registry might take.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "only read, to see what is refused")]
struct CacheConfig {
    ttl: HumanDuration,
    max_size: Option<ByteSize>,
    #[serde(default)]
    vary: Vec<String>,
}

/// Loads a file, then reads the settings of every `cache` in every chain, as a plugin would.
fn load(file: &Path) -> Result<Loaded, ConfigErrors> {
    let variables = [("PASSWORD".to_owned(), "hunter2".to_owned())];
    let loaded = Loader::new(&KNOWN)
        .environment(Environment::Fixed(variables.into()))
        .files(&[file.to_owned()])?;
    let routes = (0..loaded.config.routes.len()).map(Some);
    let errors: Vec<ConfigError> = std::iter::once(None)
        .chain(routes)
        .flat_map(|route| loaded.chain(Direction::Inbound, route))
        .filter(|filter| filter.plugin == "cache")
        .flat_map(|filter| {
            let read = deserialize_erased(&filter.settings, &filter.path, &mut |deserializer| {
                erased_serde::deserialize::<CacheConfig>(deserializer)
            });
            read.err().unwrap_or_default()
        })
        .collect();
    if errors.is_empty() {
        Ok(loaded)
    } else {
        Err(ConfigErrors::new(errors, loaded.sources))
    }
}

fn fixtures() -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir("tests/config/bad")
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
        .collect();
    files.sort();
    files
}

#[test]
fn each_mistake_is_told_exactly() {
    let files = fixtures();
    assert!(files.len() >= 40, "only {} fixtures were found", files.len());
    let mut wrong = Vec::new();
    for file in files {
        let Err(errors) = load(&file) else {
            wrong.push(format!("{} is accepted", file.display()));
            continue;
        };
        let told = format!("{errors}\n");
        let expectation = file.with_extension("txt");
        if std::env::var_os("BLESS").is_some() {
            fs::write(&expectation, &told).unwrap();
        }
        let expected = fs::read_to_string(&expectation).unwrap_or_default();
        if told != expected {
            wrong.push(format!("{}\n--- expected\n{expected}--- told\n{told}", file.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

#[test]
fn no_error_shows_what_a_variable_holds() {
    for file in fixtures() {
        let Err(errors) = load(&file) else { continue };
        for part in ["hunt", "unte", "nter", "ter2"] {
            assert!(!errors.to_string().contains(part), "{}: {errors}", file.display());
        }
    }
}

#[test]
fn no_error_shows_a_password_in_an_address() {
    let errors = load(Path::new("tests/config/bad/address_with_password.yaml")).unwrap_err();
    for told in [errors.to_string(), errors.render(), format!("{errors:?}")] {
        assert!(told.contains("[redacted]@"), "{told}");
        for part in ["ops", "s3cr3t", "very-long"] {
            assert!(!told.contains(part), "{told}");
        }
    }
    // The caret stands under what is wrong, not where it stood before something was taken out of the line.
    let rendered = errors.render();
    let points_to = |line: &str, caret: &str| {
        line.get(caret.find('^')?..)
            .map(|rest| rest.starts_with("[redacted]@grpc"))
    };
    let mut lines = rendered.lines().zip(rendered.lines().skip(1));
    assert!(
        lines.any(|(line, caret)| points_to(line, caret) == Some(true)),
        "{rendered}"
    );
}

#[test]
fn each_error_names_a_place_that_exists_and_its_path() {
    for file in fixtures() {
        let Err(errors) = load(&file) else { continue };
        for error in errors.errors() {
            let place = &error.position;
            let text = fs::read_to_string(&*place.file).unwrap();
            let line = text.lines().nth(place.line - 1).map(|line| line.chars().count());
            assert!(line.is_some_and(|length| place.column <= length + 1), "{error}");
        }
        let places: BTreeSet<String> = errors.errors().iter().map(ToString::to_string).collect();
        assert_eq!(places.len(), errors.errors().len(), "told twice: {errors}");
    }
}

/// Texts near to real ones: bytes of the fixtures changed, dropped, doubled and swapped, always in the same way.
#[test]
fn no_text_is_too_broken_to_be_told_so() {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut next = move |below: usize| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(state >> 33).unwrap() % below
    };
    let spice: Vec<char> = "{}[]:,-?&*!|>'\"%@`#~$<\t\n\r \u{feff}\u{85}é0.".chars().collect();
    let mut refused = 0;
    for file in fixtures() {
        let original: Vec<char> = fs::read_to_string(&file).unwrap().chars().collect();
        for _ in 0..100 {
            let mut text = original.clone();
            for _ in 0..=next(3) {
                let (at, other) = (next(text.len()), next(text.len()));
                match next(4) {
                    0 => text[at] = spice[next(spice.len())],
                    1 => text.truncate(at.max(1)),
                    2 => text.insert(at, spice[next(spice.len())]),
                    _ => text.swap(at, other),
                }
            }
            let text: String = text.into_iter().collect();
            if let Err(errors) = Loader::new(&KNOWN).text("text.yaml", &text) {
                assert!(!errors.errors().is_empty() && !errors.render().is_empty(), "{text}");
                refused += 1;
            }
        }
    }
    assert!(refused > 1_000, "only {refused} texts were refused");
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let error = load(Path::new("tests/config/nowhere.yaml")).unwrap_err().to_string();
    let expected = "tests/config/nowhere.yaml: cannot read `tests/config/nowhere.yaml`: no such file";
    assert_eq!(error, expected);
}
