//! Leaves neither a server nor its folder behind, however a bench ends.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};

use crate::Result;

/// Ends the server when this program ends in whatever way: its standard input is a pipe whose other
/// end only this program holds.
#[derive(Debug)]
pub(super) struct Warden {
    process: Child,
    pipe: Option<ChildStdin>,
}

impl Warden {
    pub(super) fn of(pid: u32, folder: &Path) -> Result<Self> {
        let mut process = Command::new("sh")
            .arg("-c")
            .arg("read _; kill -KILL \"$0\" 2>/dev/null; rm -rf \"$1\"")
            .arg(pid.to_string())
            .arg(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let pipe = process.stdin.take();
        Ok(Self { process, pipe })
    }
}

impl Drop for Warden {
    fn drop(&mut self) {
        drop(self.pipe.take());
        let _ = self.process.wait();
    }
}

/// A folder that goes with its owner.
#[derive(Debug)]
pub(super) struct Folder(pub(super) PathBuf);

impl Folder {
    pub(super) fn new(name: &str) -> Result<Self> {
        let folder = std::env::temp_dir().join(format!("offhook-bench-{name}"));
        fs::create_dir_all(&folder)?;
        Ok(Self(folder))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // One that stays behind is no reason to fail.
        let _ = fs::remove_dir_all(&self.0);
    }
}
