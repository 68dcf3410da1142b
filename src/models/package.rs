//! Files out of packages of the Python package registry.
//!
//! `pip` does the downloading: it knows this machine's index, proxies and certificates. Only
//! wheels are accepted (an sdist would run its own code), without their dependencies, and nothing
//! is installed. A wheel is a zip; the files wanted are read straight out of it.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use thiserror::Error;
use zip::ZipArchive;
use zip::result::ZipError;

use super::manifest::PackageFile;
use super::progress::{Activity, Event, Reporter};

/// How `pip` is called, in the order tried.
const PROGRAMS: [&[&str]; 3] = [&["pip"], &["pip3"], &["python3", "-m", "pip"]];
const POLL: Duration = Duration::from_millis(200);
/// The end of what `pip` complained about.
const COMPLAINT: usize = 600;

/// Why a package's file could not be had.
#[derive(Debug, Error)]
pub(super) enum PackageError {
    /// Nothing to download with.
    #[error(
        "pip was not found (tried pip, pip3 and python3 -m pip); install it (Debian: apt install \
         python3-pip)"
    )]
    NoPip,
    /// `pip` ran and failed.
    #[error("pip could not download {package}: {complaint}")]
    Pip { package: String, complaint: String },
    /// The wheel is not a zip or lacks the file.
    #[error("wheel of {package}: {what}")]
    Wheel { package: String, what: String },
    /// The parts are longer than what they should make.
    #[error("the parts hold more than {0} bytes")]
    TooLarge(u64),
    /// Reading or writing here failed.
    #[error(transparent)]
    Disk(#[from] io::Error),
}

/// The wheels of one run.
pub(super) struct Packages {
    /// Where whole wheels lie.
    wheels: PathBuf,
    /// Where `pip` works; whatever is left in it is half of something.
    incoming: PathBuf,
    environment: Vec<(String, String)>,
    pip: RefCell<Option<Result<&'static [&'static str], ()>>>,
    used: RefCell<BTreeSet<PathBuf>>,
}

impl Packages {
    /// Works under `folder`. `environment` is added to `pip`'s.
    pub(super) fn new(folder: &Path, environment: &[(String, String)]) -> Self {
        Self {
            wheels: folder.join("wheels"),
            incoming: folder.join("incoming"),
            environment: environment.to_vec(),
            pip: RefCell::default(),
            used: RefCell::default(),
        }
    }

    /// Joins `parts` into `out`, downloading the packages that are not there yet. At most `limit`
    /// bytes are written; says how many were.
    pub(super) fn assemble(
        &self,
        parts: &[PackageFile],
        out: &mut impl Write,
        item: &str,
        limit: u64,
        reporter: &dyn Reporter,
    ) -> Result<u64, PackageError> {
        // All first: nothing is unpacked before the last part is known to be available.
        let wheels = parts
            .iter()
            .map(|part| self.wheel(part, reporter))
            .collect::<Result<Vec<_>, _>>()?;
        reporter.report(Event::Started {
            item,
            activity: Activity::Unpacking,
            total: None,
        });
        let mut done = 0;
        for (part, wheel) in parts.iter().zip(&wheels) {
            let result = unpack(part, wheel, out, limit, &mut done, reporter);
            if matches!(result, Err(PackageError::Wheel { .. })) {
                // Damaged here or wrong there: either way it must not be used again.
                fs::remove_file(wheel)?;
            }
            result?;
        }
        reporter.report(Event::Finished);
        self.used.borrow_mut().extend(wheels);
        Ok(done)
    }

    /// Removes the wheels whose files have been taken out.
    pub(super) fn remove_used(&self) {
        for wheel in std::mem::take(&mut *self.used.borrow_mut()) {
            // One that stays only takes room, and the next run uses it.
            let _ = fs::remove_file(wheel);
        }
    }

    /// The wheel of `part`'s package, downloaded unless it is there.
    fn wheel(&self, part: &PackageFile, reporter: &dyn Reporter) -> Result<PathBuf, PackageError> {
        if let Some(wheel) = find_wheel(&self.wheels, part)? {
            return Ok(wheel);
        }
        let program = self.pip()?;
        remove_folder(&self.incoming)?;
        fs::create_dir_all(&self.incoming)?;
        fs::create_dir_all(&self.wheels)?;
        let package = format!("{}=={}", part.package, part.version);
        let child = self.command(program, part, &package).spawn()?;
        let item = format!("package {} {}", part.package, part.version);
        reporter.report(Event::Started {
            item: &item,
            activity: Activity::Downloading,
            total: None,
        });
        let (ok, complaint) = wait(child, || {
            reporter.report(Event::Advanced(size_of(&self.incoming, 3)));
        })?;
        reporter.report(Event::Finished);
        if !ok {
            return Err(PackageError::Pip { package, complaint });
        }
        let Some(downloaded) = find_wheel(&self.incoming, part)? else {
            return Err(PackageError::Pip {
                package,
                complaint: "it brought no such wheel".into(),
            });
        };
        let wheel = self.wheels.join(downloaded.file_name().unwrap_or_default());
        fs::rename(downloaded, &wheel)?;
        remove_folder(&self.incoming)?;
        Ok(wheel)
    }

    fn pip(&self) -> Result<&'static [&'static str], PackageError> {
        let mut known = self.pip.borrow_mut();
        let found = known.get_or_insert_with(|| {
            PROGRAMS
                .into_iter()
                .find(|program| self.answers(program))
                .ok_or(())
        });
        found.map_err(|()| PackageError::NoPip)
    }

    fn answers(&self, program: &[&str]) -> bool {
        Command::new(program[0])
            .args(&program[1..])
            .arg("--version")
            .envs(self.environment.iter().map(|(key, value)| (key, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
    }

    fn command(&self, program: &[&str], part: &PackageFile, package: &str) -> Command {
        let mut command = Command::new(program[0]);
        command
            .args(&program[1..])
            .args([
                "download",
                "--quiet",
                "--no-deps",
                "--only-binary=:all:",
                "--no-cache-dir",
            ])
            .args([
                "--no-input",
                "--disable-pip-version-check",
                "--progress-bar",
                "off",
                "--dest",
            ])
            .arg(&self.incoming);
        if let (Some(platform), Some(python)) = (&part.platform, &part.python) {
            command.args([
                "--implementation",
                "cp",
                "--platform",
                platform,
                "--python-version",
                python,
            ]);
        }
        command
            .arg(package)
            // On the models' disk, whose room was checked, and where the progress can be seen.
            .env("TMPDIR", &self.incoming)
            .envs(self.environment.iter().map(|(key, value)| (key, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        command
    }
}

/// Waits for `child`, calling `tick` now and then. Whether it succeeded, and the end of its
/// standard error.
fn wait(mut child: Child, mut tick: impl FnMut()) -> io::Result<(bool, String)> {
    let stderr = child.stderr.take();
    let reader = thread::spawn(move || stderr.map(last_words).unwrap_or_default());
    let status = loop {
        match child.try_wait()? {
            Some(status) => break status,
            None => {
                tick();
                thread::sleep(POLL);
            }
        }
    };
    let words = reader.join().unwrap_or_default();
    let complaint = if words.is_empty() {
        status.to_string()
    } else {
        words
    };
    Ok((status.success(), complaint))
}

/// The end of a stream as one line, however much comes before it.
fn last_words(mut stream: impl Read) -> String {
    let mut tail = Vec::new();
    let mut buffer = [0_u8; 4096];
    while let Ok(read @ 1..) = stream.read(&mut buffer) {
        tail.extend_from_slice(&buffer[..read]);
        let surplus = tail.len().saturating_sub(COMPLAINT);
        tail.drain(..surplus);
    }
    String::from_utf8_lossy(&tail)
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
}

/// The wheel of a package in `folder`: `name-version[-build]-python-abi-platform.whl`, the name
/// and version written as the wheel format wants them.
fn find_wheel(folder: &Path, part: &PackageFile) -> io::Result<Option<PathBuf>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let wanted = format!("{}-{}-", normalised(&part.package), part.version);
    for entry in entries {
        let path = entry?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
            continue;
        };
        let Some((package, rest)) = name.split_once('-') else {
            continue;
        };
        let platform = part.platform.as_deref().unwrap_or_default();
        if format!("{}-{rest}", normalised(package)).starts_with(&wanted)
            && name
                .strip_suffix(".whl")
                .is_some_and(|stem| stem.contains(platform))
        {
            return Ok(Some(path));
        }
    }
    Ok(None)
}

fn normalised(package: &str) -> String {
    package.to_ascii_lowercase().replace(['-', '.'], "_")
}

fn unpack(
    part: &PackageFile,
    wheel: &Path,
    out: &mut impl Write,
    limit: u64,
    done: &mut u64,
    reporter: &dyn Reporter,
) -> Result<(), PackageError> {
    let damaged = |error: ZipError| PackageError::Wheel {
        package: part.package.clone(),
        what: format!("{}: {error}", part.path),
    };
    let mut archive = ZipArchive::new(File::open(wheel)?).map_err(damaged)?;
    let mut file = archive.by_name(&part.path).map_err(damaged)?;
    let mut buffer = vec![0_u8; 1 << 16];
    loop {
        // Reading fails where the compressed bytes or their checksum are wrong.
        let read = file
            .read(&mut buffer)
            .map_err(|error| damaged(ZipError::Io(error)))?;
        if read == 0 {
            return Ok(());
        }
        *done += read as u64;
        if *done > limit {
            return Err(PackageError::TooLarge(limit));
        }
        out.write_all(&buffer[..read])?;
        reporter.report(Event::Advanced(*done));
    }
}

fn remove_folder(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Bytes of the files under `folder`, at most `depth` levels down.
fn size_of(folder: &Path, depth: u32) -> u64 {
    let Ok(entries) = fs::read_dir(folder) else {
        return 0;
    };
    entries
        .flatten()
        .map(|entry| match entry.metadata() {
            Ok(metadata) if metadata.is_dir() && depth > 0 => size_of(&entry.path(), depth - 1),
            Ok(metadata) if metadata.is_file() => metadata.len(),
            _ => 0,
        })
        .sum()
}
