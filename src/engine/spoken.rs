//! What endpoints turned out to speak.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::upstream::Protocol;

/// Endpoints remembered. An outbound sidecar meets many hosts; one that is forgotten is asked again.
const MAX: usize = 1024;
/// How long it is remembered that an endpoint does not take HTTP/2: it may learn to.
const HTTP_1_HOLDS: Duration = Duration::from_secs(300);

/// What endpoints turned out to speak.
#[derive(Default)]
pub(super) struct Spoken(Mutex<HashMap<Arc<str>, (Protocol, Instant)>>);

impl Spoken {
    /// What the endpoint speaks, as far as that is known.
    pub(super) fn of(&self, endpoint: &str, now: Instant) -> Option<Protocol> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (protocol, since) = *known.get(endpoint)?;
        let holds = protocol == Protocol::H2c || now.saturating_duration_since(since) < HTTP_1_HOLDS;
        holds.then_some(protocol)
    }

    /// Remembers what it turned out to speak.
    pub(super) fn learn(&self, endpoint: &Arc<str>, protocol: Protocol, now: Instant) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MAX && !known.contains_key(endpoint) {
            // Which one goes does not matter much.
            if let Some(any) = known.keys().next().cloned() {
                known.remove(&any);
            }
        }
        known.insert(endpoint.clone(), (protocol, now));
    }

    /// Forgets it, because it does not hold any more.
    pub(super) fn forget(&self, endpoint: &str) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.remove(endpoint);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn http_1_is_doubted_after_a_while_and_memory_is_bounded() {
        let (spoken, now) = (Spoken::default(), Instant::now());
        spoken.learn(&Arc::from("old:80"), Protocol::Http1, now);
        assert_eq!(spoken.of("old:80", now), Some(Protocol::Http1));
        assert_eq!(spoken.of("old:80", now + HTTP_1_HOLDS), None);
        spoken.learn(&Arc::from("new:80"), Protocol::H2c, now);
        assert_eq!(spoken.of("new:80", now + HTTP_1_HOLDS), Some(Protocol::H2c));
        spoken.forget("new:80");
        assert_eq!(spoken.of("new:80", now), None);
        for number in 0..2 * MAX {
            spoken.learn(&Arc::from(format!("{number}:80")), Protocol::H2c, now);
        }
        assert_eq!(spoken.0.lock().unwrap().len(), MAX);
    }
}
