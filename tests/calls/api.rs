//! Vapi's official SDKs, unmodified, against the server, on both databases; and who is let in.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use offhook::http::hash_of;
use offhook::record::Scope;
use offhook::store::{ApiKey, Store};
use serde_json::Value;
use time::OffsetDateTime;

use crate::in_peace;
use crate::support::postgres::PostgreSql;
use crate::support::process::run_well;
use crate::support::server::{Server, Setup};
use crate::support::sipp::Sipp;
use crate::support::{softphone, sources, until};

const PATIENCE: Duration = Duration::from_secs(180);

/// Where `scripts/test` installs the SDKs.
fn sdks() -> PathBuf {
    match std::env::var_os("OFFHOOK_SDKS") {
        Some(folder) => folder.into(),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("target/sdks"),
    }
}

/// A key made by the command; the database is as the server has it.
pub(crate) fn key(server: &Server, more: &[&str]) -> String {
    let mut arguments = vec!["api-key", "create", "--name", "test"];
    arguments.extend(more);
    let made = server.told(&arguments);
    made["key"].as_str().expect("a key").to_owned()
}

/// One SDK's day against the server, with a SIP peer that answers.
fn spend_a_day(server: &Server, key: &str, command: &mut Command) -> Value {
    let peer = Sipp::new("callee_answers").with("WANTED", "301234567");
    let address = peer.address();
    let peer = peer.listen();
    let seen = run_well(
        command
            .env("BASE_URL", format!("http://{}", server.http))
            .env("API_KEY", key)
            .env("CALLEE", address),
        PATIENCE,
    );
    peer.must_go_by_the_scenario();
    serde_json::from_str(&seen.stdout).unwrap_or_else(|error| panic!("{error}: {}", seen.output()))
}

fn with_both_sdks(server: &Server) {
    let key = key(server, &[]);
    let scripts = sources().join("sdk");
    let mut typescript = Command::new("node");
    typescript.arg(scripts.join("day.mjs")).current_dir(sdks());
    let seen = spend_a_day(server, &key, &mut typescript);
    assert_eq!(seen["said"], "AI: Hello Ann, your room is ready.\n");
    let mut python = Command::new(sdks().join("python/bin/python"));
    python.arg(scripts.join("day.py"));
    let seen = spend_a_day(server, &key, &mut python);
    assert_eq!(seen["endedReason"], "exceeded-max-duration");
    calls_are_found(server, &key);
    calls_are_counted(server);
}

/// JSON by GET, with a header field that says who asks.
fn read(server: &Server, path: &str, (field, value): (&str, &str)) -> Value {
    let request = ureq::get(format!("{}{path}", server.base())).header(field, value);
    let body = request.call().expect("an answer").body_mut().read_to_vec();
    serde_json::from_slice(&body.expect("a body")).expect("JSON")
}

/// A caller who hears who is there and hangs up: what the call is looked for by.
fn calls_are_found(server: &Server, key: &str) {
    let key = format!("Bearer {key}");
    let found = |query: &str| {
        let calls = read(server, &format!("/call?{query}"), ("Authorization", &key));
        calls.as_array().expect("a list").len()
    };
    softphone::call(server, "demo", &[], &[]);
    until("the call to be over", PATIENCE, || {
        (found("status=ended") == 1).then_some(())
    });
    for (query, calls) in [
        ("search=larkfield", 1),
        ("search=hotel%20larkf", 1),
        ("search=larkf%20hotel", 0),
        ("search=nobody", 0),
        ("number=DEMO", 1),
        ("number=caller", 1),
        ("number=%25", 0),
        ("endedReason=customer-ended-call", 1),
        ("endedReason=customer-ended-call&search=lark&number=demo", 1),
        ("type=outboundPhoneCall", 0),
        ("limit=0&search=larkfield", 0),
    ] {
        assert_eq!(found(query), calls, "{query}");
    }
}

/// The dashboard's sums over that.
fn calls_are_counted(server: &Server) {
    let made = server.told(&["operator", "create", "--name", "ann"]);
    let login = serde_json::json!({ "name": "ann", "password": made["password"] });
    let session = ureq::post(format!("{}/ui/api/session", server.base()))
        .header("Content-Type", "application/json")
        .send(login.to_string())
        .expect("logged in");
    let cookie = session.headers()["set-cookie"].to_str().expect("text");
    let cookie = cookie.split(';').next().expect("a cookie");
    for hours in [6, 24, 720] {
        let path = format!("/ui/api/overview?hours={hours}");
        let shown = read(server, &path, ("Cookie", cookie));
        assert_eq!(shown["totals"]["calls"], 1, "{shown:#}");
        assert_eq!(shown["totals"]["answered"], 1, "{shown:#}");
        let buckets = shown["buckets"].as_array().expect("a list").iter();
        let inbound = buckets.filter_map(|bucket| bucket["inbound"].as_u64());
        assert_eq!(inbound.sum::<u64>(), 1, "{shown:#}");
    }
}

#[test]
fn vapis_sdks_run_unmodified_on_sqlite() {
    let _peace = in_peace();
    with_both_sdks(&Setup::new("sdk-sqlite").start_ready());
}

#[test]
fn vapis_sdks_run_unmodified_on_postgresql() {
    let _peace = in_peace();
    let database = PostgreSql::start();
    let setup = Setup::new("sdk-postgresql").set("store__url", &database.url());
    with_both_sdks(&setup.start_ready());
}

/// The status of a request, with a key or without one.
fn status(server: &Server, method: &str, path: &str, key: Option<&str>) -> String {
    let mut command = Command::new("curl");
    command.args(["-s", "-o", "/dev/null", "-w", "%{http_code}", "-X", method]);
    command.args(["-H", "Content-Type: application/json"]);
    if matches!(method, "POST" | "PATCH") {
        command.args(["-d", "{}"]);
    }
    if let Some(key) = key {
        command.args(["-H", &format!("Authorization: Bearer {key}")]);
    }
    command.arg(format!("http://{}{path}", server.http));
    run_well(&mut command, PATIENCE).stdout
}

/// A key with every scope that was good until yesterday, which the command makes for nobody.
fn keep_expired_key(server: &Server, key: &str) {
    let yesterday = OffsetDateTime::now_utc() - time::Duration::days(1);
    let kept = ApiKey {
        id: "expired".to_owned(),
        name: "expired".to_owned(),
        scopes: Scope::ALL.into_iter().collect(),
        created_at: yesterday,
        expires_at: Some(yesterday),
    };
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let store = Store::open(&server.data).await.expect("a database");
        let kept = store.add_api_key(&kept, &hash_of(key)).await;
        kept.expect("room");
        store.close().await;
    });
}

#[test]
fn every_endpoint_refuses_missing_wrong_expired_and_under_scoped_keys() {
    let server = Setup::new("keys").start_ready();
    let keys = ["read", "write", "call"].map(|scope| (scope, key(&server, &["--scope", scope])));
    let expired = "offhook_of_yesterday";
    keep_expired_key(&server, expired);
    let (_, description) = server.get("/openapi.json").expect("described");
    let description: Value = serde_json::from_str(&description).expect("JSON");
    let paths = description["paths"].as_object().expect("paths");
    let mut seen = 0;
    for (path, methods) in paths {
        let path = path.replace("{id}", "00000000-0000-4000-8000-000000000000");
        for method in methods.as_object().expect("methods").keys() {
            seen += 1;
            let needed = match (method.as_str(), path.starts_with("/call")) {
                ("get", _) => "read",
                (_, false) => "write",
                (_, true) => "call",
            };
            let curl = method.to_uppercase();
            let asked = |key: Option<&str>| status(&server, &curl, &path, key);
            assert_eq!(asked(None), "401", "{method} {path}");
            assert_eq!(asked(Some("offhook_wrong")), "401", "{method} {path}");
            assert_eq!(asked(Some(expired)), "401", "{method} {path}");
            for (scope, key) in &keys {
                let refused = asked(Some(key)) == "403";
                assert_eq!(refused, *scope != needed, "{method} {path} with {scope}");
            }
        }
    }
    assert!(seen > 20, "{seen} endpoints are described");
}
