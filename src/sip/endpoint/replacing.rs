//! INVITEs that want to take the place of another call (RFC 3891).

use super::Endpoint;
use super::api::LegId;
use super::leg::Phase;
use crate::sip::headers::Headers;

impl Endpoint {
    /// The leg that an INVITE outside dialogs wants to replace, or the status that refuses it
    /// (RFC 3891 section 3).
    pub(super) fn replaced_leg(&self, headers: &Headers) -> Result<Option<LegId>, u16> {
        let replaces = match headers.replaces() {
            Ok(Some(replaces)) => replaces,
            Ok(None) => return Ok(None),
            Err(_) => return Err(400),
        };
        let key = (replaces.call_id, replaces.to_tag);
        let id = *self.dialogs.get(&key).ok_or(481_u16)?;
        let leg = self.legs.get(&id).ok_or(481_u16)?;
        let remote_tag = match &leg.phase {
            Phase::Established(session) | Phase::Closing(session) => session.dialog.remote_tag(),
            // Only the side that sent the INVITE may have an early dialog replaced.
            Phase::Ringing(_) => return Err(481),
            Phase::Calling(_) => {
                let dialog = leg.dialog_with(Some(&replaces.from_tag));
                return dialog.map(|_| Some(id)).ok_or(481);
            }
        };
        // A peer of RFC 2543 has no tag, which Replaces writes as 0.
        if remote_tag.unwrap_or("0") != replaces.from_tag {
            return Err(481);
        }
        match &leg.phase {
            Phase::Closing(_) => Err(603),
            _ if replaces.early_only => Err(486),
            _ => Ok(Some(id)),
        }
    }
}
