//! A configuration whose files change while the sidecar runs.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{App, JSON, OK, Peer, Process, Sidecar, ask};

/// A change holds within that time, as `benches/reload/run` measures.
const SOON: Duration = Duration::from_millis(200);

/// A folder of a test's own, gone with it.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("watch-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, text).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A configuration that says `x-version` in every response.
fn versioned(setup: &str, version: &str) -> String {
    let filters = format!("{{ headers: {{ response: {{ set: {{ x-version: '{version}' }} }} }} }}");
    format!("{setup}routes: [{{ match: {{ path: '/*' }}, filters: {filters} }}]\n")
}

fn watched(app: &App) -> String {
    Sidecar::setup(app).with("reload: { watch: true }").yaml()
}

/// The version that a response tells.
fn version(client: &mut Peer, app: &App, origin: &mut Option<Peer>) -> Option<String> {
    client.send("GET / HTTP/1.1\r\nHost: app\r\n\r\n");
    let origin = origin.get_or_insert_with(|| app.accept());
    origin.read_head();
    origin.send(OK);
    client.read_answer().field("x-version").map(str::to_owned)
}

/// Asks over one connection until the version is that one.
fn await_version(client: &mut Peer, app: &App, origin: &mut Option<Peer>, wanted: &str) {
    let began = Instant::now();
    loop {
        let found = version(client, app, origin);
        if found.as_deref() == Some(wanted) {
            return;
        }
        assert!(
            began.elapsed() < Duration::from_secs(10),
            "it is {found:?}, not {wanted}"
        );
    }
}

fn get(sidecar: &Process, path: &str) -> Value {
    ask(sidecar.admin(), &format!("GET {path}"), "", "").json()
}

/// Lays settings over those of `retry`, or takes that back.
fn tune(sidecar: &Process, method: &str, settings: &Value, ttl: Option<&str>) -> (u16, String) {
    let body = match method {
        "DELETE" => String::new(),
        _ => json!({ "settings": settings, "ttl": ttl }).to_string(),
    };
    let answer = ask(sidecar.admin(), &format!("{method} /filters/retry"), JSON, &body);
    (answer.status, answer.text())
}

/// Asks until the newest entry of the history is what is wanted.
fn await_newest(sidecar: &Process, wanted: impl Fn(&Value) -> bool) -> Value {
    let began = Instant::now();
    loop {
        let newest = get(sidecar, "/config/history")["entries"][0].take();
        if wanted(&newest) {
            return newest;
        }
        assert!(began.elapsed() < Duration::from_secs(10), "{newest:#}");
    }
}

#[test]
fn a_file_that_was_refused_for_a_change_by_the_api_holds_once_that_is_taken_back() {
    let app = App::listen();
    let yaml = watched(&app);
    let mut sidecar = Process::run(&versioned(&yaml, "1"));
    let mut client = Peer::connect(sidecar.inbound());
    let mut origin = None;
    let base = json!({ "backoff": { "base": "200ms" } });
    assert_eq!(tune(&sidecar, "PATCH", &base, None).0, 200);
    // Right by itself, and too short for what lies over it.
    let shorter = "{ retry: { backoff: { max: 100ms } }, headers:";
    sidecar.configure(&versioned(&yaml, "2").replace("{ headers:", shorter));
    let refused = await_newest(&sidecar, |newest| newest["result"] == "refused");
    assert_eq!(refused["trigger"], "file", "{refused:#}");
    assert_eq!(version(&mut client, &app, &mut origin).as_deref(), Some("1"));
    assert_eq!(tune(&sidecar, "DELETE", &Value::Null, None).0, 200);
    await_version(&mut client, &app, &mut origin, "2");
    sidecar.stop();
}

#[test]
fn a_change_ends_in_time_although_another_makes_no_sense_without_it() {
    let app = App::listen();
    let mut sidecar = Process::run(&watched(&app));
    sidecar.inbound();
    let longer = json!({ "backoff": { "max": "20s" } });
    assert_eq!(tune(&sidecar, "PATCH", &longer, Some("1s")).0, 200);
    let both = tune(&sidecar, "PATCH", &json!({ "backoff": { "base": "20s" } }), None);
    assert_eq!(both.0, 200, "{}", both.1);
    let ended = |newest: &Value| newest["trigger"] == "override_ended" && newest["result"] == "applied";
    await_newest(&sidecar, ended);
    let filter = get(&sidecar, "/filters/retry");
    assert_eq!(filter["overrides"], json!([]), "{filter:#}");
    assert!(!filter["places"].to_string().contains("20s"), "{filter:#}");
    sidecar.stop();
}

#[test]
fn a_file_that_is_put_back_as_it_was_is_told_to_be_mended() {
    let app = App::listen();
    let good = versioned(&watched(&app), "1");
    let mut sidecar = Process::run(&good);
    sidecar.inbound();
    sidecar.configure(&good.replace("response:", "respones:"));
    await_newest(&sidecar, |newest| newest["result"] == "refused");
    sidecar.configure(&good);
    let mended = await_newest(&sidecar, |newest| newest["result"] != "refused");
    assert_eq!(
        (&mended["trigger"], &mended["result"]),
        (&"file".into(), &"unchanged".into()),
        "{mended:#}"
    );
    sidecar.stop();
}

#[test]
fn a_file_that_is_written_holds_on_the_connections_there_are() {
    let app = App::listen();
    let yaml = watched(&app);
    let mut sidecar = Process::run(&versioned(&yaml, "1"));
    let mut client = Peer::connect(sidecar.inbound());
    let mut origin = None;
    await_version(&mut client, &app, &mut origin, "1");
    for round in 2..12 {
        let text = versioned(&yaml, &round.to_string());
        if round % 2 == 0 {
            // In place, as an editor may.
            sidecar.configure(&text);
        } else {
            let aside = sidecar.config_file().with_extension("new");
            fs::write(&aside, &text).unwrap();
            fs::rename(&aside, sidecar.config_file()).unwrap();
        }
        await_version(&mut client, &app, &mut origin, &round.to_string());
    }
    sidecar.stop();
}

#[test]
fn a_bad_file_is_told_with_its_place_and_changes_nothing() {
    let app = App::listen();
    let yaml = watched(&app);
    let mut sidecar = Process::run(&versioned(&yaml, "1"));
    let mut client = Peer::connect(sidecar.inbound());
    let mut origin = None;
    sidecar.configure(&versioned(&yaml, "2").replace("response:", "respones:"));
    sidecar.await_log("configuration not reloaded");
    let place = format!("{}:", sidecar.config_file().display());
    assert!(
        sidecar.said.contains(&place) && sidecar.said.contains("did you mean `response`?"),
        "{}",
        sidecar.said
    );
    assert_eq!(version(&mut client, &app, &mut origin).as_deref(), Some("1"));
    let history = get(&sidecar, "/config/history");
    let newest = &history["entries"][0];
    assert_eq!(
        (&newest["trigger"], &newest["result"]),
        (&"file".into(), &"refused".into()),
        "{history:#}"
    );
    assert!(newest["error"].as_str().unwrap().contains(&place), "{history:#}");
    sidecar.configure(&versioned(&yaml, "3"));
    await_version(&mut client, &app, &mut origin, "3");
    let history = get(&sidecar, "/config/history");
    let newest = &history["entries"][0];
    let change = &newest["changes"][0];
    assert_eq!(
        change["key"], "routes[/*].filters.headers.response.set.x-version",
        "{history:#}"
    );
    assert_eq!((&change["was"], &change["is"]), (&"\"1\"".into(), &"\"3\"".into()));
    assert!(change["origin"].as_str().unwrap().starts_with(&place), "{history:#}");
    assert!(
        newest["survived"].to_string().contains("open connection"),
        "{history:#}"
    );
    sidecar.stop();
}

#[test]
fn what_a_file_includes_and_a_secret_it_takes_are_watched_too() {
    let app = App::listen();
    let folder = Folder::new("included");
    let part =
        |version: &str| format!("filters: {{ headers: {{ response: {{ set: {{ x-version: \"{version}\" }} }} }} }}\n");
    let included = folder.write("part.yaml", &part("1"));
    let secret = folder.write("secret", "a\n");
    let yaml = format!("include: {}\n{}", included.display(), watched(&app));
    let mut sidecar = Process::run(&yaml);
    let mut client = Peer::connect(sidecar.inbound());
    let mut origin = None;
    await_version(&mut client, &app, &mut origin, "1");
    folder.write("part.yaml", &part(&format!("${{file:{}}}", secret.display())));
    await_version(&mut client, &app, &mut origin, "a");
    folder.write("secret", "b\n");
    await_version(&mut client, &app, &mut origin, "b");
    // What is in it is shown nowhere.
    let values = get(&sidecar, "/config/values").to_string();
    assert!(values.contains("${file:"), "{values}");
    sidecar.stop();
}

#[test]
fn a_pipe_in_the_place_of_a_file_holds_up_nobody() {
    let app = App::listen();
    let good = versioned(&watched(&app), "1");
    let mut sidecar = Process::run(&good);
    sidecar.inbound();
    let pipe = |name: &str| {
        let path = sidecar.config_file().with_file_name(name);
        let _ = fs::remove_file(&path);
        let made = std::process::Command::new("mkfifo").arg(&path).status().unwrap();
        assert!(made.success());
        path
    };
    let aside = pipe(&format!("pipe-{}", std::process::id()));
    fs::rename(&aside, sidecar.config_file()).unwrap();
    let refused = await_newest(&sidecar, |newest| newest["result"] == "refused");
    assert!(
        refused["error"].as_str().unwrap().ends_with("it is a pipe"),
        "{refused:#}"
    );
    let secret = pipe(&format!("secret-{}", std::process::id()));
    let own = fs::File::options().read(true).write(true).open(&secret).unwrap();
    fs::remove_file(sidecar.config_file()).unwrap();
    let taking = good.replace(
        "x-version: '1'",
        &format!("x-version: '${{file:{}}}'", secret.display()),
    );
    sidecar.configure(&taking);
    let of_secret = |newest: &Value| {
        newest["error"]
            .as_str()
            .is_some_and(|error| error.contains("`: it is a pipe"))
    };
    await_newest(&sidecar, of_secret);
    drop(own);
    fs::remove_file(secret).unwrap();
    sidecar.stop();
}

#[test]
fn a_volume_that_is_swapped_as_kubernetes_does_is_seen() {
    let app = App::listen();
    let folder = Folder::new("volume");
    let yaml = watched(&app);
    let publish = |version: &str| {
        let data = folder.0.join(format!("..{version}"));
        fs::create_dir(&data).unwrap();
        fs::write(data.join("app.yaml"), versioned(&yaml, version)).unwrap();
        let aside = folder.0.join("..data_tmp");
        symlink(format!("..{version}"), &aside).unwrap();
        fs::rename(&aside, folder.0.join("..data")).unwrap();
    };
    publish("1");
    symlink("..data/app.yaml", folder.0.join("app.yaml")).unwrap();
    let including = format!("include: {}\n", folder.0.join("app.yaml").display());
    let mut sidecar = Process::run(&including);
    let mut client = Peer::connect(sidecar.inbound());
    let mut origin = None;
    await_version(&mut client, &app, &mut origin, "1");
    for version in ["2", "3"] {
        publish(version);
        await_version(&mut client, &app, &mut origin, version);
        fs::remove_dir_all(folder.0.join(format!("..{}", version.parse::<u32>().unwrap() - 1))).unwrap();
    }
    sidecar.stop();
}

#[test]
fn who_does_not_want_it_is_left_alone() {
    let app = App::listen();
    let yaml = Sidecar::setup(&app).with("reload: { watch: false }").yaml();
    let mut sidecar = Process::run(&versioned(&yaml, "1"));
    let mut client = Peer::connect(sidecar.inbound());
    let mut origin = None;
    sidecar.configure(&versioned(&yaml, "2"));
    let until = Instant::now() + 2 * SOON;
    while Instant::now() < until {
        assert_eq!(version(&mut client, &app, &mut origin).as_deref(), Some("1"));
    }
    assert_eq!(sidecar.reload().status, 200);
    assert_eq!(version(&mut client, &app, &mut origin).as_deref(), Some("2"));
    sidecar.stop();
}
