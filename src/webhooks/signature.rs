//! Signatures as Standard Webhooks has them (symmetric, `v1`): HMAC-SHA256 of id, time and body.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// What secrets begin with whose bytes are in Base64. Others are taken as they are.
const PREFIX: &str = "whsec_";

/// The value of `webhook-signature`.
pub(super) fn sign(secret: &str, id: &str, seconds: i64, body: &str) -> String {
    let decoded = secret
        .strip_prefix(PREFIX)
        .and_then(|encoded| STANDARD.decode(encoded).ok());
    let key = decoded.unwrap_or_else(|| secret.as_bytes().to_vec());
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(&key) else {
        // HMAC takes keys of any length.
        return String::new();
    };
    mac.update(format!("{id}.{seconds}.{body}").as_bytes());
    format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_the_specification_is_signed_as_there() {
        let signed = sign(
            "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            1_614_265_330,
            r#"{"test": 2432232314}"#,
        );
        assert_eq!(signed, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn any_other_secret_is_taken_as_it_is() {
        let plain = sign("secret", "a", 1, "{}");
        assert_ne!(plain, sign("other", "a", 1, "{}"));
        assert_ne!(plain, sign("secret", "a", 2, "{}"));
        assert_ne!(plain, sign("secret", "b", 1, "{}"));
        assert_ne!(plain, sign("secret", "a", 1, "{ }"));
    }
}
