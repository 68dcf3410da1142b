//! What an answer needs of its request's headers (RFC 3261 sections 8.2.6.2 and 18.2).

use std::net::SocketAddr;

use super::{HeaderName, Headers, Rport, Via};
use crate::sip::syntax::split_list;

impl Headers {
    /// Appends what a response copies from its request (RFC 3261 section 8.2.6.2), unchanged.
    pub fn copy_for_response(&mut self, request: &Self) {
        for name in [
            HeaderName::Via,
            HeaderName::From,
            HeaderName::To,
            HeaderName::CallId,
            HeaderName::CSeq,
        ] {
            self.copy_all(request, &name);
        }
    }

    /// Notes in the topmost Via where the request really came from: `received` where the
    /// sent-by is another host (RFC 3261 section 18.2.1), and both `received` and `rport` where
    /// `rport` was asked for (RFC 3581 section 4). An unreadable Via stays as it is.
    pub fn record_source(&mut self, source: SocketAddr) {
        let Some(header) = self
            .0
            .iter_mut()
            .find(|header| header.name == HeaderName::Via)
        else {
            return;
        };
        let Ok(elements) = split_list(&header.value) else {
            return;
        };
        let Some((Ok(mut top), others)) = elements
            .split_first()
            .map(|(top, others)| (top.parse::<Via>(), others))
        else {
            return;
        };
        let wants_rport = top.rport() != Rport::Absent;
        if wants_rport {
            top.set_rport(source.port());
        }
        if wants_rport || top.host.ip() != Some(source.ip()) {
            top.set_received(source.ip());
        }
        let mut value = top.to_string();
        for other in others {
            value.push_str(", ");
            value.push_str(other);
        }
        header.value = value;
    }

    /// Gives To the tag `tag`, unless it has one or cannot be read. The rest of the value
    /// stays byte for byte, since old peers compare it so. Where To was said twice, alike, it is
    /// said once.
    pub fn set_to_tag(&mut self, tag: &str) {
        if let Ok(to) = self.to()
            && to.tag().is_none()
            && let Some(value) = self.get(&HeaderName::To)
        {
            let kept = value.trim_end_matches([';', ' ', '\t']);
            let tagged = format!("{kept};tag={tag}");
            self.set(HeaderName::To, tagged);
        }
    }

    /// Takes the topmost Via value away: ours, when a request is sent once more.
    pub fn pop_via(&mut self) {
        let Some(at) = self
            .0
            .iter()
            .position(|header| header.name == HeaderName::Via)
        else {
            return;
        };
        let rest = split_list(&self.0[at].value)
            .map(|elements| elements.get(1..).unwrap_or_default().join(", "));
        match rest {
            Ok(rest) if !rest.is_empty() => self.0[at].value = rest,
            Ok(_) | Err(_) => {
                self.0.remove(at);
            }
        }
    }
}
