use super::*;

const TOLD: Told<'_> = Told {
    method: "POST",
    endpoint: Some("127.0.0.1:8080"),
    upstream: None,
    started_at: SystemTime::UNIX_EPOCH,
};

fn say(words: Words, reason: &'static str, fact: Fact) -> String {
    let dictionary = Dictionary::default().with("test", words);
    let entry = Entry {
        filter: "test",
        reason,
        fact,
    };
    dictionary.say(&entry, &TOLD)
}

#[test]
fn the_first_way_that_can_be_said_is_taken() {
    let words: Words = &[("hit", &["{0} old, for {1} more", "{0} old", "an old one"])];
    let (old, more) = (Duration::from_secs(42), Duration::from_secs(258));
    assert_eq!(say(words, "hit", Fact::Times(old, more)), "42s old, for 4m 18s more");
    assert_eq!(say(words, "hit", Fact::Time(old)), "42s old");
    assert_eq!(say(words, "hit", Fact::None), "an old one");
}

#[test]
fn blanks_are_filled_with_what_is_known_of_the_exchange() {
    let words: Words = &[("a", &["{upstream}", "{method} to {endpoint}"])];
    assert_eq!(say(words, "a", Fact::None), "POST to 127.0.0.1:8080");
}

#[test]
fn an_event_has_a_time_of_day_and_numbers() {
    let words: Words = &[("open", &["open since {0}: {1}"])];
    let told = Told {
        started_at: SystemTime::UNIX_EPOCH + Duration::from_secs(61),
        ..TOLD
    };
    let fact = Fact::Event {
        ago: Duration::from_secs(60),
        text: "{} of {} calls failed",
        numbers: [14, 20],
    };
    let entry = Entry {
        filter: "test",
        reason: "open",
        fact,
    };
    let said = Dictionary::default().with("test", words).say(&entry, &told);
    assert_eq!(said, "open since 00:00:01: 14 of 20 calls failed");
}

#[test]
fn what_has_no_words_is_read_as_it_is_written() {
    assert_eq!(say(&[], "too_warm", Fact::None), "too warm");
    assert_eq!(say(&[], "too_warm", Fact::Text("it is too warm")), "it is too warm");
    assert_eq!(say(&[], "left_alone", Fact::Kind("not_mine")), "left alone: not mine");
    let words: Words = &[("left", &["left"]), ("left.mine", &["left, being mine"])];
    assert_eq!(say(words, "left", Fact::Kind("mine")), "left, being mine");
}

/// One from elsewhere.
struct Strange;

#[derive(serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
struct Nothing {}

impl crate::Plugin for Strange {
    const NAME: &'static str = "strange";
    type Config = Nothing;
    const WORDS: Words = &[("odd", &["it was odd"])];

    fn build(_: Nothing, _: &crate::Context<'_>) -> Result<std::sync::Arc<dyn crate::Filter>, crate::BuildError> {
        Err(crate::BuildError::Meaning("is never built".to_owned()))
    }
}

#[test]
fn a_plugin_from_elsewhere_has_words_too() {
    let dictionary = Dictionary::of(&Registry::builtin().with::<Strange>());
    let say = |reason| {
        let entry = Entry {
            filter: "strange",
            reason,
            fact: Fact::None,
        };
        dictionary.say(&entry, &TOLD)
    };
    assert_eq!(say("odd"), "it was odd");
    assert_eq!(say("even_more_odd"), "even more odd");
}

/// Of every plugin, reasons are told once, and the last way to put one needs nothing but what every exchange has.
#[test]
fn all_words_can_be_said() {
    for plugin in Registry::builtin().entries() {
        let mut known = Vec::new();
        for (reason, ways) in plugin.words {
            assert!(!known.contains(reason), "{}: `{reason}` twice", plugin.name);
            known.push(reason);
            let last = ways.last().copied().unwrap_or_default();
            let told = Told { endpoint: None, ..TOLD };
            let said = filled(last, Fact::None, &told);
            assert!(said.is_some_and(|said| !said.is_empty()), "{}: `{reason}`", plugin.name);
        }
    }
}

/// What the sources enter as it stands there. What is entered by way of a variable fails the tests that enter it.
#[test]
fn no_source_enters_what_has_no_words() {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/src");
    let mut found = 0;
    for plugin in Registry::builtin().entries() {
        for source in sources(root, plugin.name) {
            let code = source.split("mod tests").next().unwrap_or_default();
            let mut reasons = literals(code, "ledger.enter(NAME, \"");
            reasons.extend(literals(code, "ledger.enter_with(NAME, \""));
            reasons.extend(literals(code, "reason: \""));
            // A refusal's reason is its second argument.
            let denied = code.split("Refusal::denied(").skip(1);
            reasons.extend(denied.filter_map(|rest| literals(rest, "\"").into_iter().next()));
            for reason in reasons {
                found += 1;
                let has = plugin
                    .words
                    .iter()
                    .any(|(known, _)| known.split('.').next() == Some(reason));
                assert!(has, "`{}` has no words for `{reason}`", plugin.name);
            }
        }
    }
    assert!(found > 30, "only {found} found: the sources are written otherwise now");
}

/// What stands between so many quotes after a lead.
fn literals<'a>(code: &'a str, lead: &str) -> Vec<&'a str> {
    let parts = code.split(lead).skip(1);
    parts.filter_map(|rest| rest.split('"').next()).collect()
}

fn sources(root: &str, plugin: &str) -> Vec<String> {
    let read = |path: std::path::PathBuf| std::fs::read_to_string(path).unwrap();
    let folder = std::fs::read_dir(format!("{root}/{plugin}")).into_iter().flatten();
    let files = folder.map(|file| file.unwrap().path()).filter(|path| path.is_file());
    // Tests enter what they like.
    let files = files.filter(|path| !["tests.rs", "cases.rs"].iter().any(|test| path.ends_with(test)));
    let own = std::path::PathBuf::from(format!("{root}/{plugin}.rs"));
    std::iter::once(own).chain(files).map(read).collect()
}
