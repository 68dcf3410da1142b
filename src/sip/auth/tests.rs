#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::{Duration, Instant};

use rand::SeedableRng;
use rand::rngs::StdRng;

use super::*;
use crate::sip::headers::{
    Credentials, DigestChallenge, DigestCredentials, HeaderName, QualityOfProtection,
};
use crate::sip::message::{Method, Request, Response, StatusCode};

/// A registrar, a client and a clock.
struct Scene {
    verifier: Verifier,
    client: DigestClient,
    rng: StdRng,
    now: Instant,
}

impl Scene {
    fn new(password: &str) -> Self {
        Self::with(password, |_| ())
    }

    fn with(password: &str, change: impl FnOnce(&mut VerifierSettings)) -> Self {
        let mut settings = VerifierSettings {
            realm: "example.com".to_owned(),
            secret: [7; 32],
            nonce_lifetime: Duration::from_secs(60),
            allow_md5: true,
            max_used_nonces: 100,
        };
        change(&mut settings);
        let now = Instant::now();
        Self {
            verifier: Verifier::new(settings, now),
            client: DigestClient::new("alice", password),
            rng: StdRng::seed_from_u64(1),
            now,
        }
    }

    /// A REGISTER with what the client has learnt so far.
    fn register(&mut self) -> Request {
        let mut request = Request::new(
            Method::Register,
            "sip:example.com;transport=udp".parse().unwrap(),
        );
        self.client.authorize(&mut request, &mut self.rng);
        request
    }

    fn verify(&mut self, request: &Request) -> Result<String, Refusal> {
        let credentials = request.headers.authorization().unwrap();
        self.verifier.verify(
            &request.method,
            &credentials,
            |user| (user == "alice").then(|| "secret".to_owned()),
            self.now,
        )
    }

    fn challenge(&mut self, stale: bool) -> Response {
        unauthorized(&self.verifier.challenges(stale, self.now))
    }

    /// Answers a new challenge.
    fn challenged_register(&mut self) -> Request {
        let bare = Request::new(Method::Register, "sip:example.com".parse().unwrap());
        let challenge = self.challenge(false);
        self.client.learn(&bare, &challenge).unwrap();
        self.register()
    }
}

fn unauthorized(challenges: &[DigestChallenge]) -> Response {
    let mut response = Response::new(StatusCode::UNAUTHORIZED);
    for challenge in challenges {
        response
            .headers
            .push(HeaderName::WwwAuthenticate, challenge);
    }
    response
}

fn digest(request: &Request) -> DigestCredentials {
    match request.headers.authorization().unwrap().remove(0) {
        Credentials::Digest(digest) => digest,
        Credentials::Other(scheme) => panic!("{scheme}"),
    }
}

#[test]
fn proofs_are_those_of_the_rfcs() {
    let proof = |hash, realm, password, nonce, cnonce: Option<&str>| {
        let protection = cnonce.map(|cnonce| Protection {
            qop: QualityOfProtection::Auth,
            cnonce: cnonce.to_owned(),
            nonce_count: 1,
        });
        let protection = protection.as_ref();
        Proof {
            hash,
            username: "Mufasa",
            realm,
            password,
            method: "GET",
            uri: "/dir/index.html",
            nonce,
            protection,
        }
        .response()
    };
    // RFC 7616 section 3.9.1.
    let nonce = "7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v";
    let cnonce = Some("f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ");
    let realm = "http-auth@example.org";
    assert_eq!(
        proof(Hash::Md5, realm, "Circle of Life", nonce, cnonce),
        "8ca523f5e9506fed4657c9700eebdbec"
    );
    assert_eq!(
        proof(Hash::Sha256, realm, "Circle of Life", nonce, cnonce),
        "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"
    );
    // RFC 2617 section 3.5, and the same as RFC 2069 had it.
    let (realm, nonce) = ("testrealm@host.com", "dcd98b7102dd2f0e8b11d0f600bfb0c093");
    assert_eq!(
        proof(Hash::Md5, realm, "Circle Of Life", nonce, Some("0a4f113b")),
        "6629fae49393a05397450978507c4ef1"
    );
    assert_eq!(
        proof(Hash::Md5, realm, "Circle Of Life", nonce, None),
        "670fd8c2df070c60b045671b8b24ff02"
    );
}

#[test]
fn a_challenged_client_gets_in_and_stays_in() {
    let mut scene = Scene::new("secret");
    let bare = scene.register();
    assert_eq!(scene.verify(&bare), Err(Refusal::Missing));
    for count in 1..=3 {
        let request = if count == 1 {
            scene.challenged_register()
        } else {
            scene.register()
        };
        let sent = digest(&request);
        assert_eq!(sent.algorithm, Algorithm::Sha256);
        assert_eq!(sent.uri, request.uri.to_string());
        assert_eq!(sent.protection.as_ref().unwrap().nonce_count, count);
        assert_eq!(scene.verify(&request), Ok("alice".to_owned()));
    }
    assert_eq!(scene.verifier.used_nonces(), 1);
}

#[test]
fn a_client_that_knows_only_md5_gets_in_where_allowed() {
    for (allow_md5, expected) in [
        (true, Ok("alice".to_owned())),
        (false, Err(Refusal::Missing)),
    ] {
        let mut scene = Scene::with("secret", |settings| settings.allow_md5 = allow_md5);
        let mut challenge = scene.verifier.challenges(false, scene.now).remove(0);
        challenge.algorithm = Algorithm::Md5;
        let bare = scene.register();
        scene
            .client
            .learn(&bare, &unauthorized(&[challenge]))
            .unwrap();
        let request = scene.register();
        assert_eq!(scene.verify(&request), expected);
    }
}

#[test]
fn a_wrong_password_is_refused_once_and_not_tried_again() {
    let mut scene = Scene::new("guess");
    let request = scene.challenged_register();
    assert_eq!(scene.verify(&request), Err(Refusal::Wrong));
    let again = scene.challenge(Refusal::Wrong.is_stale());
    assert_eq!(
        scene.client.learn(&request, &again),
        Err(ClientAuthError::Refused)
    );
    assert_eq!(scene.verifier.used_nonces(), 0);
}

#[test]
fn unknown_users_are_refused_like_wrong_passwords() {
    let mut scene = Scene::new("secret");
    scene.client = DigestClient::new("mallory", "a password of the usual length");
    let request = scene.challenged_register();
    assert_eq!(scene.verify(&request), Err(Refusal::Wrong));
}

#[test]
fn an_old_nonce_is_stale_and_a_new_one_helps() {
    let mut scene = Scene::new("secret");
    let first = scene.challenged_register();
    assert!(scene.verify(&first).is_ok());
    scene.now += Duration::from_secs(60);
    let late = scene.register();
    assert_eq!(scene.verify(&late), Err(Refusal::Stale));
    let challenge = scene.challenge(true);
    scene.client.learn(&late, &challenge).unwrap();
    let again = scene.register();
    assert_eq!(scene.verify(&again), Ok("alice".to_owned()));
    assert_eq!(
        scene.verifier.used_nonces(),
        1,
        "the expired nonce is forgotten"
    );
}

#[test]
fn a_nonce_renewed_without_saying_stale_is_answered() {
    let mut scene = Scene::new("secret");
    scene.challenged_register();
    let second_use = scene.register();
    let challenge = scene.challenge(false);
    scene.client.learn(&second_use, &challenge).unwrap();
    let request = scene.register();
    assert_eq!(scene.verify(&request), Ok("alice".to_owned()));
}

#[test]
fn foreign_and_tampered_nonces_are_stale() {
    let mut scene = Scene::new("secret");
    let good = scene.verifier.challenges(false, scene.now).remove(0);
    let bare = scene.register();
    for nonce in [
        good.nonce.replacen('0', "1", 1),
        good.nonce[1..].to_owned(),
        String::new(),
        "é".repeat(40),
    ] {
        let forged = DigestChallenge {
            nonce,
            ..good.clone()
        };
        scene.client.learn(&bare, &unauthorized(&[forged])).unwrap();
        let request = scene.register();
        assert_eq!(scene.verify(&request), Err(Refusal::Stale));
    }
}

#[test]
fn credentials_cannot_be_used_twice_or_for_another_method() {
    let mut scene = Scene::new("secret");
    let first = scene.challenged_register();
    let second = scene.register();
    let third = scene.register();
    let mut stolen = third.clone();
    stolen.method = Method::Invite;
    assert_eq!(scene.verify(&stolen), Err(Refusal::Wrong));
    // Datagrams overtake one another, but none counts twice.
    assert!(scene.verify(&third).is_ok());
    assert!(scene.verify(&first).is_ok());
    assert!(scene.verify(&second).is_ok());
    for request in [first, second, third] {
        assert_eq!(scene.verify(&request), Err(Refusal::Replayed));
    }
}

#[test]
fn credentials_without_qop_are_good_once() {
    let mut scene = Scene::new("secret");
    let mut challenge = scene.verifier.challenges(false, scene.now).remove(0);
    challenge.qop.clear();
    let bare = scene.register();
    scene
        .client
        .learn(&bare, &unauthorized(&[challenge]))
        .unwrap();
    let request = scene.register();
    assert_eq!(digest(&request).protection, None);
    assert!(scene.verify(&request).is_ok());
    assert_eq!(scene.verify(&request), Err(Refusal::Replayed));
}

#[test]
fn used_nonces_are_bounded_and_forgotten_ones_cannot_return() {
    let mut scene = Scene::with("secret", |settings| settings.max_used_nonces = 3);
    let requests: Vec<_> = (0..5).map(|_| scene.challenged_register()).collect();
    for request in &requests {
        assert!(scene.verify(request).is_ok());
        assert!(scene.verifier.used_nonces() <= 3);
    }
    for (request, expected) in
        requests
            .iter()
            .zip([Refusal::Stale, Refusal::Stale, Refusal::Replayed])
    {
        assert_eq!(scene.verify(request), Err(expected));
    }
}

#[test]
fn the_nonce_window_forgets_nothing_it_should_keep() {
    let mut used = verifier_window();
    assert_eq!(used(10), Ok(()));
    assert_eq!(used(1), Ok(()));
    assert_eq!(used(1), Err(Refusal::Replayed));
    assert_eq!(used(74), Ok(()));
    assert_eq!(used(10), Err(Refusal::Replayed));
    assert_eq!(used(11), Ok(()));
    assert_eq!(used(u32::MAX), Ok(()));
    assert_eq!(used(74), Err(Refusal::Replayed));
    assert_eq!(used(u32::MAX), Err(Refusal::Replayed));
    assert_eq!(used(0), Err(Refusal::Wrong));
}

/// One nonce, spent count after count through the front door.
fn verifier_window() -> impl FnMut(u32) -> Result<(), Refusal> {
    let mut scene = Scene::new("secret");
    let challenge = scene.verifier.challenges(false, scene.now).remove(0);
    move |nonce_count| {
        let protection = Protection {
            qop: QualityOfProtection::Auth,
            cnonce: "c".to_owned(),
            nonce_count,
        };
        let response = Proof {
            hash: Hash::Sha256,
            username: "alice",
            realm: "example.com",
            password: "secret",
            method: "REGISTER",
            uri: "sip:example.com",
            nonce: &challenge.nonce,
            protection: Some(&protection),
        }
        .response();
        let mut request = Request::new(Method::Register, "sip:example.com".parse().unwrap());
        request.headers.push(
            HeaderName::Authorization,
            DigestCredentials {
                username: "alice".to_owned(),
                realm: "example.com".to_owned(),
                nonce: challenge.nonce.clone(),
                uri: "sip:example.com".to_owned(),
                response,
                algorithm: Algorithm::Sha256,
                opaque: None,
                protection: Some(protection),
            },
        );
        scene.verify(&request).map(drop)
    }
}

#[test]
fn the_client_takes_the_strongest_challenge_it_can() {
    let offer = |algorithm: &str, qop: &str| {
        format!("Digest realm=\"r\", nonce=\"{algorithm}\", algorithm={algorithm}{qop}")
    };
    let choose = |offers: &[String]| {
        let mut response = Response::new(StatusCode::PROXY_AUTHENTICATION_REQUIRED);
        for offer in offers {
            response.headers.push(HeaderName::ProxyAuthenticate, offer);
        }
        let mut request = Request::new(Method::Invite, "sip:a@b".parse().unwrap());
        let mut client = DigestClient::new("u", "p");
        client.learn(&request, &response)?;
        client.authorize(&mut request, &mut StdRng::seed_from_u64(1));
        client.authorize(&mut request, &mut StdRng::seed_from_u64(1));
        let sent = request.headers.proxy_authorization().unwrap();
        assert!(!request.headers.has(&HeaderName::Authorization));
        Ok(sent
            .iter()
            .map(|sent| match sent {
                Credentials::Digest(sent) => {
                    format!("{} {} {}", sent.realm, sent.nonce, sent.algorithm.as_str())
                }
                Credentials::Other(scheme) => scheme.clone(),
            })
            .collect::<Vec<_>>())
    };
    let (md5, sha) = (
        offer("MD5", ", qop=\"auth-int, auth\""),
        offer("SHA-256", ""),
    );
    assert_eq!(
        choose(&[md5.clone(), sha.clone()]),
        Ok(vec!["r SHA-256 SHA-256".to_owned()])
    );
    assert_eq!(
        choose(&[format!("{sha}, {md5}")]),
        Ok(vec!["r SHA-256 SHA-256".to_owned()])
    );
    assert_eq!(
        choose(&[
            offer("SHA-512-256", ""),
            md5.clone(),
            "Basic realm=\"r\"".to_owned()
        ]),
        Ok(vec!["r MD5 MD5".to_owned()])
    );
    assert_eq!(
        choose(&[md5.clone(), md5.replace("\"r\"", "\"s\"")]),
        Ok(vec!["r MD5 MD5".to_owned(), "s MD5 MD5".to_owned()])
    );
    assert_eq!(
        choose(&[offer("AKAv1-MD5", ""), offer("MD5", ", qop=\"auth-int\"")]),
        Err(ClientAuthError::Unsupported)
    );
    assert_eq!(choose(&[]), Err(ClientAuthError::Unsupported));
    assert!(matches!(
        choose(&["Digest realm=\"r\"".to_owned()]),
        Err(ClientAuthError::Header(_))
    ));
}

#[test]
fn secrets_are_in_no_debug_output() {
    let mut scene = Scene::new("hunter2");
    scene.challenged_register();
    let shown = format!("{:?} {:?}", scene.client, scene.verifier);
    assert!(
        !shown.contains("hunter2") && !shown.contains("7, 7"),
        "{shown}"
    );
}
