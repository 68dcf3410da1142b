//! Other programs: starting them, waiting for them, and what the kernel knows about them.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::JoinHandle;
use std::time::Duration;

use super::until;

/// What a finished program left.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Finished {
    /// Everything it printed.
    pub(crate) fn output(&self) -> String {
        format!("{}\n{}", self.stdout, self.stderr)
    }
}

/// A program that is killed when it is no longer wanted.
#[derive(Debug)]
pub(crate) struct Running {
    name: String,
    child: Child,
    stdout: Option<JoinHandle<String>>,
    stderr: Option<JoinHandle<String>>,
}

impl Running {
    pub(crate) fn start(command: &mut Command) -> Self {
        let name = command.get_program().to_string_lossy().into_owned();
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| {
                panic!("{name} cannot be started ({error}); scripts/test installs what is needed")
            });
        let stdout = child.stdout.take().map(read_in_background);
        let stderr = child.stderr.take().map(read_in_background);
        Self {
            name,
            child,
            stdout,
            stderr,
        }
    }

    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits for its end.
    pub(crate) fn finish(mut self, patience: Duration) -> Finished {
        let name = self.name.clone();
        let status = until(&format!("the end of {name}"), patience, || {
            self.child.try_wait().expect("our own child")
        });
        let text = |reader: Option<JoinHandle<String>>| {
            reader
                .and_then(|reader| reader.join().ok())
                .unwrap_or_default()
        };
        Finished {
            status,
            stdout: text(self.stdout.take()),
            stderr: text(self.stderr.take()),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

fn read_in_background(mut pipe: impl Read + Send + 'static) -> JoinHandle<String> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = pipe.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// Runs a program to its end.
pub(crate) fn run(command: &mut Command, patience: Duration) -> Finished {
    Running::start(command).finish(patience)
}

/// Runs a program that must succeed.
pub(crate) fn run_well(command: &mut Command, patience: Duration) -> Finished {
    let finished = run(command, patience);
    assert!(
        finished.status.success(),
        "{command:?} failed:\n{}",
        finished.output()
    );
    finished
}

/// Sends a signal, by its name, to one process.
pub(crate) fn signal(pid: u32, name: &str) {
    let status = Command::new("kill")
        .args([&format!("-{name}"), &pid.to_string()])
        .stderr(Stdio::null())
        .status();
    assert!(
        status.is_ok_and(|status| status.success()),
        "no process {pid} to send SIG{name} to"
    );
}

/// Parent and name of a process; `None` where it is gone, or dead and only not yet buried.
fn status(pid: u32) -> Option<(u32, String)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (head, tail) = stat.rsplit_once(')')?;
    let name = head.split_once('(')?.1.to_owned();
    let mut fields = tail.split_whitespace();
    let state = fields.next()?;
    let parent = fields.next()?.parse().ok()?;
    (!matches!(state, "Z" | "X")).then_some((parent, name))
}

pub(crate) fn is_alive(pid: u32) -> bool {
    status(pid).is_some()
}

/// The living children of a process, by name.
pub(crate) fn children(of: u32) -> BTreeMap<String, u32> {
    let pids = fs::read_dir("/proc").expect("/proc").flatten();
    let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter_map(|pid| {
        status(pid)
            .filter(|(parent, _)| *parent == of)
            .map(|(_, name)| (name, pid))
    })
    .collect()
}

/// What a process has in memory.
pub(crate) fn resident_megabytes(pid: u32) -> f64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("a living process");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().next());
    let kilobytes: f64 = kilobytes.expect("VmRSS").parse().expect("a number");
    kilobytes / 1024.0
}

/// What a process holds open.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Held {
    /// Local UDP ports.
    pub(crate) udp: Vec<u16>,
    /// How many descriptors of each kind: sockets, pipes, and files by their path. Connections to
    /// the HTTP listener and to the database come and go by themselves and are left out.
    pub(crate) files: BTreeMap<String, usize>,
}

pub(crate) fn held(pid: u32) -> Held {
    let sockets = udp_sockets();
    let mut held = Held::default();
    for entry in fs::read_dir(format!("/proc/{pid}/fd"))
        .expect("a living process")
        .flatten()
    {
        let Ok(target) = fs::read_link(entry.path()) else {
            continue;
        };
        if let Some(port) = socket_inode(&target).and_then(|inode| sockets.get(&inode)) {
            held.udp.push(*port);
        } else if let Some(kind) = kind(&target) {
            *held.files.entry(kind).or_default() += 1;
        }
    }
    held.udp.sort_unstable();
    held
}

fn socket_inode(target: &Path) -> Option<u64> {
    let text = target.to_str()?;
    text.strip_prefix("socket:[")?
        .strip_suffix(']')?
        .parse()
        .ok()
}

fn kind(target: &Path) -> Option<String> {
    let text = target.to_string_lossy();
    if text.starts_with("socket:") || text.contains("/offhook.db") {
        return None;
    }
    Some(text.split(":[").next().unwrap_or_default().to_owned())
}

/// Inodes of the UDP sockets of this machine, with their local ports.
fn udp_sockets() -> BTreeMap<u64, u16> {
    let mut sockets = BTreeMap::new();
    for table in ["/proc/net/udp", "/proc/net/udp6"] {
        let text = fs::read_to_string(table).unwrap_or_default();
        for line in text.lines().skip(1) {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let port = fields
                .get(1)
                .and_then(|local| local.rsplit_once(':'))
                .map(|(_, port)| u16::from_str_radix(port, 16));
            let inode = fields.get(9).and_then(|inode| inode.parse().ok());
            if let (Some(Ok(port)), Some(inode)) = (port, inode) {
                sockets.insert(inode, port);
            }
        }
    }
    sockets
}
