//! Where a try goes, and what the endpoint is told to have done with it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::StatusCode;
use pillion_filters::conditions::grpc_status;
use pillion_filters::{AttemptResult, Exchange, Failure};
use pingora_http::ResponseHeader;

use super::Run;
use super::hedge::Other;
use crate::engine::pump::Stop;
use crate::engine::tunnel;
use crate::snapshot::{Destination, Upstream};
use crate::upstream::{Call, Endpoint, Heard, Member};

/// An endpoint, and the call of it that is counted.
pub(super) struct Target {
    pub(super) endpoint: Arc<Endpoint>,
    /// None for a host that the request names.
    pub(super) call: Option<Call>,
}

impl Target {
    /// Says what came of the try. What is no fault of the endpoint's is not held against it.
    pub(super) fn heard(&mut self, result: AttemptResult, head: Option<&ResponseHeader>, took: Duration, now: Instant) {
        let Some(call) = &mut self.call else { return };
        if let Some(heard) = heard(result, head) {
            call.heard(heard, took, now);
        }
    }

    /// Says what came of a try that was not taken, because another beside it was better. One that was still under way has taken long,
    /// which is all that is known of it; unless it had begun first and was `outrun`, which an endpoint that is well seldom is.
    pub(super) fn passed_over(&mut self, other: &Other, outrun: bool, took: Duration, now: Instant) {
        match &mut self.call {
            Some(call) if other.result == AttemptResult::Abandoned && outrun => call.heard(Heard::Outrun, took, now),
            Some(call) if other.result == AttemptResult::Abandoned => call.outlasted(took, now),
            _ => self.heard(other.result, other.head.as_deref(), took, now),
        }
    }
}

/// Whether a response says that the endpoint failed.
pub(super) fn says_failure(head: &ResponseHeader) -> bool {
    heard(AttemptResult::Answered(head.status), Some(head)) != Some(Heard::Success)
}

/// What a result says of the endpoint.
fn heard(result: AttemptResult, head: Option<&ResponseHeader>) -> Option<Heard> {
    match result {
        AttemptResult::Abandoned
        | AttemptResult::Failed(Failure::DestinationForbidden | Failure::ExchangeTimeout | Failure::Internal) => None,
        AttemptResult::Failed(_) => Some(Heard::GatewayFailure),
        AttemptResult::Answered(status) => Some(match status {
            StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT => {
                Heard::GatewayFailure
            }
            // What it does not do it says of itself in good health.
            StatusCode::NOT_IMPLEMENTED | StatusCode::HTTP_VERSION_NOT_SUPPORTED => Heard::Success,
            status if status.is_server_error() => Heard::Failure,
            // A gRPC response without a body has its status in the head.
            _ => match head.and_then(|head| grpc_status(&head.headers)) {
                // UNKNOWN, DEADLINE_EXCEEDED, INTERNAL, DATA_LOSS.
                Some(2 | 4 | 13 | 15) => Heard::Failure,
                // UNAVAILABLE.
                Some(14) => Heard::GatewayFailure,
                _ => Heard::Success,
            },
        }),
    }
}

impl Run<'_> {
    /// Where the next try goes: to an endpoint that was not tried yet, if there is one.
    pub(super) fn target(&mut self) -> Result<Target, Stop> {
        let exchange = &self.story.exchange;
        let elsewhere = exchange.plan.upstream.as_deref();
        let elsewhere = elsewhere.and_then(|name| self.destinations.get(name));
        let destination = match (elsewhere, &self.route.upstream) {
            (Some(destination), _) | (None, Upstream::Named(destination)) => destination,
            (None, Upstream::Authority(protocol)) => {
                let (host, port) = destination_of(exchange).ok_or(Stop::Refused(tunnel::NO_DESTINATION))?;
                let endpoint = Arc::new(Endpoint::tcp(*protocol, host, port));
                return Ok(Target { endpoint, call: None });
            }
        };
        let member = pick(destination, exchange, &self.tried).ok_or(Stop::Failed(Failure::NoEndpoint))?;
        let call = Some(member.begin());
        let endpoint = member.endpoint().clone();
        self.picked = Some(member);
        Ok(Target { endpoint, call })
    }

    /// The next try goes elsewhere, if it can.
    pub(super) fn avoid_last(&mut self) {
        self.tried.extend(self.picked.take());
    }
}

fn pick(destination: &Destination, exchange: &Exchange, tried: &[Arc<Member>]) -> Option<Arc<Member>> {
    let hash = destination.hash(exchange);
    destination.group.pick(hash, tried, Instant::now())
}

/// Host and port that a request names.
pub(super) fn destination_of(exchange: &Exchange) -> Option<(&str, u16)> {
    let authority = exchange.authority.as_ref()?.to_str().ok()?;
    tunnel::host_and_port(authority, Some(80))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_an_endpoint_is_to_blame_for_is_held_against_it() {
        let answered = |status| heard(AttemptResult::Answered(StatusCode::from_u16(status).unwrap()), None);
        for (status, expected) in [
            (200, Heard::Success),
            (404, Heard::Success),
            (429, Heard::Success),
            (500, Heard::Failure),
            (501, Heard::Success),
            (502, Heard::GatewayFailure),
            (503, Heard::GatewayFailure),
            (504, Heard::GatewayFailure),
            (505, Heard::Success),
            (507, Heard::Failure),
        ] {
            assert_eq!(answered(status), Some(expected), "{status}");
        }
        assert_eq!(heard(AttemptResult::Abandoned, None), None);
        let failed = |failure| heard(AttemptResult::Failed(failure), None);
        assert_eq!(failed(Failure::ConnectFailed), Some(Heard::GatewayFailure));
        assert_eq!(failed(Failure::FirstByteTimeout), Some(Heard::GatewayFailure));
        assert_eq!(failed(Failure::ExchangeTimeout), None);
        let mut head = ResponseHeader::build(200, None).unwrap();
        head.insert_header("grpc-status", "14").unwrap();
        let answered = heard(AttemptResult::Answered(StatusCode::OK), Some(&head));
        assert_eq!(answered, Some(Heard::GatewayFailure));
    }
}
