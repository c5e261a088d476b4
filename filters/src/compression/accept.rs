//! What a client accepts (RFC 9110, section 12.5.3), and what it gets of that.

use http::{HeaderMap, header};

use super::coding::Coding;

/// A weight in thousandths.
type Weight = u16;
const WHOLE: Weight = 1000;

/// The codings a client accepts, with their weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Accepted {
    codings: [Option<Weight>; 3],
    identity: Option<Weight>,
    any: Option<Weight>,
    deflate: Option<Weight>,
}

/// What a client gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Choice {
    /// The body in this coding.
    Coded(Coding),
    /// The body as it is.
    Identity,
    /// The body as it is, which the client does not accept: nothing that can be made is acceptable to it.
    Nothing,
}

impl Accepted {
    /// What a request says. `None` without the field: then anything is acceptable, and as it is safest.
    pub(crate) fn of(headers: &HeaderMap) -> Option<Self> {
        let mut lines = headers.get_all(header::ACCEPT_ENCODING).iter().peekable();
        lines.peek()?;
        let mut accepted = Self {
            codings: [None; 3],
            identity: None,
            any: None,
            deflate: None,
        };
        for member in lines.flat_map(|line| line.as_bytes().split(|&byte| byte == b',')) {
            let mut parts = member.split(|&byte| byte == b';');
            let name = parts.next().unwrap_or_default().trim_ascii();
            let Some(weight) = weight(parts) else { continue };
            let place = if name.eq_ignore_ascii_case(b"identity") {
                &mut accepted.identity
            } else if name == b"*" {
                &mut accepted.any
            } else if name.eq_ignore_ascii_case(b"deflate") {
                &mut accepted.deflate
            } else if let Some(coding) = Coding::of(name) {
                &mut accepted.codings[coding as usize]
            } else {
                continue;
            };
            // The first word counts.
            place.get_or_insert(weight);
        }
        Some(accepted)
    }

    /// How much it wants a coding; 0 where it does not accept it.
    fn weight(&self, coding: Coding) -> Weight {
        self.codings[coding as usize].or(self.any).unwrap_or(0)
    }

    /// How much it wants the body as it is. Unless it says otherwise it accepts that, and everything it names rather.
    fn identity(&self) -> Weight {
        self.identity.or(self.any.filter(|&weight| weight == 0)).unwrap_or(1)
    }

    /// Whether it accepts a body in all these codings, by the names of `Content-Encoding`.
    pub(crate) fn accepts(&self, content_encoding: &[u8]) -> bool {
        let mut names = content_encoding.split(|&byte| byte == b',').map(<[u8]>::trim_ascii);
        names.all(|name| match Coding::of(name) {
            Some(coding) => self.weight(coding) > 0,
            None if name.eq_ignore_ascii_case(b"deflate") => self.deflate.or(self.any).unwrap_or(0) > 0,
            None if name.is_empty() || name.eq_ignore_ascii_case(b"identity") => self.identity() > 0,
            None => self.any.unwrap_or(0) > 0,
        })
    }

    /// What it gets, the first of those it wants most.
    pub(crate) fn choose(&self, offered: &[Coding]) -> Choice {
        let mut best = None;
        for &coding in offered {
            let weight = self.weight(coding);
            if weight > 0 && best.is_none_or(|(_, most)| weight > most) {
                best = Some((coding, weight));
            }
        }
        match best {
            // A client that names identity with the greater weight wants it.
            Some((coding, weight)) if weight >= self.identity() => Choice::Coded(coding),
            _ if self.identity() > 0 => Choice::Identity,
            _ => Choice::Nothing,
        }
    }
}

/// The `q` among a member's parameters (RFC 9110, section 12.4.2), one if there is none; `None` if it is malformed.
fn weight<'p>(parameters: impl Iterator<Item = &'p [u8]>) -> Option<Weight> {
    for parameter in parameters.map(<[u8]>::trim_ascii) {
        let Some(value) = parameter.strip_prefix(b"q=").or_else(|| parameter.strip_prefix(b"Q=")) else {
            continue;
        };
        let (whole, fraction) = match value {
            [whole, b'.', fraction @ ..] => (*whole, fraction),
            [whole] => (*whole, &[][..]),
            _ => return None,
        };
        if fraction.len() > 3 || !fraction.iter().all(u8::is_ascii_digit) {
            return None;
        }
        let thousandths = (0..3).fold(0, |sum, place| {
            sum * 10 + fraction.get(place).map_or(0, |digit| Weight::from(digit - b'0'))
        });
        return match (whole, thousandths) {
            (b'0', thousandths) => Some(thousandths),
            (b'1', 0) => Some(WHOLE),
            _ => None,
        };
    }
    Some(WHOLE)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn accepted(lines: &[&'static str]) -> Option<Accepted> {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(header::ACCEPT_ENCODING, HeaderValue::from_static(line));
        }
        Accepted::of(&headers)
    }

    fn choice(line: &'static str) -> Choice {
        accepted(&[line]).unwrap().choose(&Coding::ALL)
    }

    #[test]
    fn who_says_nothing_and_who_says_that_it_wants_nothing() {
        assert_eq!(accepted(&[]), None);
        assert_eq!(choice(""), Choice::Identity);
    }

    #[test]
    fn what_a_client_gets() {
        use Choice::{Coded, Identity, Nothing};
        use Coding::{Br, Gzip, Zstd};
        for (said, expected) in [
            ("gzip, deflate, br, zstd", Coded(Zstd)),
            ("gzip, deflate, br", Coded(Br)),
            ("gzip, deflate", Coded(Gzip)),
            ("GZIP", Coded(Gzip)),
            ("x-gzip", Coded(Gzip)),
            ("deflate", Identity),
            ("compress", Identity),
            ("identity", Identity),
            ("*", Coded(Zstd)),
            ("*;q=0.5, br;q=0.8", Coded(Br)),
            ("*, zstd;q=0", Coded(Br)),
            ("gzip;q=0", Identity),
            ("gzip;q=0.0, br;q=0.000", Identity),
            ("br;q=0.5, gzip", Coded(Gzip)),
            ("br;q=0.5, gzip;q=0.5", Coded(Br)),
            ("gzip;q=0.5, identity", Identity),
            ("gzip;q=0.5, identity;q=0.5", Coded(Gzip)),
            ("gzip;q=0.001", Coded(Gzip)),
            ("identity;q=0", Nothing),
            ("identity;q=0, gzip", Coded(Gzip)),
            ("*;q=0", Nothing),
            ("*;q=0, identity", Identity),
            ("*;q=0, gzip", Coded(Gzip)),
            ("gzip ; q=0.3 , br ; q=0.2", Coded(Gzip)),
            ("gzip;q=0.3;x=y", Coded(Gzip)),
            ("gzip;x=y;Q=0", Identity),
            ("gzip;q=1.5", Identity),
            ("gzip;q=", Identity),
            ("gzip;q=0.1234", Identity),
            ("gzip;q=1.000", Coded(Gzip)),
            ("gzip, gzip;q=0", Coded(Gzip)),
            (",,gzip,,", Coded(Gzip)),
        ] {
            assert_eq!(choice(said), expected, "{said}");
        }
    }

    #[test]
    fn several_lines_are_one_list() {
        let accepted = accepted(&["gzip;q=0.1", "br"]).unwrap();
        assert_eq!(accepted.choose(&Coding::ALL), Choice::Coded(Coding::Br));
    }

    #[test]
    fn the_server_s_order_decides_among_equals() {
        let accepted = accepted(&["gzip, br, zstd"]).unwrap();
        assert_eq!(
            accepted.choose(&[Coding::Gzip, Coding::Br]),
            Choice::Coded(Coding::Gzip)
        );
        assert_eq!(accepted.choose(&[]), Choice::Identity);
    }

    #[test]
    fn whether_a_body_can_be_sent_as_it_is_coded() {
        for (said, coded, expected) in [
            ("gzip", "gzip", true),
            ("gzip", "GZIP", true),
            ("br", "gzip", false),
            ("gzip, br", "gzip, br", true),
            ("gzip", "gzip, br", false),
            ("deflate", "deflate", true),
            ("gzip", "deflate", false),
            ("*", "compress", true),
            ("gzip", "compress", false),
            ("gzip", "identity", true),
            ("identity;q=0", "identity", false),
        ] {
            assert_eq!(
                accepted(&[said]).unwrap().accepts(coded.as_bytes()),
                expected,
                "{said} {coded}"
            );
        }
    }
}
