//! kamailio as registrar and proxy, over UDP and TCP.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::process::signal;
use super::{Folder, sources, tcp_port, until};

/// A registrar with one account, for as long as it is held.
pub(crate) struct Kamailio {
    port: u16,
    child: Child,
    _folder: Folder,
}

impl Kamailio {
    /// Starts it with the account `user`.
    pub(crate) fn start(user: &str, password: &str) -> Self {
        let folder = Folder::new("kamailio");
        let port = tcp_port();
        let template = std::fs::read_to_string(sources().join("peers/kamailio.cfg"))
            .expect("the configuration");
        let text = template
            .replace("{{PORT}}", &port.to_string())
            .replace("{{USER}}", user)
            .replace("{{PASSWORD}}", password);
        let file = folder.path().join("kamailio.cfg");
        std::fs::write(&file, text).expect("room on the disk");
        let mut command = Command::new("kamailio");
        // In the foreground.
        command
            .args(["-DD", "-E", "-m", "32", "-M", "4", "-f"])
            .arg(&file)
            .arg("-Y")
            .arg(folder.path())
            .arg("-P")
            .arg(folder.path().join("kamailio.pid"));
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("kamailio; scripts/test installs it");
        let kamailio = Self {
            port,
            child,
            _folder: folder,
        };
        until("kamailio to listen", Duration::from_secs(30), || {
            std::net::TcpStream::connect(("127.0.0.1", port)).ok()
        });
        kamailio
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Whoever is registered with it under that name.
    pub(crate) fn uri(&self, user: &str) -> String {
        format!("sip:{user}@127.0.0.1:{}", self.port)
    }
}

/// It ends its children, which a SIGKILL would orphan.
impl Drop for Kamailio {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            signal(self.child.id(), "TERM");
            let _ = self.child.wait();
        }
    }
}
