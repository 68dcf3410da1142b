//! Builds and sends our messages.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;

use super::Endpoint;
use super::body::SDP;
use super::leg::{Leg, Owner, Path, Phase, Purpose};
use crate::sip::auth::DigestClient;
use crate::sip::dialog::Dialog;
use crate::sip::headers::{CSeq, HeaderName, Headers, NameAddr, Via};
use crate::sip::message::{Method, Request, Response, StatusCode};
use crate::sip::timers::Reliability;
use crate::sip::token;
use crate::sip::transaction::{ClientId, ServerId};
use crate::sip::transport::{Hop, LocalTransport, Protocol, TransportId};
use crate::sip::uri::{SipUri, Uri};

/// The methods that we answer.
pub(super) const ALLOW: &str =
    "INVITE, ACK, CANCEL, BYE, OPTIONS, INFO, PRACK, UPDATE, REFER, NOTIFY";

/// The same with those of subscriptions.
const ALLOW_SUBSCRIBE: &str =
    "INVITE, ACK, CANCEL, BYE, OPTIONS, INFO, PRACK, UPDATE, REFER, NOTIFY, SUBSCRIBE";

impl Endpoint {
    /// The methods that we answer outside of calls.
    pub(super) fn allow(&self) -> &'static str {
        match self.config.event_packages.is_empty() {
            true => ALLOW,
            false => ALLOW_SUBSCRIBE,
        }
    }

    /// One of our transports.
    pub(super) fn local(&self, id: TransportId) -> Option<&LocalTransport> {
        self.config.transports.iter().find(|local| local.id == id)
    }

    pub(super) fn protocol(&self, id: TransportId) -> Protocol {
        self.local(id).map_or(Protocol::Udp, |local| local.protocol)
    }

    /// Our Contact on a transport: `sips:` where the request is for one (RFC 3261 12.1.1) and the
    /// transport can be.
    pub(super) fn contact(
        &self,
        id: TransportId,
        user: Option<&str>,
        secure: bool,
    ) -> Option<NameAddr> {
        let local = self.local(id)?;
        let host = local.advertised_host.clone();
        let mut uri = SipUri::new(user, host, Some(local.advertised_port));
        uri.secure = secure && local.protocol == Protocol::Tls;
        if uri.secure {
            uri.params.set("transport", "tcp");
        } else if let Some(name) = local.protocol.uri_parameter() {
            uri.params.set("transport", name);
        }
        Some(NameAddr::new(Uri::Sip(uri)))
    }

    /// A response, with `to_tag` where To has none.
    pub(super) fn response(&self, request: &Request, status: u16, to_tag: &str) -> Response {
        let status = StatusCode::new(status).unwrap_or(StatusCode::SERVER_INTERNAL_ERROR);
        let mut response = Response::to_request(request, status);
        if status != StatusCode::TRYING {
            response.headers.set_to_tag(to_tag);
        }
        response
    }

    /// Says who we are, but not to those whom we know nothing of: what they could do with it is to
    /// look for its faults.
    pub(super) fn sign(&self, response: &mut Response, peer: Hop) {
        if !self.is_challenged(peer) {
            let server = &self.config.user_agent;
            response.headers.push(HeaderName::Server, server);
        }
    }

    /// Whether callers from there are asked for a password.
    pub(super) fn is_challenged(&self, peer: Hop) -> bool {
        let source = peer.address.ip().to_canonical();
        let policy = self.config.authentication.as_ref();
        policy.is_some_and(|policy| !policy.trusted.iter().any(|net| net.contains(&source)))
    }

    /// A response inside, or establishing, a dialog: with Contact, Allow and Supported.
    pub(super) fn dialog_response(&self, request: &Request, status: u16, leg: &Leg) -> Response {
        let mut response = self.response(request, status, &leg.local_tag);
        // RFC 3261 12.1.1: the route set goes back unchanged.
        response
            .headers
            .copy_all(&request.headers, &HeaderName::RecordRoute);
        response.headers.push(HeaderName::Contact, &leg.contact);
        response.headers.push(HeaderName::Allow, ALLOW);
        response
            .headers
            .push(HeaderName::Supported, leg.extensions.supported());
        response
    }

    /// Sends a response through its transaction; whether the transaction took it.
    pub(super) fn send_response(
        &mut self,
        now: Instant,
        id: ServerId,
        response: &Response,
    ) -> Option<(Hop, Arc<[u8]>)> {
        let mut response = response.clone();
        self.sign(&mut response, self.servers.get(id)?.hop);
        let bytes: Arc<[u8]> = response.to_bytes().into();
        let hop = self
            .servers
            .respond(now, id, response.status.code(), &bytes)?;
        self.transmit(hop, Arc::clone(&bytes));
        self.refresh_server(id);
        Some((hop, bytes))
    }

    /// Answers a request that needs nothing but a status and header fields.
    pub(super) fn answer(
        &mut self,
        now: Instant,
        id: ServerId,
        request: &Request,
        status: u16,
        fields: &[(HeaderName, String)],
    ) {
        let tag = token::tag(&mut self.rng);
        let mut response = self.response(request, status, &tag);
        for (name, value) in fields {
            response.headers.push(name.clone(), value);
        }
        self.send_response(now, id, &response);
    }

    /// Starts a client transaction with `request`, which lacks its Via.
    pub(super) fn send_request(
        &mut self,
        now: Instant,
        mut request: Request,
        hop: Hop,
        mut owner: Owner,
    ) -> ClientId {
        if !request.headers.has(&HeaderName::UserAgent) {
            request
                .headers
                .push(HeaderName::UserAgent, &self.config.user_agent);
        }
        let asked = hop;
        let hop = self.fitting(now, &request, asked);
        owner.datagram = (hop != asked).then_some(asked);
        let branch = token::branch(&mut self.rng);
        self.push_via(&mut request, hop.transport, &branch);
        self.start_client(now, branch, request, hop, owner)
    }

    fn start_client(
        &mut self,
        now: Instant,
        branch: String,
        request: Request,
        hop: Hop,
        owner: Owner,
    ) -> ClientId {
        let reliability = self.protocol(hop.transport).reliability();
        let id = self
            .clients
            .start(now, branch, request, hop, reliability, owner);
        self.launch(id);
        id
    }

    /// Sends a transaction's request for the first time.
    pub(super) fn launch(&mut self, id: ClientId) {
        if let Some(transaction) = self.clients.get(id) {
            let (hop, bytes) = (transaction.hop, transaction.bytes());
            self.transmit(hop, bytes);
        }
        self.refresh_client(id);
    }

    /// Waits for the first response to a request no longer than this, where `Some`.
    pub(super) fn expect_response_within(
        &mut self,
        now: Instant,
        id: ClientId,
        patience: Option<Duration>,
    ) {
        let transaction = self.clients.get_mut(id);
        if let (Some(transaction), Some(patience)) = (transaction, patience) {
            transaction.expect_response_by(now + patience);
            self.refresh_client(id);
        }
    }

    pub(super) fn push_via(&self, request: &mut Request, transport: TransportId, branch: &str) {
        if let Some(local) = self.local(transport) {
            let via = Via::new(
                local.protocol.via_transport(),
                local.advertised_host.clone(),
                Some(local.advertised_port),
                branch,
            );
            request.headers.push_front(HeaderName::Via, via);
        }
    }

    /// Sends the ACK of a 2xx, which belongs to no transaction (RFC 3261 13.2.2.4).
    pub(super) fn send_ack(&mut self, mut ack: Request, invite: &Request, hop: Hop) -> Arc<[u8]> {
        for name in [HeaderName::Authorization, HeaderName::ProxyAuthorization] {
            ack.headers.copy_all(&invite.headers, &name);
        }
        let branch = token::branch(&mut self.rng);
        self.push_via(&mut ack, hop.transport, &branch);
        let bytes: Arc<[u8]> = ack.to_bytes().into();
        self.transmit(hop, Arc::clone(&bytes));
        bytes
    }

    /// Sends the ACK of a refusal inside its transaction (RFC 3261 17.1.1.3).
    pub(super) fn acknowledge_refusal(&mut self, id: ClientId, response: &Response) {
        let Some(transaction) = self.clients.get(id) else {
            return;
        };
        let hop = transaction.hop;
        let Some(mut ack) = sibling(&transaction.request, Method::Ack) else {
            return;
        };
        ack.headers.remove(&HeaderName::To);
        ack.headers.copy_all(&response.headers, &HeaderName::To);
        self.transmit(hop, ack.to_bytes().into());
    }

    /// Sends the CANCEL of an INVITE that has a provisional response (RFC 3261 9.1); where it
    /// has none yet, notes that it is wanted.
    pub(super) fn cancel_invite(
        &mut self,
        now: Instant,
        id: ClientId,
        reason: Option<super::Reason>,
    ) {
        let Some(transaction) = self.clients.get_mut(id) else {
            return;
        };
        if !transaction.may_cancel() {
            transaction.owner.cancel = Some(reason);
            return;
        }
        transaction.owner.cancel = None;
        transaction.give_up(now);
        let hop = transaction.hop;
        let owner = Owner::new(Purpose::Cancel, transaction.owner.path);
        let Some(mut cancel) = sibling(&transaction.request, Method::Cancel) else {
            return;
        };
        if let Some(reason) = reason {
            cancel.headers.push(HeaderName::Reason, reason);
        }
        self.refresh_client(id);
        let via = cancel.headers.top_via();
        if let Some(branch) = via.as_ref().ok().and_then(Via::branch) {
            self.start_client(now, branch.to_owned(), cancel, hop, owner);
        }
    }

    /// The way to the peer of one of a leg's dialogs: an outgoing call may have several.
    pub(super) fn path_along(&self, leg: &Leg, dialog: &Dialog) -> Path {
        match leg.phase {
            Phase::Calling(_) => self.path_to_callee(leg.path, dialog),
            Phase::Ringing(_) | Phase::Established(_) | Phase::Closing(_) => leg.path,
        }
    }

    /// The way to a callee whose response made `dialog` of an INVITE that went along `path`.
    pub(super) fn path_to_callee(&self, path: Path, dialog: &Dialog) -> Path {
        let protocol = self.protocol(path.transport);
        Path {
            behind_nat: is_behind_nat(dialog.remote_target(), None, path.peer, protocol),
            ..path
        }
    }

    /// Where a dialog's requests go: along the route set or to the remote target where those
    /// are addresses that can be reached, else where the peer is known to be. A peer that
    /// connected to us is reached on its connection for as long as there is one, and in TLS no
    /// other address is taken for one that was verified.
    pub(super) fn dialog_hop(&self, path: Path, dialog: &Dialog) -> Hop {
        let known = Hop::new(path.transport, path.peer);
        let protocol = self.protocol(path.transport);
        let unreachable = path.behind_nat && !dialog.has_route_set();
        let next = socket_address(dialog.next_hop(), protocol)
            .filter(|next| !unreachable && next.is_ipv4() == path.peer.is_ipv4());
        match (next, protocol) {
            (reconnect, _) if path.accepted => Hop { reconnect, ..known },
            (Some(address), Protocol::Udp | Protocol::Tcp) => Hop { address, ..known },
            (_, Protocol::Udp | Protocol::Tcp | Protocol::Tls) => known,
        }
    }
}

/// Our request again, without Via and with credentials for the challenges in `response`; the
/// caller gives it the next CSeq. `None` where there is nothing (more) to try.
pub(super) fn with_credentials(
    digest: &mut DigestClient,
    rng: &mut StdRng,
    request: &Request,
    response: &Response,
) -> Option<Request> {
    digest.learn(request, response).ok()?;
    let mut again = request.clone();
    again.headers.pop_via();
    digest.authorize(&mut again, rng);
    Some(again)
}

/// Whether a response asks for credentials.
pub(super) fn is_challenge(response: &Response) -> bool {
    matches!(
        response.status,
        StatusCode::UNAUTHORIZED | StatusCode::PROXY_AUTHENTICATION_REQUIRED
    )
}

/// Raises a request's CSeq.
pub(super) fn set_sequence(request: &mut Request, number: u32) {
    let cseq = CSeq {
        number,
        method: request.method.clone(),
    };
    request.headers.set(HeaderName::CSeq, cseq);
}

/// Gives a message a session description.
pub(super) fn set_description(headers: &mut Headers, body: &mut Vec<u8>, sdp: Vec<u8>) {
    headers.set(HeaderName::ContentType, SDP);
    *body = sdp;
}

/// ACK or CANCEL of an INVITE: same Request-URI, top Via, Route, From, To, Call-ID and number.
fn sibling(invite: &Request, method: Method) -> Option<Request> {
    let mut request = Request::new(method.clone(), invite.uri.clone());
    let via = invite.headers.top_via().ok()?;
    let number = invite.headers.cseq().ok()?.number;
    request.headers.push(HeaderName::Via, via);
    request.headers.push(HeaderName::MaxForwards, 70);
    for name in [
        HeaderName::Route,
        HeaderName::From,
        HeaderName::To,
        HeaderName::CallId,
    ] {
        request.headers.copy_all(&invite.headers, &name);
    }
    request
        .headers
        .push(HeaderName::CSeq, CSeq { number, method });
    Some(request)
}

/// Whether a URI is `sips:`.
pub(super) fn is_secure(uri: &Uri) -> bool {
    uri.as_sip().is_some_and(|uri| uri.secure)
}

/// The address in a SIP URI, where it is one that can be reached by `protocol`.
fn socket_address(uri: &Uri, protocol: Protocol) -> Option<SocketAddr> {
    let uri = uri.as_sip()?;
    let asked = Protocol::asked_by(uri).ok()?;
    let spoken = asked.is_none_or(|asked| asked == protocol);
    let ip = uri.host.ip()?;
    let usable = spoken && !ip.is_unspecified() && !ip.is_multicast();
    usable.then(|| SocketAddr::new(ip, uri.port.unwrap_or(protocol.default_port())))
}

/// Whether a peer seen at `source` cannot be reached at its Contact: it repeats the sent-by of
/// a Via that was not true, is private where the source is not, or only one of both is on this
/// machine. The port that a stream comes from is never the one that its peer listens on.
pub(super) fn is_behind_nat(
    contact: &Uri,
    via: Option<&Via>,
    source: SocketAddr,
    protocol: Protocol,
) -> bool {
    let Some((uri, ip)) = contact.as_sip().and_then(|uri| Some((uri, uri.host.ip()?))) else {
        return true;
    };
    let port = uri.port.unwrap_or(protocol.default_port());
    let untrue = match protocol.reliability() {
        Reliability::Unreliable => SocketAddr::new(ip, port) != source,
        Reliability::Reliable => ip != source.ip(),
    };
    let repeats_untrue_via =
        via.is_some_and(|via| via.host == uri.host && via.port_or_default() == port && untrue);
    repeats_untrue_via
        || ip.is_loopback() != source.ip().is_loopback()
        || (is_private(ip) && !is_private(source.ip()))
}

fn is_private(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_private() || ip.is_loopback() || ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unique_local() || ip.is_loopback() || ip.is_unicast_link_local(),
    }
}
