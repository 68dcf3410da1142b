//! Dialogs (RFC 3261 section 12): identity, route set, remote target and sequence numbers.

use std::cmp::Ordering;

use super::headers::{CSeq, HeaderError, HeaderName, NameAddr};
use super::message::{Method, Request, Response};
use super::uri::Uri;

/// What both sides know of a dialog.
#[derive(Clone, Debug)]
pub struct Dialog {
    call_id: String,
    local: NameAddr,
    remote: NameAddr,
    local_sequence: u32,
    remote_sequence: Option<u32>,
    remote_target: Uri,
    route_set: Vec<NameAddr>,
}

/// How a request's CSeq stands to those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sequence {
    /// Higher than all before.
    InOrder,
    /// Not higher: answered 500 (RFC 3261 12.2.2).
    OutOfOrder,
}

impl Dialog {
    /// The dialog that a UAS answers `request` into (RFC 3261 12.1.1). Peers of RFC 2543 may
    /// send no Contact; From stands in for it.
    pub fn as_server(request: &Request, local_tag: &str) -> Result<Self, HeaderError> {
        let headers = &request.headers;
        let remote = headers.from()?;
        let remote_target = match headers.contact() {
            Ok(contact) => contact.uri,
            Err(HeaderError::Missing(_)) if matches!(remote.uri, Uri::Sip(_)) => remote.uri.clone(),
            Err(problem) => return Err(problem),
        };
        Ok(Self {
            call_id: headers.call_id()?.to_owned(),
            local: headers.to()?.with_tag(local_tag),
            remote,
            local_sequence: 0,
            remote_sequence: Some(headers.cseq()?.number),
            remote_target,
            route_set: headers.record_routes()?,
        })
    }

    /// The dialog that `response` makes of our `request` (RFC 3261 12.1.2). Without a Contact
    /// the target stays what it was.
    pub fn as_client(request: &Request, response: &Response) -> Result<Self, HeaderError> {
        // A peer that answered must be acknowledged and hung up, however broken its headers.
        let mut route_set = response.headers.record_routes().unwrap_or_default();
        route_set.reverse();
        let contact = response.headers.contact().map(|contact| contact.uri);
        Ok(Self {
            call_id: request.headers.call_id()?.to_owned(),
            local: request.headers.from()?,
            remote: response.headers.to()?,
            local_sequence: request.headers.cseq()?.number,
            remote_sequence: None,
            remote_target: contact.unwrap_or_else(|_| request.uri.clone()),
            route_set,
        })
    }

    /// Call-ID.
    pub fn call_id(&self) -> &str {
        &self.call_id
    }

    /// Our tag.
    pub fn local_tag(&self) -> &str {
        self.local.tag().unwrap_or_default()
    }

    /// The peer's tag; peers of RFC 2543 may have none.
    pub fn remote_tag(&self) -> Option<&str> {
        self.remote.tag()
    }

    /// Where requests are meant for.
    pub fn remote_target(&self) -> &Uri {
        &self.remote_target
    }

    /// The first hop: the top of the route set, or the remote target.
    pub fn next_hop(&self) -> &Uri {
        self.route_set
            .first()
            .map_or(&self.remote_target, |route| &route.uri)
    }

    /// Whether proxies asked to stay in the path.
    pub fn has_route_set(&self) -> bool {
        !self.route_set.is_empty()
    }

    /// Takes what the 2xx that answered the call says in place of what its early dialog knew: the
    /// route set and the remote target (RFC 3261 13.2.2.4).
    pub fn confirm(&mut self, answered: &Self) {
        self.remote = answered.remote.clone();
        self.remote_target = answered.remote_target.clone();
        self.route_set.clone_from(&answered.route_set);
    }

    /// Takes a new remote target from the Contact of a target refresh.
    pub fn refresh_target(&mut self, contact: Uri) {
        self.remote_target = contact;
    }

    /// Takes the CSeq of a request of the peer's, other than ACK and CANCEL.
    pub fn take_sequence(&mut self, number: u32) -> Sequence {
        match self.remote_sequence.map(|last| number.cmp(&last)) {
            None | Some(Ordering::Greater) => {
                self.remote_sequence = Some(number);
                Sequence::InOrder
            }
            Some(Ordering::Equal | Ordering::Less) => Sequence::OutOfOrder,
        }
    }

    /// A request with the next CSeq (RFC 3261 12.2.1.1), lacking Via and what is not the
    /// dialog's.
    pub fn request(&mut self, method: Method) -> Request {
        let sequence = self.next_sequence();
        self.build(method, sequence)
    }

    /// The CSeq of our next request, for one that goes out a second time with credentials.
    pub fn next_sequence(&mut self) -> u32 {
        // RFC 3261 8.1.1.5 keeps CSeq below 2**31; no dialog lives long enough to get there.
        self.local_sequence = self.local_sequence.saturating_add(1);
        self.local_sequence
    }

    /// The ACK of a 2xx to the INVITE with CSeq `sequence` (RFC 3261 13.2.2.4).
    pub fn ack(&self, sequence: u32) -> Request {
        self.build(Method::Ack, sequence)
    }

    fn build(&self, method: Method, sequence: u32) -> Request {
        let (uri, routes) = self.targets();
        let mut request = Request::new(method.clone(), uri);
        for route in routes {
            request.headers.push(HeaderName::Route, route);
        }
        request.headers.push(HeaderName::MaxForwards, 70);
        request.headers.push(HeaderName::From, &self.local);
        request.headers.push(HeaderName::To, &self.remote);
        request.headers.push(HeaderName::CallId, &self.call_id);
        let cseq = CSeq {
            number: sequence,
            method,
        };
        request.headers.push(HeaderName::CSeq, cseq);
        request
    }

    /// Request-URI and Route. A strict router (no `lr`) gets itself as the Request-URI and the
    /// target as the last Route.
    fn targets(&self) -> (Uri, Vec<NameAddr>) {
        match self.route_set.split_first() {
            Some((first, rest)) if !is_loose(&first.uri) => {
                let mut routes = rest.to_vec();
                routes.push(NameAddr::new(self.remote_target.clone()));
                (first.uri.clone(), routes)
            }
            _ => (self.remote_target.clone(), self.route_set.clone()),
        }
    }
}

fn is_loose(uri: &Uri) -> bool {
    uri.as_sip().is_some_and(|uri| uri.is_loose_router())
}
