//! The container and the service, as far as can be seen without Docker and without systemd running:
//! the programs that read their files, and the container's entry point itself.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::support::process::{Running, run, run_well, signal};
use crate::support::server::{binaries, models};
use crate::support::{Folder, media_ports, tcp_port, udp_port, until};

const SHORTLY: Duration = Duration::from_secs(60);

/// Where the unit expects the binaries.
const INSTALLED: &str = "/usr/lib/offhook";

/// Out of 100, where 0 is a service that can do nothing; a hardened one has 20 or less.
const MOST_EXPOSED: &str = "20";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

fn text(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).expect(path)
}

/// `docker-compose config` of the repository's file.
fn compose() -> Command {
    let mut command = Command::new("docker-compose");
    command
        .arg("--project-directory")
        .arg(root())
        .arg("-f")
        .arg(root().join("docker-compose.yml"))
        .arg("config")
        .env_remove("POSTGRES_PASSWORD");
    command
}

#[test]
fn compose_reads_its_file_and_asks_for_the_password_that_is_not_in_it() {
    let refused = run(&mut compose(), SHORTLY);
    assert!(!refused.status.success(), "{}", refused.output());
    assert!(
        refused.stderr.contains("put a password"),
        "{}",
        refused.stderr
    );
    let read = run_well(compose().env("POSTGRES_PASSWORD", "from0env"), SHORTLY).stdout;
    for expected in [
        "network_mode: host",
        "condition: service_healthy",
        "postgres://offhook:from0env@127.0.0.1:5432/offhook",
        "127.0.0.1:5432:5432/tcp",
        "offhook:/var/lib/offhook",
        "postgres:/var/lib/postgresql/data",
    ] {
        assert!(read.contains(expected), "no {expected} in\n{read}");
    }
    assert_eq!(read.matches("healthcheck:").count(), 2, "{read}");
}

#[test]
fn the_image_is_made_of_files_that_are_there_and_not_kept_from_it() {
    let given = text(".dockerignore");
    let is_given = |path: &str| {
        let first = path.split('/').next().unwrap_or_default();
        given.lines().any(|line| line == format!("!{first}"))
    };
    assert!(given.lines().any(|line| line == "*"), "all else stays out");
    let recipe = text("scripts/Dockerfile");
    let copied: Vec<&str> = recipe
        .lines()
        .filter_map(|line| line.strip_prefix("COPY "))
        .filter(|line| !line.starts_with("--from"))
        .flat_map(|line| line.split_whitespace().rev().skip(1))
        .filter(|path| *path != ".")
        .collect();
    assert!(copied.len() >= 4, "{copied:?}");
    for path in copied {
        assert!(root().join(path).exists(), "{path}");
        assert!(is_given(path), "{path} is in .dockerignore");
    }
    // What the build reads beside its sources.
    for path in [
        "Cargo.lock",
        "Cargo.toml",
        "build.rs",
        ".cargo",
        "migrations",
        "models",
        "sip-profiles",
    ] {
        assert!(root().join(path).exists() && is_given(path), "{path}");
    }
    let last_stage = recipe.rsplit("\nFROM ").next().unwrap_or_default();
    assert!(last_stage.contains("\nUSER offhook\n"), "not as root");
}

#[test]
fn the_container_s_entry_point_finds_the_models_serves_and_stops_when_told() {
    let data = Folder::new("container");
    let http = format!("127.0.0.1:{}", tcp_port());
    let media = media_ports();
    let path = format!(
        "{}:{}",
        binaries().display(),
        std::env::var("PATH").unwrap_or_default()
    );
    let mut start = Command::new(root().join("scripts/start-container"));
    start
        .arg("serve")
        .env("PATH", path)
        .env("OFFHOOK_DATA", data.path())
        .env("OFFHOOK_MODELS", models())
        .env("OFFHOOK__http__listen", &http)
        .env(
            "OFFHOOK__sip__listen",
            format!("[\"127.0.0.1:{}\"]", udp_port()),
        )
        .env("OFFHOOK__rtp__port_min", media.to_string())
        .env("OFFHOOK__rtp__port_max", (media + 99).to_string());
    let server = Running::start(&mut start);
    // What the image's health check asks.
    until("readiness", Duration::from_secs(180), || {
        let mut check = Command::new("curl");
        check.args(["-fsS", "-m", "5", &format!("http://{http}/readyz")]);
        run(&mut check, SHORTLY).status.success().then_some(())
    });
    assert!(data.path().join("offhook.db").exists());
    // The script has become the server, so that a stop reaches it.
    signal(server.id(), "TERM");
    let ended = server.finish(SHORTLY);
    assert!(ended.status.success(), "{}", ended.output());
}

#[test]
fn systemd_reads_the_unit_without_complaint_and_finds_it_hardened() {
    let folder = Folder::new("unit");
    let unit = folder.path().join("offhook.service");
    let here = binaries().display().to_string();
    let installed = text("scripts/offhook.service");
    assert!(installed.contains(INSTALLED));
    std::fs::write(&unit, installed.replace(INSTALLED, &here)).expect("a file");
    let analyze = |arguments: &[&str]| {
        let mut command = Command::new("systemd-analyze");
        command.args(arguments).arg(&unit);
        run_well(&mut command, SHORTLY)
    };
    let verified = analyze(&["verify", "--man=no"]);
    // It succeeds in spite of settings that it does not know.
    assert_eq!(verified.output().trim(), "");
    let threshold = format!("--threshold={MOST_EXPOSED}");
    analyze(&["security", "--offline=true", "--no-pager", &threshold]);
}
