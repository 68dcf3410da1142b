//! What is made through the API while the server runs: trunks, numbers, assistants, and calls to be
//! made later.

use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use crate::api::key;
use crate::in_peace;
use crate::support::process::run_well;
use crate::support::server::{Server, Setup};
use crate::support::sipp::Sipp;
use crate::support::softphone::call;
use crate::support::{udp_port, until};

const PATIENCE: Duration = Duration::from_secs(60);

/// A client of the API.
struct Client<'a> {
    server: &'a Server,
    key: String,
}

impl Client<'_> {
    fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> Value {
        let mut command = Command::new("curl");
        command.args(["-sS", "--fail-with-body", "-X", method]);
        let authorization = format!("Authorization: Bearer {}", self.key);
        command.args(["-H", "Content-Type: application/json", "-H", &authorization]);
        if let Some(body) = body {
            command.args(["-d", &body.to_string()]);
        }
        command.arg(format!("{}{path}", self.server.base()));
        let answer = run_well(&mut command, PATIENCE).stdout;
        serde_json::from_str(&answer).unwrap_or_else(|error| panic!("{error}: {answer}"))
    }

    /// Makes an object; its id.
    fn make(&self, path: &str, body: &Value) -> String {
        let made = self.ask("POST", path, Some(body));
        assert_eq!(made["warnings"], Value::Null, "{made:#}");
        made["id"].as_str().expect("an id").to_owned()
    }
}

fn gateway(address: &str) -> Value {
    let (host, port) = address.rsplit_once(':').expect("address:port");
    let port: u16 = port.parse().expect("a port");
    json!({ "ip": host, "port": port })
}

#[test]
fn a_trunk_of_the_api_is_one_from_the_moment_that_it_is_made() {
    let _peace = in_peace();
    let server = Setup::new("api-trunks").start_ready();
    let client = Client {
        key: key(&server, &[]),
        server: &server,
    };
    let assistant =
        json!({ "firstMessage": "You have reached the annex.", "maxDurationSeconds": 10 });
    let assistant = client.make("/assistant", &assistant);
    let peer = Sipp::new("callee_answers").with("WANTED", "4930123456");
    let nobody = format!("127.0.0.1:{}", udp_port());
    let trunk = json!({ "provider": "byo-sip-trunk", "name": "carrier",
        "gateways": [gateway(&nobody), gateway(&peer.address())] });
    let trunk = client.make("/credential", &trunk);
    let number = json!({ "provider": "byo-phone-number", "number": "+4930555", "name": "annex",
        "credentialId": trunk, "assistantId": assistant });
    let number = client.make("/phone-number", &number);

    let (report, record) = server.record_of(|| call(&server, "+4930555", &[], &[]));
    assert!(report.heard_greeting(), "{:#}", report.0);
    assert_eq!(record.said_by("bot")[0].text, "You have reached the annex.");
    assert_eq!(record.text("trunk"), trunk);
    assert_eq!(record.text("assistant"), assistant);

    // Nobody is at the first gateway.
    let peer = peer.listen();
    let (_, record) = server.record_of(|| {
        let request = json!({ "phoneNumberId": number, "assistantId": assistant,
            "customer": { "number": "+4930123456" } });
        let placed = client.ask("POST", "/call", Some(&request));
        let id = placed["id"].as_str().expect("an id").to_owned();
        until("the end of the call", PATIENCE, || {
            let call = client.ask("GET", &format!("/call/{id}"), None);
            (call["status"] == "ended").then_some(())
        });
    });
    peer.must_go_by_the_scenario();
    assert_eq!(
        record.text("endedReason"),
        "exceeded-max-duration",
        "{:#}",
        record.0
    );
    assert_eq!(record.text("to"), "+4930123456");
}

#[test]
fn a_trunk_of_the_api_registers_while_it_is_there() {
    let registrar = Sipp::new("registrar")
        .with("USER", "200")
        .with("PASSWORD", "secret-of-200");
    let address = registrar.address();
    let registrar = registrar.listen();
    let server = Setup::new("api-registers").start();
    until("the API", PATIENCE, || server.get("/healthz"));
    let client = Client {
        key: key(&server, &[]),
        server: &server,
    };
    let trunk = json!({ "provider": "byo-sip-trunk", "gateways": [gateway(&address)],
        "outboundAuthenticationPlan": { "authUsername": "200", "authPassword": "secret-of-200",
            "sipRegisterPlan": {} } });
    let trunk = client.make("/credential", &trunk);
    let shown = || {
        let trunks = server.told(&["trunks"]);
        let trunks = trunks.as_array().expect("trunks").clone();
        trunks.into_iter().find(|shown| shown["trunk"] == trunk)
    };
    until("the registration", PATIENCE, || {
        (shown()?["state"] == "registered").then_some(())
    });
    // One without and one with the password, and the refresh.
    until("a refresh", PATIENCE, || {
        (server.counted("sip_transmitted") >= 3).then_some(())
    });
    client.ask("DELETE", &format!("/credential/{trunk}"), None);
    registrar.must_go_by_the_scenario();
    until("it to be gone", PATIENCE, || {
        shown().is_none().then_some(())
    });
    assert!(!server.log().contains("secret-of-200"));
}

#[test]
fn calls_are_made_at_their_time_or_when_a_line_is_free() {
    let _peace = in_peace();
    let peer = Sipp::new("callee_refuses")
        .with("STATUS", "486")
        .with("HEADER", "X-A: b")
        .arguments(&["-m", "3"]);
    let server = Setup::new("scheduled")
        .set("limits__max_calls", "1")
        .file(&format!(
            r#"
            [trunks.carrier.outbound]
            host = "{}"
            destinations = ["+49*"]
            [assistants.reception]
            firstMessage = "Hello there."
            "#,
            peer.address()
        ))
        .start_ready();
    let peer = peer.listen();
    let key = key(&server, &[]);
    let client = Client {
        key: key.clone(),
        server: &server,
    };
    let batch = json!({ "assistantId": "reception", "customers": [{ "number": "+4930111111" },
        { "number": "+4930222222", "assistantOverrides": { "firstMessage": "Hi." } },
        { "name": "Nobody" }] });
    let batch = client.ask("POST", "/call", Some(&batch));
    assert_eq!(batch["errors"][0]["customer"]["name"], "Nobody");
    let calls = batch["results"].as_array().expect("calls");
    let queued = calls.iter().filter(|call| call["status"] == "queued");
    assert_eq!((calls.len(), queued.count()), (2, 2), "{batch:#}");
    let at = |after: Duration| {
        let time = time::OffsetDateTime::now_utc() + after;
        let text = time.format(&time::format_description::well_known::Rfc3339);
        let plan = json!({ "earliestAt": text.expect("a time") });
        let request = json!({ "assistantId": "reception", "schedulePlan": plan,
            "customer": { "number": "+4930333333" } });
        client.ask("POST", "/call", Some(&request))
    };
    let (soon, tomorrow) = (at(Duration::from_secs(2)), at(Duration::from_secs(86_400)));
    assert_eq!(soon["status"], "scheduled");
    for call in calls.iter().chain([&soon]) {
        let id = call["id"].as_str().expect("an id");
        let ended = until("the end of the call", PATIENCE, || {
            let call = client.ask("GET", &format!("/call/{id}"), None);
            (call["status"] == "ended").then_some(call)
        });
        assert_eq!(ended["endedReason"], "customer-busy", "{ended:#}");
        assert_eq!(ended["customer"]["number"], call["customer"]["number"]);
    }
    peer.must_go_by_the_scenario();
    server.terminate();
    assert!(server.wait_for_exit().success(), "{}", server.log());
    let again = server.same_again().start();
    until("the API", PATIENCE, || again.get("/healthz"));
    let client = Client {
        key,
        server: &again,
    };
    let path = format!("/call/{}", tomorrow["id"].as_str().expect("an id"));
    assert_eq!(client.ask("GET", &path, None)["status"], "scheduled");
    client.ask("DELETE", &path, None);
    let left = client.ask("GET", "/call?status=scheduled", None);
    assert_eq!(left, json!([]));
}
