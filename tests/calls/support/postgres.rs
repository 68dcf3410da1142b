//! A PostgreSQL of our own: on a private port, in a folder that goes with it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::process::run_well;
use super::{Folder, tcp_port};

const PATIENCE: Duration = Duration::from_secs(60);

/// A running server with an empty database.
pub(crate) struct PostgreSql {
    folder: Folder,
    port: u16,
}

/// The newest that is installed.
fn programs() -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql")
        .unwrap_or_else(|error| panic!("{error}: scripts/test installs postgresql"));
    let folders = versions.map(|version| version.expect("a folder").path().join("bin"));
    folders.max().expect("a version")
}

/// As Debian's own user, because PostgreSQL does not run as root.
fn program(name: &str) -> Command {
    let program = programs().join(name);
    if !rustix::process::geteuid().is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command
        .args(["--reuid=postgres", "--regid=postgres", "--clear-groups"])
        .arg(program)
        .current_dir("/");
    command
}

impl PostgreSql {
    pub(crate) fn start() -> Self {
        let server = Self {
            folder: Folder::new("postgresql"),
            port: tcp_port(),
        };
        let folder = server.folder.path();
        if rustix::process::geteuid().is_root() {
            run_well(Command::new("chown").arg("postgres").arg(folder), PATIENCE);
        }
        let mut make = program("initdb");
        make.arg("-D")
            .arg(server.data())
            .args(["-A", "trust", "-U", "offhook"]);
        run_well(&mut make, PATIENCE);
        let options = format!(
            "-p {} -c listen_addresses=127.0.0.1 -c unix_socket_directories={} -c fsync=off",
            server.port,
            folder.display()
        );
        let mut start = program("pg_ctl");
        start.arg("-D").arg(server.data()).arg("-w");
        start
            .arg("-l")
            .arg(folder.join("log"))
            .args(["-o", &options, "start"]);
        run_well(&mut start, PATIENCE);
        server
    }

    fn data(&self) -> PathBuf {
        Path::new(self.folder.path()).join("data")
    }

    /// For `store.url`.
    pub(crate) fn url(&self) -> String {
        format!("postgres://offhook@127.0.0.1:{}/postgres", self.port)
    }
}

impl Drop for PostgreSql {
    fn drop(&mut self) {
        let mut stop = program("pg_ctl");
        let _ = stop
            .arg("-D")
            .arg(self.data())
            .args(["-m", "immediate", "stop"])
            .status();
    }
}
