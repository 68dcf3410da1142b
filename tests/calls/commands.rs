//! The command line around the server: what it says when something is in the way or wrong.

use std::fs;
use std::net::{TcpListener, UdpSocket};
use std::time::Duration;

use serde_json::Value;

use crate::PLAIN;
use crate::support::process::run;
use crate::support::server::offhook;
use crate::support::{Folder, tcp_port, udp_port};

#[test]
fn a_second_server_on_the_same_data_folder_is_told_so() {
    let server = PLAIN.take();
    let sip = format!("[\"127.0.0.1:{}\"]", udp_port());
    let http = format!("127.0.0.1:{}", tcp_port());
    let second = server.serve_beside(
        &[("sip__listen", sip), ("http__listen", http)],
        &server.data,
    );
    assert_eq!(second.status.code(), Some(1), "{}", second.output());
    let data = server.data.display().to_string();
    assert!(
        second.stderr.contains("another offhook") && second.stderr.contains(&data),
        "{}",
        second.stderr
    );
    assert_eq!(server.readiness().0, 200, "the first one is not disturbed");
}

#[test]
fn a_taken_port_is_named() {
    let server = PLAIN.take();
    let folder = Folder::new("taken");
    let udp = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let tcp = TcpListener::bind("127.0.0.1:0").expect("a port");
    let (udp_taken, tcp_taken) = (
        udp.local_addr().expect("bound"),
        tcp.local_addr().expect("bound"),
    );
    let free_udp = format!("[\"127.0.0.1:{}\"]", udp_port());
    let free_tcp = format!("127.0.0.1:{}", tcp_port());
    let cases = [
        (
            (format!("[\"{udp_taken}\"]"), free_tcp),
            udp_taken.to_string(),
            "SIP",
        ),
        (
            (free_udp, tcp_taken.to_string()),
            tcp_taken.to_string(),
            "HTTP",
        ),
    ];
    for ((sip, http), taken, protocol) in cases {
        let ended = server.serve_beside(
            &[("sip__listen", sip), ("http__listen", http)],
            folder.path(),
        );
        assert_eq!(ended.status.code(), Some(1), "{}", ended.output());
        assert!(
            ended.stderr.contains(&taken) && ended.stderr.contains(protocol),
            "{}",
            ended.stderr
        );
    }
}

#[test]
fn check_reports_every_mistake_at_once_with_its_key_and_what_is_allowed() {
    let folder = Folder::new("check");
    let file = folder.path().join("offhook.toml");
    let wrong = r#"
        [sip]
        listen = ["0.0.0.0:5060"]
        colour = "blue"

        [rtp]
        port_min = 80
        timeout_seconds = "long"

        [limits]
        max_calls = 0

        [[numbers]]
        number = "1*2"
        assistant = "nobody"

        [trunks.office]
        profile = "teapot"

        [assistants.reception]
        maxDurationSeconds = 1
        "#;
    fs::write(&file, wrong).expect("a file");
    let check = |json: bool| {
        let mut command = offhook();
        command.args(["check", "--config"]).arg(&file);
        if json {
            command.arg("--json");
        }
        run(&mut command, Duration::from_secs(10))
    };
    let keys = [
        "sip.colour",
        "sip.listen",
        "rtp.port_min",
        "rtp.timeout_seconds",
        "limits.max_calls",
        "numbers.[0].number",
        "numbers.[0].assistant",
        "trunks.office.profile",
        "assistants.reception.maxDurationSeconds",
    ];
    let told = check(false);
    assert_eq!(told.status.code(), Some(2));
    for key in keys {
        let line = told
            .stderr
            .lines()
            .find(|line| line.contains(&format!(" {key}: ")));
        let line = line.unwrap_or_else(|| panic!("nothing about {key}:\n{}", told.stderr));
        assert!(line.starts_with(&file.display().to_string()), "{line}");
    }
    let told = check(true);
    assert_eq!(told.status.code(), Some(2));
    let list: Value = serde_json::from_str(&told.stdout).expect("JSON");
    let told: Vec<&str> = list["mistakes"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|m| m["key"].as_str())
        .collect();
    assert!(keys.iter().all(|key| told.contains(key)), "{told:?}");

    fs::write(&file, "[limits]\nmax_calls = 2\n").expect("a file");
    assert!(check(false).status.success());
}

#[test]
fn serve_refuses_a_wrong_configuration_as_check_does() {
    let folder = Folder::new("wrong");
    let mut command = offhook();
    command
        .args(["serve", "--data"])
        .arg(folder.path())
        .env("OFFHOOK__limits__max_cals", "2");
    let ended = run(&mut command, Duration::from_secs(10));
    assert_eq!(ended.status.code(), Some(2));
    assert!(
        ended.stderr.contains("environment: limits.max_cals"),
        "{}",
        ended.stderr
    );
}
