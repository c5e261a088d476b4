//! The origin's part: what it is sent, what it answers, and whether that reaches the client.

use std::collections::VecDeque;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method};
use pingora_http::ResponseHeader;

use super::alphabet::{self, one};
use super::history::{End, Ended, Heard, Told};
use super::live::{Live, Script, Stage};
use super::oracle::Right;
use super::policy::rare;
use super::rfc::{self, Control};
use super::world::{Checked, World};
use crate::{Body, Failure, Refusal, testing};

const CONDITIONS: [&str; 2] = ["if-none-match", "if-modified-since"];

impl World {
    /// The request goes to the origin.
    pub(super) fn forward(&mut self, live: &mut Live) -> Checked {
        let sent = live.exchange.request.headers.clone();
        let without = |headers: &HeaderMap| {
            let mut headers = headers.clone();
            for name in CONDITIONS {
                headers.remove(name);
            }
            headers
        };
        self.note(format!(
            "  forwarded as {} {:?}",
            self.history.told.len(),
            conditions(&sent)
        ));
        if without(&sent) != without(&live.asked.headers) || live.exchange.request.method != live.asked.method {
            return Err(format!("the origin is asked for something else: {sent:?}"));
        }
        let reads = matches!(live.asked.method, Method::GET | Method::HEAD);
        let wants = Control::of_request(&live.asked.headers, &self.policy);
        if reads && wants.has("only-if-cached") && !live.background {
            return Err("the client wants only what is stored".to_owned());
        }
        live.told = Some(self.history.told.len());
        let began = self.moment();
        live.stage = Stage::Sent;
        self.history.told.push(Told {
            asked: live.asked.clone(),
            began,
            sent,
            heard: None,
            whole: None,
        });
        Ok(())
    }

    /// The origin answers, or does not.
    pub(super) fn hear(&mut self, live: &mut Live) -> Checked {
        if rare(&mut self.rng, 15 * self.odds) {
            return self.fail(live);
        }
        let id = live.told.unwrap();
        let now = self.moment();
        let method = &live.asked.method;
        let status = alphabet::status(&mut self.rng, self.odds, method, &self.history.told[id].sent);
        let mut headers = alphabet::response_fields(&mut self.rng, self.odds, id, now.wall, self.epoch);
        let bodiless = *method == Method::HEAD || [204, 304].contains(&status.as_u16());
        let body = if bodiless {
            Bytes::new()
        } else {
            alphabet::body(&mut self.rng, id)
        };
        let changes = !matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS);
        if changes && rare(&mut self.rng, 2) {
            let target = one(
                &mut self.rng,
                &[
                    "/x",
                    "/x?q=1",
                    "x",
                    "http://b.test/x",
                    "http://a.test/x?q=1",
                    "//b.test/x",
                ],
            );
            let name = one(&mut self.rng, &["location", "content-location"]);
            alphabet::set(&mut headers, name, target);
        }
        let mut framed = true;
        let length = if *method == Method::HEAD {
            one(&mut self.rng, &[10, 20])
        } else {
            body.len()
        };
        match self.rng.u32(..6 + 2 * self.odds) {
            _ if [204, 304].contains(&status.as_u16()) => {}
            0 | 3 => {}
            1 if !bodiless => {
                framed = false;
                let length = one(&mut self.rng, &[length + 5, length - 3]);
                alphabet::set(&mut headers, "content-length", &length.to_string());
            }
            2 if !bodiless => {
                framed = false;
                live.exchange.ends_with_connection = true;
            }
            _ => alphabet::set(&mut headers, "content-length", &length.to_string()),
        }
        live.exchange.timing.first_byte = Some(tokio::time::Instant::now().into_std());
        let mut head = Box::new(ResponseHeader::build(status, None).unwrap());
        for (name, value) in &headers {
            head.append_header(name, value).unwrap();
        }
        self.note(format!("{id}: the origin says {status} {headers:?}"));
        self.history.told[id].heard = Some(Heard {
            status: status.as_u16(),
            headers,
            body: body.clone(),
            at: now,
        });
        self.receive(live, head)?;
        if changes && (status.is_success() || status.is_redirection()) {
            self.invalidated(live);
        }
        if let Stage::Body(script) = &mut live.stage {
            script.framed = framed;
            script.cut = !bodiless && rare(&mut self.rng, 8 * self.odds);
            let pieces = self.rng.usize(1..=3);
            script.pieces = body
                .chunks(body.len().div_ceil(pieces).max(1))
                .map(Bytes::copy_from_slice)
                .collect();
        }
        Ok(())
    }

    /// The sidecar answers in place of an origin that is dead.
    fn fail(&mut self, live: &mut Live) -> Checked {
        let id = live.told.unwrap();
        let response = Refusal::from(Failure::ConnectFailed).render(&live.exchange);
        let Body::Full(body) = response.body else {
            return Err("an error without a body".to_owned());
        };
        self.note(format!("{id}: the origin is dead"));
        let at = self.moment();
        self.history.told[id].heard = Some(Heard {
            status: response.head.status.as_u16(),
            headers: response.head.headers.clone(),
            body: body.clone(),
            at,
        });
        self.receive(live, response.head)?;
        if let Stage::Body(script) = &mut live.stage {
            script.pieces = VecDeque::from([body]);
        }
        Ok(())
    }

    /// A response head on its way out.
    fn receive(&mut self, live: &mut Live, mut head: Box<ResponseHeader>) -> Checked {
        let id = live.told.unwrap();
        let replacement = self.chain.response(&mut live.exchange, &mut head);
        if let Some(response) = replacement {
            self.note(format!(
                "  replaced by {} {:?}",
                response.head.status, response.head.headers
            ));
            let right = match self.history.heard(id).status {
                304 => Right::Validated(id),
                500 | 502 | 503 | 504 => Right::Failed,
                status => return Err(format!("a {status} was replaced")),
            };
            if !live.background {
                self.justify(right, live, &response)?;
            }
            self.chain.complete(&mut live.exchange, &testing::outcome(200));
            return Ok(());
        }
        let mut silent = false;
        if !live.background {
            silent = self.passed_on(live, &head)?;
        }
        live.stage = Stage::Body(Script {
            pieces: VecDeque::new(),
            cut: false,
            silent: silent || live.background,
            framed: true,
        });
        Ok(())
    }

    /// Whether the client gets what the origin said, or a 304 in its place, whose body it does not see.
    fn passed_on(&self, live: &Live, head: &ResponseHeader) -> Result<bool, String> {
        let told = &self.history.told[live.told.unwrap()];
        let heard = self.history.heard(live.told.unwrap());
        let mut headers = head.headers.clone();
        headers.remove("cache-status");
        if head.status.as_u16() == heard.status {
            if heard.status == 304 && conditions(&told.sent) != conditions(&told.asked.headers) {
                return Err("a 304 to conditions that the client did not make".to_owned());
            }
            let same = headers == heard.headers;
            return if same {
                Ok(false)
            } else {
                Err(format!("fields were changed: {headers:?}"))
            };
        }
        let mut dated = heard.headers.clone();
        if !dated.contains_key("date") {
            alphabet::set(&mut dated, "date", &alphabet::date(heard.at.wall));
        }
        if head.status == 304 && heard.status == 200 && rfc::has_it(&told.asked.headers, &dated) {
            Ok(true)
        } else {
            Err(format!("{} became {}", heard.status, head.status))
        }
    }

    /// An unsafe request was not refused (section 4.4).
    fn invalidated(&mut self, live: &Live) {
        let heard = self.history.heard(live.told.unwrap()).clone();
        let url = live.asked.url.clone();
        let origin = if url.starts_with("http://a.test/") {
            "http://a.test"
        } else {
            "http://b.test"
        };
        let mut ends = vec![Ended::Url(url)];
        for name in ["location", "content-location"] {
            let target = rfc::text(&heard.headers, name).unwrap_or_default();
            let target = target.strip_prefix(origin).unwrap_or(target);
            if target == "x" || (target.starts_with('/') && !target.starts_with("//")) {
                let path = target.trim_start_matches('/');
                ends.push(Ended::Url(format!("{origin}/{path}")));
            }
        }
        ends.extend(self.policy.invalidate_tag.map(|tag| Ended::Tag(tag.to_owned())));
        ends.extend(
            self.policy
                .invalidate_prefix
                .map(|prefix| Ended::Prefix(format!("{origin}{prefix}"))),
        );
        let order = self.moment().order;
        let ends = ends.into_iter().map(|what| End {
            what,
            order,
            heals: true,
        });
        self.history.ends.extend(ends);
    }

    /// The next piece of a body, or its end.
    pub(super) fn pass_body(&mut self, live: &mut Live, mut script: Script) -> Checked {
        let id = live.told.unwrap();
        let piece = script.pieces.pop_front();
        let last = script.pieces.is_empty();
        if piece.is_none() && script.cut {
            self.note(format!("{id}: cut short"));
            self.chain.complete(&mut live.exchange, &testing::outcome(200));
            return Ok(());
        }
        let ends = piece.is_none() || (last && !script.cut && self.rng.bool());
        if ends && script.framed && !script.cut {
            let whole = self.moment();
            self.history.told[id].whole = Some(whole);
        }
        let mut chunk = piece.clone();
        self.chain
            .response_body(&mut live.exchange, &mut chunk, ends)
            .map_err(|failure| format!("{failure:?}"))?;
        let seen = chunk.unwrap_or_default();
        let expected = piece.unwrap_or_default();
        if !live.background && seen != if script.silent { Bytes::new() } else { expected } {
            return Err(format!("{id}: the body was changed"));
        }
        if ends {
            self.note(format!("{id}: ends"));
            self.chain.complete(&mut live.exchange, &testing::outcome(200));
        } else {
            live.stage = Stage::Body(script);
        }
        Ok(())
    }
}

fn conditions(headers: &HeaderMap) -> Vec<&HeaderValue> {
    CONDITIONS.iter().flat_map(|name| headers.get_all(*name)).collect()
}
