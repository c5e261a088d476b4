//! What requests and responses say about caching: `Cache-Control`, targeted fields and `Pragma`.
//!
//! Of a directive that comes more than once, the first counts (RFC 9111, section 4.2.1); lists of fields add up.
//! Invalid times are zero, so stale. Malformed directives that forbid still forbid; those that allow do not allow.
//! Unknown ones are ignored.

use std::time::Duration;

use http::{HeaderMap, HeaderName, header};

mod directives;
mod targeted;
use directives::{Argument, Directive, LONGEST_NAME, directives};

/// What `no-cache` or `private` covers.
#[derive(Debug, Default, Clone, PartialEq)]
pub(super) enum Fields {
    /// The directive is absent.
    #[default]
    None,
    /// The whole response.
    All,
    /// The named fields only.
    Named(Vec<HeaderName>),
}

impl Fields {
    fn add(&mut self, more: Self) {
        match (&mut *self, more) {
            (Self::All, _) | (_, Self::None) => {}
            (Self::Named(names), Self::Named(more)) => names.extend(more),
            (_, more) => *self = more,
        }
    }

    /// Whether the field is named; not so where the whole response is covered.
    pub(super) fn name(&self, field: &HeaderName) -> bool {
        matches!(self, Self::Named(names) if names.contains(field))
    }
}

/// The directives of a response (RFC 9111, section 5.2.2; RFC 5861; RFC 8246).
#[derive(Debug, Default, Clone, PartialEq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a directive of its own")]
pub(super) struct ResponseControl {
    pub(super) no_store: bool,
    pub(super) no_cache: Fields,
    pub(super) private: Fields,
    pub(super) public: bool,
    pub(super) must_revalidate: bool,
    pub(super) proxy_revalidate: bool,
    pub(super) must_understand: bool,
    pub(super) no_transform: bool,
    pub(super) immutable: bool,
    pub(super) max_age: Option<Duration>,
    pub(super) s_maxage: Option<Duration>,
    pub(super) stale_while_revalidate: Option<Duration>,
    pub(super) stale_if_error: Option<Duration>,
    /// A targeted field said all this, so neither `Cache-Control` nor `Expires` counts (RFC 9213, section 2.2).
    pub(super) targeted: bool,
}

/// The place of a directive, by what its argument is.
enum Slot<'a> {
    /// A flag that makes caching stricter: heard even with an argument that means nothing.
    Restricts(&'a mut bool),
    /// A flag that makes it laxer.
    Permits(&'a mut bool),
    Seconds(&'a mut Option<Duration>),
    Fields(&'a mut Fields),
}

impl ResponseControl {
    /// Reads the first of the `targeted` fields that is present and valid, or else `Cache-Control`. `Pragma` means
    /// nothing in a response (RFC 9111, section 5.4).
    pub(super) fn of(headers: &HeaderMap, targeted: &[HeaderName]) -> Self {
        if let Some(control) = targeted.iter().find_map(|field| targeted::read(headers, field)) {
            return control;
        }
        let mut control = Self::default();
        for directive in directives(headers, header::CACHE_CONTROL) {
            control.apply(&directive);
        }
        control
    }

    fn apply(&mut self, directive: &Directive<'_>) {
        let argument = directive.argument;
        match self.slot(directive.name(&mut [0; LONGEST_NAME])) {
            Some(Slot::Restricts(flag)) => *flag = true,
            // RFC 8246, section 2: an argument has no meaning; but this is no argument.
            Some(Slot::Permits(flag)) => *flag |= argument != Argument::Malformed,
            Some(Slot::Seconds(time)) => {
                time.get_or_insert_with(|| argument.seconds());
            }
            Some(Slot::Fields(fields)) => fields.add(argument.fields()),
            None => {}
        }
    }

    fn slot(&mut self, name: &[u8]) -> Option<Slot<'_>> {
        Some(match name {
            b"no-store" => Slot::Restricts(&mut self.no_store),
            b"no-cache" => Slot::Fields(&mut self.no_cache),
            b"private" => Slot::Fields(&mut self.private),
            b"public" => Slot::Permits(&mut self.public),
            b"must-revalidate" => Slot::Restricts(&mut self.must_revalidate),
            b"proxy-revalidate" => Slot::Restricts(&mut self.proxy_revalidate),
            b"must-understand" => Slot::Permits(&mut self.must_understand),
            b"no-transform" => Slot::Restricts(&mut self.no_transform),
            b"immutable" => Slot::Permits(&mut self.immutable),
            b"max-age" => Slot::Seconds(&mut self.max_age),
            b"s-maxage" => Slot::Seconds(&mut self.s_maxage),
            b"stale-while-revalidate" => Slot::Seconds(&mut self.stale_while_revalidate),
            b"stale-if-error" => Slot::Seconds(&mut self.stale_if_error),
            _ => return None,
        })
    }
}

/// The directives of a request (RFC 9111, section 5.2.1; RFC 5861, section 4).
#[derive(Debug, Default, Clone, Copy, PartialEq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a directive of its own")]
pub(super) struct RequestControl {
    pub(super) no_store: bool,
    pub(super) no_cache: bool,
    pub(super) only_if_cached: bool,
    pub(super) no_transform: bool,
    pub(super) max_age: Option<Duration>,
    pub(super) min_fresh: Option<Duration>,
    /// Without an argument [`Duration::MAX`]: however stale.
    pub(super) max_stale: Option<Duration>,
    pub(super) stale_if_error: Option<Duration>,
}

impl RequestControl {
    /// Costs two look-ups where a request says nothing, as most do.
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let mut control = Self::default();
        if headers.contains_key(header::CACHE_CONTROL) {
            for directive in directives(headers, header::CACHE_CONTROL) {
                control.apply(&directive);
            }
        } else {
            // RFC 9111, section 5.4: heard only where there is no `Cache-Control`.
            let mut pragma = directives(headers, header::PRAGMA);
            control.no_cache = pragma.any(|directive| directive.name(&mut [0; LONGEST_NAME]) == b"no-cache");
        }
        control
    }

    fn apply(&mut self, directive: &Directive<'_>) {
        let argument = directive.argument;
        let (time, value) = match directive.name(&mut [0; LONGEST_NAME]) {
            b"no-store" => return self.no_store = true,
            b"no-cache" => return self.no_cache = true,
            b"only-if-cached" => return self.only_if_cached = true,
            b"no-transform" => return self.no_transform = true,
            b"max-age" => (&mut self.max_age, argument.seconds()),
            b"min-fresh" => (&mut self.min_fresh, argument.seconds()),
            b"max-stale" if argument == Argument::None => (&mut self.max_stale, Duration::MAX),
            b"max-stale" => (&mut self.max_stale, argument.seconds()),
            b"stale-if-error" => (&mut self.stale_if_error, argument.seconds()),
            _ => return,
        };
        time.get_or_insert(value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::syntax::{LONGEST, head};

    fn response(lines: &[&str]) -> ResponseControl {
        let lines: Vec<_> = lines.iter().map(|line| ("cache-control", *line)).collect();
        ResponseControl::of(&head(&lines), &[])
    }

    fn request(lines: &[&str]) -> RequestControl {
        let lines: Vec<_> = lines.iter().map(|line| ("cache-control", *line)).collect();
        RequestControl::of(&head(&lines))
    }

    #[expect(clippy::unnecessary_wraps, reason = "as the directives hold it")]
    fn secs(seconds: u64) -> Option<Duration> {
        Some(Duration::from_secs(seconds))
    }

    fn named(names: &[&'static str]) -> Fields {
        Fields::Named(names.iter().map(|name| HeaderName::from_static(name)).collect())
    }

    #[test]
    fn max_age_is_read_and_what_is_no_number_is_stale() {
        for (lines, expected) in [
            (&[][..], None),
            (&["foobar"], None),
            (&["max-age=3600"], secs(3600)),
            (&["MaX-aGe=3600"], secs(3600)),
            (&["foobar, max-age=3600"], secs(3600)),
            (&["max-age=003600"], secs(3600)),
            (&["max-age=\"3600\""], secs(3600)),
            (&["max-age=2147483648"], Some(LONGEST)),
            (&["max-age=99999999999"], Some(LONGEST)),
            (&["max-age=99999999999999999999999999"], Some(LONGEST)),
            (&["max-age='3600'"], secs(0)),
            (&["max-age=3600.0"], secs(0)),
            (&["max-age=3600.5"], secs(0)),
            (&["max-age=-3600"], secs(0)),
            (&["max-age=a3600"], secs(0)),
            (&["max-age=3600a"], secs(0)),
            (&["max-age=3600 5"], secs(0)),
            (&["max-age =3600"], secs(0)),
            (&["max-age= 3600"], secs(0)),
            (&["max-age="], secs(0)),
            (&["max-age"], secs(0)),
            // The first counts.
            (&["max-age=1800, max-age=1"], secs(1800)),
            (&["max-age=1", "max-age=1800"], secs(1)),
            (&["max-age=x, max-age=1800"], secs(0)),
            (&["extension=\"max-age=3600\", max-age=1"], secs(1)),
            (&["max-age=1, extension=\"max-age=3600\""], secs(1)),
            (&["extension=\"max-age=3600, a\""], None),
        ] {
            assert_eq!(response(lines).max_age, expected, "{lines:?}");
        }
    }

    #[test]
    fn each_directive_of_a_response_has_its_place() {
        let all = ResponseControl {
            no_store: true,
            no_cache: Fields::All,
            private: Fields::All,
            public: true,
            must_revalidate: true,
            proxy_revalidate: true,
            must_understand: true,
            no_transform: true,
            immutable: true,
            max_age: secs(1),
            s_maxage: secs(2),
            stale_while_revalidate: secs(3),
            stale_if_error: secs(4),
            targeted: false,
        };
        let lines = [
            "No-Store, no-CACHE, private, public, must-revalidate, proxy-revalidate, must-understand",
            "no-transform, immutable, max-age=1, s-maxage=2, stale-while-revalidate=3, stale-if-error=4",
        ];
        assert_eq!(response(&lines), all);
        assert_eq!(response(&[]), ResponseControl::default());
    }

    #[test]
    fn what_forbids_is_heard_however_it_is_written_and_what_allows_is_not() {
        let control = response(&["no-store =1, must-revalidate=x, no-cache=\"\", ext=\"open, private= x"]);
        assert!(control.no_store && control.must_revalidate);
        assert_eq!((&control.private, &control.no_cache), (&Fields::All, &Fields::All));
        let control = response(&["public =1, immutable= 2, must-understand=\"x\"y"]);
        assert_eq!(control, ResponseControl::default());
        assert!(response(&["immutable=\"3\""]).immutable);
    }

    #[test]
    fn fields_can_be_named() {
        for (lines, expected) in [
            (&["private=\"a\""][..], named(&["a"])),
            (&["private=\" Set-Cookie ,, b\""], named(&["set-cookie", "b"])),
            (&["private=a"], named(&["a"])),
            (&["private=\"a\", private=\"b\""], named(&["a", "b"])),
            (&["private=\"a\"", "private"], Fields::All),
            (&["private", "private=\"a\""], Fields::All),
            (&["private=\"\""], Fields::All),
            (&["private=\"a b\""], Fields::All),
            (&["private=\"a\\b\""], Fields::All),
        ] {
            assert_eq!(response(lines).private, expected, "{lines:?}");
        }
        assert!(named(&["a"]).name(&HeaderName::from_static("a")));
        assert!(!Fields::All.name(&HeaderName::from_static("a")));
    }

    #[test]
    fn the_first_valid_targeted_field_replaces_cache_control() {
        let targets = ["own-cache-control", "cdn-cache-control"].map(HeaderName::from_static);
        let of = |lines: &[(&'static str, &str)]| {
            let control = ResponseControl::of(&head(lines), &targets);
            (control.max_age, control.no_store, control.targeted)
        };
        let general = ("cache-control", "max-age=1, no-store");
        let cdn = ("cdn-cache-control", "max-age=2");
        assert_eq!(of(&[general]), (secs(1), true, false));
        assert_eq!(of(&[general, cdn]), (secs(2), false, true));
        assert_eq!(of(&[cdn, ("own-cache-control", "max-age=3")]), (secs(3), false, true));
        for invalid in ["", "max-age=3, &&&", "max-age=\"3\""] {
            assert_eq!(
                of(&[cdn, ("own-cache-control", invalid)]),
                (secs(2), false, true),
                "{invalid}"
            );
            assert_eq!(
                of(&[general, ("own-cache-control", invalid)]),
                (secs(1), true, false),
                "{invalid}"
            );
        }
        let unlisted = ("other-cache-control", "max-age=9");
        assert_eq!(of(&[general, unlisted]), (secs(1), true, false));
    }

    #[test]
    fn each_directive_of_a_request_has_its_place() {
        let lines = [
            "no-store, NO-cache, only-if-cached, no-transform, max-age=1",
            "min-fresh=2, max-stale=3, stale-if-error=4",
        ];
        let expected = RequestControl {
            no_store: true,
            no_cache: true,
            only_if_cached: true,
            no_transform: true,
            max_age: secs(1),
            min_fresh: secs(2),
            max_stale: secs(3),
            stale_if_error: secs(4),
        };
        assert_eq!(request(&lines), expected);
        assert_eq!(request(&["max-stale"]).max_stale, Some(Duration::MAX));
        assert_eq!(request(&["max-stale=, max-age=-1"]).max_stale, secs(0));
        assert_eq!(request(&["max-age=-1"]).max_age, secs(0));
        assert_eq!(request(&["foo, public"]), RequestControl::default());
    }

    #[test]
    fn pragma_counts_only_without_cache_control() {
        let no_cache = |lines: &[(&'static str, &str)]| RequestControl::of(&head(lines)).no_cache;
        assert!(!no_cache(&[]));
        assert!(no_cache(&[("pragma", "No-Cache")]));
        assert!(no_cache(&[("pragma", "x"), ("pragma", "y=\"1\", no-cache")]));
        assert!(!no_cache(&[("pragma", "unrecognised-extension")]));
        assert!(!no_cache(&[("pragma", "no-cache"), ("cache-control", "max-age=5")]));
        assert!(!no_cache(&[("pragma", "no-cache"), ("cache-control", "")]));
    }
}
