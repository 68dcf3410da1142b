//! Unguessable identifiers, drawn from the caller's generator.

use rand::Rng;
use rand::rngs::StdRng;

/// What every branch of RFC 3261 begins with (section 8.1.1.7).
pub const MAGIC_COOKIE: &str = "z9hG4bK";

/// A new Via branch: the magic cookie and 96 random bits.
pub fn branch(rng: &mut StdRng) -> String {
    format!(
        "{MAGIC_COOKIE}{:016x}{:08x}",
        rng.next_u64(),
        rng.next_u32()
    )
}

/// A new From or To tag: 64 random bits (RFC 3261 section 19.3 asks for at least 32).
pub fn tag(rng: &mut StdRng) -> String {
    format!("{:016x}", rng.next_u64())
}

/// A new Call-ID: 128 random bits and no host, so that it tells nothing about us.
pub fn call_id(rng: &mut StdRng) -> String {
    format!("{:016x}{:016x}", rng.next_u64(), rng.next_u64())
}

/// A new digest client nonce.
pub fn cnonce(rng: &mut StdRng) -> String {
    format!("{:016x}", rng.next_u64())
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;
    use crate::sip::syntax::is_token;

    #[test]
    fn identifiers_are_tokens_and_differ() {
        let mut rng = StdRng::seed_from_u64(3);
        let branch_one = branch(&mut rng);
        assert!(
            branch_one.starts_with("z9hG4bK") && branch_one.len() == 31,
            "{branch_one}"
        );
        let all = [
            branch_one,
            branch(&mut rng),
            tag(&mut rng),
            tag(&mut rng),
            call_id(&mut rng),
            cnonce(&mut rng),
        ];
        assert!(all.iter().all(|token| is_token(token)));
        assert!((1..all.len()).all(|n| !all[n..].contains(&all[n - 1])));
        assert_eq!(
            branch(&mut StdRng::seed_from_u64(3)),
            all[0],
            "the same seed gives the same"
        );
    }
}
