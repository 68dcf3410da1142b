//! A folder, an HTTP server that does as it is told, and manifests.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use sha2::{Digest, Sha256};

use crate::models::{Catalog, Event, FetchOptions, FetchReport, Reporter, Silent};

/// A folder that goes when the test ends.
pub(super) struct Folder(pub(super) PathBuf);

impl Folder {
    pub(super) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path =
            std::env::temp_dir().join(format!("offhook-models-{}-{number}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(super) fn join(&self, name: &str) -> PathBuf {
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
pub(super) enum Reply {
    /// The file, or the range that was asked for.
    Whole(Vec<u8>),
    /// Headers for the whole range, and so many bytes of it before the connection goes.
    Cut(Vec<u8>, usize),
    /// The file from its start, whatever range was asked for.
    NoRanges(Vec<u8>),
    Status(u16),
}

/// An HTTP server on the loopback that gives prepared replies in order, and the last one for good.
pub(super) struct Server {
    port: u16,
    /// Each request's `Range` header.
    ranges: Arc<Mutex<Vec<Option<String>>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    pub(super) fn start(replies: impl Into<VecDeque<Reply>>) -> Self {
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

    pub(super) fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}/{path}", self.port)
    }

    pub(super) fn ranges(&self) -> Vec<Option<String>> {
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
pub(super) struct Notes(pub(super) RefCell<Vec<String>>);

impl Reporter for Notes {
    fn report(&self, event: Event<'_>) {
        if let Event::Note(text) = event {
            self.0.borrow_mut().push(text.into());
        }
    }
}

pub(super) fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// 200 kB that compress badly and differ by seed.
pub(super) fn weights(seed: u8) -> Vec<u8> {
    (0..200_000_u32)
        .map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8 ^ seed)
        .collect()
}

pub(super) fn source_urls(urls: &[String]) -> String {
    urls.iter()
        .map(|url| format!("[[model.file.source]]\nurl = \"{url}\"\n"))
        .collect()
}

/// A manifest of one default model, `ears`, with one file, `ears.bin`.
pub(super) fn manifest(size: usize, sha256: &str, sources: &str) -> String {
    format!(
        "[[model]]\nname = \"ears\"\nuse = \"stt\"\ndefault = true\nlicence = \"MIT\"\nabout = \"\"\n\
         [[model.file]]\nname = \"ears.bin\"\nsize = {size}\nsha256 = \"{sha256}\"\n{sources}"
    )
}

pub(super) fn ears(folder: &Folder, body: &[u8], urls: &[String]) -> Catalog {
    Catalog::load(
        &manifest(body.len(), &sha256(body), &source_urls(urls)),
        &folder.0,
    )
    .unwrap()
}

pub(super) fn fetch(catalog: &Catalog) -> FetchReport {
    catalog
        .fetch(&[], &FetchOptions::default(), &Silent)
        .unwrap()
}

/// The one failure of a fetch, as a person reads it.
pub(super) fn failure(report: &FetchReport) -> String {
    assert_eq!(report.failed.len(), 1, "{report:?}");
    report.failed[0].to_string()
}
