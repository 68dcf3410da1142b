//! Keys of secure RTP in SDP (RFC 4568).

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::SdpError;
use super::parse::{Media, Transport};

/// Key (16 bytes) and salt (14) of one direction.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct MasterKey(pub [u8; 30]);

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MasterKey(_)")
    }
}

/// A crypto suite (RFC 4568 section 6.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CryptoSuite {
    /// AES in counter mode, tags of 80 bits.
    AesCm128HmacSha1_80,
    /// The same with tags of 32 bits.
    AesCm128HmacSha1_32,
}

impl CryptoSuite {
    const ALL: [Self; 2] = [Self::AesCm128HmacSha1_80, Self::AesCm128HmacSha1_32];

    /// Its name in SDP.
    pub fn name(self) -> &'static str {
        match self {
            Self::AesCm128HmacSha1_80 => "AES_CM_128_HMAC_SHA1_80",
            Self::AesCm128HmacSha1_32 => "AES_CM_128_HMAC_SHA1_32",
        }
    }

    /// The tag under which our offers list it.
    fn offered_as(self) -> u32 {
        match self {
            Self::AesCm128HmacSha1_80 => 1,
            Self::AesCm128HmacSha1_32 => 2,
        }
    }
}

/// Our keys, one for each suite, drawn at random once a dialog.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LocalKeys {
    /// For AES_CM_128_HMAC_SHA1_80.
    pub sha1_80: MasterKey,
    /// For AES_CM_128_HMAC_SHA1_32.
    pub sha1_32: MasterKey,
}

impl LocalKeys {
    fn of(&self, suite: CryptoSuite) -> MasterKey {
        match suite {
            CryptoSuite::AesCm128HmacSha1_80 => self.sha1_80,
            CryptoSuite::AesCm128HmacSha1_32 => self.sha1_32,
        }
    }
}

/// Whether media is encrypted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Encryption {
    /// Never; encrypted streams are refused.
    #[default]
    Off,
    /// Where the peer does so, too.
    Optional(LocalKeys),
    /// Always; streams in the clear are refused.
    Required(LocalKeys),
}

impl Encryption {
    /// From now on only encrypted: what is encrypted once is not in the clear later.
    #[must_use]
    pub fn kept(self) -> Self {
        match self {
            Self::Optional(keys) | Self::Required(keys) => Self::Required(keys),
            Self::Off => Self::Off,
        }
    }

    /// The transport and the keys of an offer.
    pub(super) fn offered(&self) -> (&'static str, Vec<String>) {
        let lines = |keys: &LocalKeys| {
            let line = |suite: CryptoSuite| line(suite.offered_as(), suite, &keys.of(suite));
            CryptoSuite::ALL.into_iter().map(line).collect()
        };
        match self {
            Self::Off => ("RTP/AVP", Vec::new()),
            // What peers without encryption understand as well; a common extension of RFC 4568.
            Self::Optional(keys) => ("RTP/AVP", lines(keys)),
            Self::Required(keys) => ("RTP/SAVP", lines(keys)),
        }
    }
}

/// What was agreed on for a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Crypto {
    /// Of both directions.
    pub suite: CryptoSuite,
    /// What we send with.
    pub ours: MasterKey,
    /// What the peer sends with.
    pub theirs: MasterKey,
    tag: u32,
}

impl Crypto {
    /// The attribute of an answer.
    pub(super) fn answered(&self) -> String {
        line(self.tag, self.suite, &self.ours)
    }
}

fn line(tag: u32, suite: CryptoSuite, MasterKey(key): &MasterKey) -> String {
    let (name, key) = (suite.name(), STANDARD.encode(key));
    format!("a=crypto:{tag} {name} inline:{key}\r\n")
}

/// An `a=crypto` that we can use.
#[derive(Clone, Copy, Debug)]
pub(super) struct CryptoLine {
    tag: u32,
    suite: CryptoSuite,
    key: MasterKey,
}

impl CryptoLine {
    /// `1 AES_CM_128_HMAC_SHA1_80 inline:BASE64|2^31`. `None` for other suites, keys with an MKI,
    /// several keys, and parameters (such as UNENCRYPTED_SRTP) that we do not implement.
    pub(super) fn parse(value: &str) -> Option<Self> {
        let mut words = value.split_whitespace();
        let tag = words.next()?.parse().ok()?;
        let name = words.next()?;
        let suite = CryptoSuite::ALL
            .into_iter()
            .find(|suite| suite.name().eq_ignore_ascii_case(name))?;
        let (method, key) = words.next()?.split_once(':')?;
        // A lifetime may follow; an MKI has a colon in it.
        let mut parts = key.split('|');
        let encoded = parts.next()?.trim_end_matches('=');
        let has_mki = parts.any(|part| part.contains(':'));
        if !method.eq_ignore_ascii_case("inline") || has_mki || words.next().is_some() {
            return None;
        }
        let decoded = base64::engine::general_purpose::STANDARD_NO_PAD
            .decode(encoded)
            .ok()?;
        let key = MasterKey(decoded.try_into().ok()?);
        Some(Self { tag, suite, key })
    }
}

/// Which description is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// An offer of the peer's.
    Offer,
    /// Its answer to one of ours.
    Answer,
}

/// What a stream of the peer's makes of our wish for encryption: keys, or none where it stays in
/// the clear.
pub(super) fn protection(
    media: &Media<'_>,
    wish: &Encryption,
    side: Side,
) -> Result<Option<Crypto>, SdpError> {
    let transport = media.transport();
    let keys = match (wish, transport) {
        (_, Transport::Other) | (Encryption::Off, Transport::Secure) => {
            return Err(SdpError::Transport);
        }
        (Encryption::Off, Transport::Plain) => return Ok(None),
        (Encryption::Optional(keys) | Encryption::Required(keys), _) => keys,
    };
    let fits = |line: &&CryptoLine| side == Side::Offer || line.tag == line.suite.offered_as();
    match (media.crypto.iter().find(fits), wish, transport) {
        (Some(line), ..) => Ok(Some(Crypto {
            suite: line.suite,
            ours: keys.of(line.suite),
            theirs: line.key,
            tag: line.tag,
        })),
        (None, Encryption::Optional(_), Transport::Plain) => Ok(None),
        (None, ..) => Err(SdpError::Encryption),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubGVz";

    #[test]
    fn the_example_of_rfc_4568_is_read_and_what_we_lack_is_passed_over() {
        let line = format!("1 AES_CM_128_HMAC_SHA1_80 inline:{KEY}|2^20");
        let read = CryptoLine::parse(&line).unwrap();
        assert_eq!(
            (read.tag, read.suite),
            (1, CryptoSuite::AesCm128HmacSha1_80)
        );
        assert_eq!(&read.key.0[..5], b"YS___");
        let padded = CryptoLine::parse(&format!("7 aes_cm_128_hmac_sha1_32 INLINE:{KEY}"));
        assert_eq!(padded.unwrap().tag, 7);
        for refused in [
            format!("1 AES_CM_128_HMAC_SHA1_80 inline:{KEY}|2^20|1:4"),
            format!("1 AES_CM_128_HMAC_SHA1_80 inline:{KEY}|1:4"),
            format!("1 AES_CM_128_HMAC_SHA1_80 inline:{KEY} UNENCRYPTED_SRTP"),
            format!("1 AES_256_CM_HMAC_SHA1_80 inline:{KEY}"),
            format!("1 AES_CM_128_HMAC_SHA1_80 inline:{}", &KEY[4..]),
            format!("x AES_CM_128_HMAC_SHA1_80 inline:{KEY}"),
            "1 AES_CM_128_HMAC_SHA1_80".to_owned(),
            String::new(),
        ] {
            assert!(CryptoLine::parse(&refused).is_none(), "{refused}");
        }
    }

    #[test]
    fn what_we_write_is_read_back_and_no_key_shows_in_debug_output() {
        let key = MasterKey([200; 30]);
        let text = line(3, CryptoSuite::AesCm128HmacSha1_32, &key);
        let value = text.trim_end().strip_prefix("a=crypto:").unwrap();
        let read = CryptoLine::parse(value).unwrap();
        assert_eq!((read.tag, read.key), (3, key));
        assert!(!format!("{read:?}").contains("200"));
    }
}
