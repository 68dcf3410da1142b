//! What every scenario stands on: a running server, other people's telephones, sound.

pub(crate) mod baresip;
pub(crate) mod certificates;
#[allow(dead_code, reason = "the tests of the library use the rest")]
pub(crate) mod dns;
pub(crate) mod kamailio;
pub(crate) mod operator;
pub(crate) mod phone;
pub(crate) mod pjsip;
pub(crate) mod postgres;
pub(crate) mod process;
pub(crate) mod program;
pub(crate) mod record;
pub(crate) mod relay;
pub(crate) mod server;
pub(crate) mod sipp;
pub(crate) mod softphone;
pub(crate) mod sound;

use std::net::{TcpListener, UdpSocket};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU16, AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Asks again and again until there is an answer.
///
/// # Panics
/// When there is none within `patience`, which is generous: it bounds a broken run, and is no
/// statement about speed.
pub(crate) fn until<T>(what: &str, patience: Duration, mut ask: impl FnMut() -> Option<T>) -> T {
    let since = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(
            since.elapsed() < patience,
            "waited {patience:?} in vain: {what}"
        );
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A UDP port of the loopback address that is free now and that no other test of this run gets.
pub(crate) fn udp_port() -> u16 {
    until("a free UDP port", Duration::from_secs(5), || {
        let port = next_port();
        UdpSocket::bind(("127.0.0.1", port)).ok().map(|_| port)
    })
}

/// Likewise for TCP.
pub(crate) fn tcp_port() -> u16 {
    until("a free TCP port", Duration::from_secs(5), || {
        let port = next_port();
        TcpListener::bind(("127.0.0.1", port)).ok().map(|_| port)
    })
}

/// First of a hundred ports for one server's or peer's media.
pub(crate) fn media_ports() -> u16 {
    static BLOCKS: AtomicU16 = AtomicU16::new(0);
    // A process's own part of the range, so that two runs at once rarely meet.
    let offset = (std::process::id() % 30) as u16 * 400;
    20_000 + offset + BLOCKS.fetch_add(1, Ordering::Relaxed) % 40 * 100
}

fn next_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let offset = (std::process::id() % 90) as u16 * 40;
    // Below the range from which the system takes ports by itself.
    10_000 + (offset + NEXT.fetch_add(1, Ordering::Relaxed)) % 4000
}

/// A folder that goes with its owner.
#[derive(Debug)]
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new(name: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!(
            "offhook-calls-{}-{count}-{name}",
            std::process::id()
        ));
        std::fs::create_dir_all(&path).expect("a folder for the test");
        Self(path)
    }

    pub(crate) fn path(&self) -> &std::path::Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The folder of this test program's sources.
pub(crate) fn sources() -> PathBuf {
    PathBuf::from(file!())
        .parent()
        .and_then(std::path::Path::parent)
        .map(|folder| match folder.is_absolute() {
            true => folder.to_owned(),
            false => std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(folder),
        })
        .expect("this file lies in tests/calls/support")
}

/// A recorded utterance that the tests bring.
pub(crate) fn speech(name: &str) -> PathBuf {
    sources().join("audio").join(format!("{name}.wav"))
}
