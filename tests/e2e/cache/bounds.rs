//! What no line of the table can say: very many at once, and what takes another configuration.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::thread;
use std::time::SystemTime;

use super::case::Place;
use super::origin::Origin;
use super::parse::parse;
use super::seen::exchange;
use super::{assert_hold, sidecar};

/// Plays a text of the table's language.
fn assert_text_holds(text: &str, more: &str) {
    assert_hold(&parse(file!(), text), more);
}

/// A case that fills the cache with that many answers, and asks for each again: it may have been dropped, but none is
/// taken for another.
fn each_keeps_its_own(count: usize, name: &str, request: impl Fn(usize) -> String, reply: &str) {
    let mut text = format!("[9111 4] {name}\n");
    for number in 0..count {
        let request = request(number);
        writeln!(text, "{request}\n< {reply} | body: {number}\n= forwarded").unwrap();
    }
    for number in 0..count {
        let request = request(number);
        writeln!(
            text,
            "{request}\n<? {reply} | body: {number}\n= answered 200 | body: {number}"
        )
        .unwrap();
    }
    assert_text_holds(&text, "");
}

/// That of the only case.
fn place() -> Place {
    Place {
        path: "/case/0".to_owned(),
        began: SystemTime::now(),
    }
}

#[test]
fn thousands_of_variants_keep_to_themselves() {
    let request = |number| format!("> GET | X-V: {number}");
    each_keeps_its_own(
        2000,
        "variants",
        request,
        "200 | Cache-Control: max-age=600 | Vary: X-V",
    );
}

#[test]
fn thousands_of_targets_keep_to_themselves() {
    let request = |number| format!("> GET ?{number}");
    each_keeps_its_own(2000, "targets", request, "200 | Cache-Control: max-age=600");
}

#[test]
fn many_with_long_keys_keep_to_themselves() {
    let request = |number| format!("> GET ?{{x*6000}}{number} | X-V: {{x*20000}}{number}");
    each_keeps_its_own(
        200,
        "long keys",
        request,
        "200 | Cache-Control: max-age=600 | Vary: X-V",
    );
}

#[test]
fn schemes_never_share_an_answer() {
    let text = r"
[9111 7.1] what redirects to https is not for those who came by it
> GET | X-Forwarded-Proto: http
< 301 | Cache-Control: max-age=60 | Location: https://case.test{path}
= forwarded
> GET | X-Forwarded-Proto: https
? X-Forwarded-Proto: https
< 200 | Cache-Control: max-age=60
= forwarded
> GET | X-Forwarded-Proto: http
= hit of 1
> GET | X-Forwarded-Proto: https
= hit of 2

[9111 7.1] a host that a trusted proxy tells of is a host
> GET | X-Forwarded-Host: a.test
< 200 | Cache-Control: max-age=60
= forwarded
> GET | X-Forwarded-Host: b.test
? X-Forwarded-Host: b.test
< 200
= forwarded
";
    assert_text_holds(text, "forwarded: { trust: ['127.0.0.0/8'] }");
}

#[test]
fn nobody_gets_the_cookie_of_another() {
    let mut text = "[9111 7.3] cookies\n> GET\n".to_owned();
    for number in 0..16 {
        let directives = if number % 2 == 0 {
            "public, max-age=60"
        } else {
            "max-age=60"
        };
        let fields = format!("Cache-Control: {directives} | Set-Cookie: id={number}");
        writeln!(text, "< 200 delay=300ms | {fields}").unwrap();
    }
    let cases = parse(file!(), &(text + "= forwarded"));
    let step = &cases[0].steps[0];
    let origin = Origin::start();
    let mut sidecar = sidecar(&origin, "");
    let inbound = sidecar.inbound();
    let place = place();
    origin.script(&place.path, step.replies.clone());
    let cookies: Vec<Option<String>> = thread::scope(|scope| {
        let ask = || exchange(inbound, &place, &step.request).field("set-cookie");
        let clients: Vec<_> = step.replies.iter().map(|_| scope.spawn(ask)).collect();
        clients.into_iter().map(|client| client.join().unwrap()).collect()
    });
    let mut seen = HashSet::new();
    let twice: Vec<_> = cookies
        .into_iter()
        .flatten()
        .filter(|cookie| !seen.insert(cookie.clone()))
        .collect();
    assert!(twice.is_empty(), "two clients got {twice:?}");
}

#[test]
fn a_hit_has_a_request_id_of_its_own() {
    let cases = parse(
        file!(),
        "[9111 3] ids\n> GET\n< 200 | Cache-Control: max-age=60\n= forwarded",
    );
    let step = &cases[0].steps[0];
    let origin = Origin::start();
    let mut sidecar = sidecar(&origin, "");
    let inbound = sidecar.inbound();
    let place = place();
    origin.script(&place.path, step.replies.clone());
    let ids = [(); 2].map(|()| exchange(inbound, &place, &step.request).field("x-request-id").unwrap());
    assert_eq!(origin.asked(&place.path, 1).len(), 1);
    assert_ne!(ids[0], ids[1]);
}
