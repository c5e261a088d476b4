//! A plugin has one name everywhere, and what is written of it is true.
//!
//! Walks the registry: each plugin has its file, its page, its example, its place in the default chain and in the schema.
//! Every configuration that is shown anywhere passes `pillion check`, the real binary.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "clippy.toml allows these in tests; the helpers stand outside #[test]"
)]

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use pillion::config::load_str;
use pillion_filters::Registry;
use serde_json::Value;

const SERVICE: &str = "service: example\n";
const INBOUND: &str = "inbound: { listen: \"127.0.0.1:8000\", app: \"http://127.0.0.1:8080\" }\n";

fn plugins() -> Vec<&'static str> {
    let plugins: Vec<&str> = Registry::builtin().entries().iter().map(|entry| entry.name).collect();
    assert!(plugins.len() >= 6, "only {plugins:?}");
    plugins
}

/// Runs `pillion check`: whether it is content, and what it says is wrong.
fn check(files: &[PathBuf]) -> (bool, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_pillion"))
        .arg("check")
        .args(files)
        // What docker-compose.yml gives the sidecars.
        .env("ADMIN_TOKEN", "insecure-example")
        .output()
        .unwrap();
    (output.status.success(), String::from_utf8(output.stderr).unwrap())
}

/// The files of a folder with that extension, in those below it too.
fn files(folder: &str, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap_or_else(|error| panic!("{folder}: {error}")) {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(path.to_str().unwrap(), extension));
        } else if path.extension() == Some(OsStr::new(extension)) {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// An empty folder for the files of a test.
fn scratch(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    folder
}

/// The keys of a plugin's settings by the schema that `pillion schema` prints, those of every filter included.
fn keys(schema: &Value, plugin: &str) -> Vec<String> {
    let reference = schema["properties"]["filters"]["properties"][plugin]["$ref"].as_str();
    let pointer = reference.unwrap_or_else(|| panic!("the schema does not name `{plugin}`"));
    let definition = schema.pointer(pointer.trim_start_matches('#')).unwrap();
    definition["properties"].as_object().unwrap().keys().cloned().collect()
}

fn schema() -> Value {
    let output = Command::new(env!("CARGO_BIN_EXE_pillion"))
        .arg("schema")
        .output()
        .unwrap();
    assert!(output.status.success());
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn each_plugin_is_in_its_one_place() {
    let index = fs::read_to_string("docs/README.md").unwrap();
    for name in plugins() {
        assert!(
            Path::new(&format!("filters/src/{name}.rs")).is_file(),
            "no filters/src/{name}.rs"
        );
        let page = format!("docs/filters/{name}.md");
        let text = fs::read_to_string(&page).unwrap_or_else(|error| panic!("{page}: {error}"));
        assert_eq!(text.lines().next(), Some(&*format!("# {name}")), "{page}");
        assert!(
            text.contains(&format!("(../../config/examples/{name}.yaml)")),
            "{page} does not lead to its example"
        );
        assert!(
            index.contains(&format!("[{name}](filters/{name}.md)")),
            "docs/README.md does not list {name}"
        );
        let example = format!("config/examples/{name}.yaml");
        let text = fs::read_to_string(&example).unwrap_or_else(|error| panic!("{example}: {error}"));
        assert!(text.contains(&format!("{name}:")), "{example} is of something else");
    }
}

#[test]
fn no_page_and_no_example_is_of_a_plugin_that_is_gone() {
    let plugins = plugins();
    for file in [files("docs/filters", "md"), files("config/examples", "yaml")].concat() {
        let name = file.file_stem().unwrap().to_str().unwrap();
        assert!(plugins.contains(&name), "{} is of no plugin", file.display());
    }
}

#[test]
fn the_default_chain_has_all_plugins_in_the_registry_s_order() {
    let loaded = load_str("test.yaml", &format!("{SERVICE}{INBOUND}"), &plugins()).unwrap();
    assert_eq!(loaded.config.chain, plugins());
    // Each place in the list says why it is there.
    let defaults = fs::read_to_string("config/defaults.yaml").unwrap();
    for name in plugins() {
        let reason = defaults
            .lines()
            .find_map(|line| line.trim().strip_prefix(&format!("- {name} ")));
        assert!(
            reason.is_some_and(|rest| rest.trim_start().starts_with("# ")),
            "{name} stands in the default chain without a reason"
        );
    }
}

#[test]
fn each_setting_is_on_the_plugins_page() {
    let schema = schema();
    for name in plugins() {
        let page = fs::read_to_string(format!("docs/filters/{name}.md")).unwrap();
        for key in keys(&schema, name) {
            // What every filter takes is on the page of the configuration.
            if !["enabled", "plugin"].contains(&&*key) {
                assert!(
                    page.contains(&format!("`{key}`")),
                    "docs/filters/{name}.md does not tell of `{key}`"
                );
            }
        }
    }
}

#[test]
fn a_misspelt_setting_is_refused_with_the_nearest_right_name() {
    let folder = scratch("misspelt");
    let schema = schema();
    let mut tried = 0;
    for name in plugins() {
        for key in keys(&schema, name) {
            let file = folder.join(format!("{name}-{key}.yaml"));
            let settings = format!("filters: {{ {name}: {{ {key}{}: 1 }} }}\n", key.chars().last().unwrap());
            fs::write(&file, format!("{SERVICE}{INBOUND}{settings}")).unwrap();
            let (content, said) = check(&[file]);
            let wanted = format!("did you mean `{key}`?");
            assert!(!content && said.contains(&wanted), "{settings}{said}");
            tried += 1;
        }
    }
    assert!(tried > 2 * plugins().len(), "only {tried} keys were found");
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn what_comes_with_the_sidecar_passes_the_check() {
    let files = [files("config/examples", "yaml"), files("config/services", "yaml")].concat();
    assert!(files.len() > plugins().len(), "only {files:?}");
    let (content, said) = check(&files);
    assert!(content && said.is_empty(), "{said}");
}

/// The examples of plugins that are not built in need the `main` that adds them: `examples/NAME.yaml` is for
/// `examples/NAME.rs`.
#[test]
fn what_comes_with_the_examples_passes_their_check() {
    let files: Vec<PathBuf> = fs::read_dir("examples")
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension() == Some(OsStr::new("yaml")))
        .collect();
    assert!(!files.is_empty());
    for file in files {
        let output = Command::new(env!("CARGO"))
            .args(["run", "--quiet", "--offline", "--example"])
            .arg(file.file_stem().unwrap())
            .args(["--", "check"])
            .arg(&file)
            .output()
            .unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{}: {said}", file.display());
        let (content, said) = check(&[file]);
        assert!(!content && said.contains("unknown filter"), "{said}");
    }
}

/// A block of YAML in a page, with the line it begins on.
struct Block {
    line: usize,
    text: String,
}

/// The blocks fenced as `yaml`, but not those fenced as `yaml ignore`.
fn blocks(page: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut open: Option<Block> = None;
    for (number, line) in (1..).zip(page.lines()) {
        match &mut open {
            Some(_) if line.trim() == "```" => blocks.extend(open.take()),
            Some(block) => block.text.extend([line, "\n"]),
            None if line.trim() == "```yaml" => {
                open = Some(Block {
                    line: number + 1,
                    text: String::new(),
                });
            }
            None => {}
        }
    }
    assert!(open.is_none(), "a block does not end");
    blocks
}

/// A fragment, made whole. A page's comment of a module stands under `//! `.
fn whole(block: &str) -> String {
    let has = |key: &str| block.lines().any(|line| line.starts_with(key));
    let service = if has("service:") { "" } else { SERVICE };
    let inbound = if has("inbound:") || has("service:") {
        ""
    } else {
        INBOUND
    };
    format!("{block}{service}{inbound}")
}

#[test]
fn what_the_pages_show_passes_the_check() {
    let folder = scratch("pages");
    let mut pages = vec![PathBuf::from("README.md")];
    pages.extend(files("docs", "md"));
    pages.extend(plugins().iter().map(|name| format!("filters/src/{name}.rs").into()));
    let mut shown = Vec::new();
    for page in pages {
        let text = fs::read_to_string(&page).unwrap();
        let text: String = text
            .lines()
            .map(|line| {
                line.strip_prefix("//!")
                    .map_or(line, |rest| rest.strip_prefix(' ').unwrap_or(rest))
            })
            .flat_map(|line| [line, "\n"])
            .collect();
        let of_page = folder.join(&page);
        fs::create_dir_all(&of_page).unwrap();
        for Block { line, text } in blocks(&text) {
            let file = of_page.join(format!("line-{line}.yaml"));
            let text = whole(&text);
            // A block that says what file it is can be included by another.
            let name = text.lines().next().and_then(|first| first.strip_prefix("# "));
            if let Some(name) = name.filter(|name| Path::new(name).extension() == Some(OsStr::new("yaml"))) {
                fs::write(of_page.join(name), &text).unwrap();
            }
            fs::write(&file, text).unwrap();
            shown.push(file);
        }
    }
    assert!(shown.len() >= 5 + plugins().len(), "only {shown:?}");
    let (content, said) = check(&shown);
    assert!(content && said.is_empty(), "{said}");
    fs::remove_dir_all(folder).unwrap();
}
