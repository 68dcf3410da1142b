//! Files over HTTP: resumed where they were cut, given up quickly where the host does not answer.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{self, Read, Write};
use std::path::Path;
use std::thread;
use std::time::Duration;

use thiserror::Error;
use ureq::http::{Response, Uri, header};
use ureq::{Agent, Body, Timeout};

use super::progress::{Activity, Event, Reporter};

/// Resolving, connecting, and waiting for the headers.
const ANSWER_WITHIN: Duration = Duration::from_secs(15);
/// The longest pause between two pieces of a body.
const STALLED_AFTER: Duration = Duration::from_secs(30);
/// Connections in a row that brought nothing new before a download is given up.
const FRUITLESS: u32 = 3;
const PAUSE: Duration = Duration::from_millis(250);

/// Why a download failed.
#[derive(Debug, Error)]
pub(super) enum HubError {
    /// The host cannot be reached; nothing more is asked of it in this run.
    #[error("host {host} cannot be reached: {why}")]
    Unreachable { host: String, why: String },
    /// The host answered with something else than the file.
    #[error("the server answered with status {0}")]
    Status(u16),
    /// The connection broke again and again without progress.
    #[error("the transfer broke off at byte {at}: {why}")]
    Cut { at: u64, why: String },
    /// More bytes than the file has.
    #[error("the server sent more than the {0} bytes that the file has")]
    TooLarge(u64),
    /// The answer contradicts itself or the request.
    #[error("unusable answer: {0}")]
    Protocol(String),
    /// The part file could not be written. The fault is here, not there.
    #[error(transparent)]
    Disk(#[from] io::Error),
}

/// Downloads of one run, which remembers the hosts that did not answer.
pub(super) struct Hub {
    agent: Agent,
    unreachable: RefCell<BTreeMap<String, String>>,
}

/// What one connection brought.
enum Answer {
    Complete,
    /// The part file does not fit what the server has: start over.
    StartOver,
}

impl Hub {
    pub(super) fn new(connect_timeout: Duration) -> Self {
        let agent = Agent::config_builder()
            .http_status_as_error(false)
            .timeout_resolve(Some(connect_timeout))
            .timeout_connect(Some(connect_timeout))
            .timeout_recv_response(Some(ANSWER_WITHIN))
            .timeout_per_read(Some(STALLED_AFTER))
            .user_agent(concat!("offhook/", env!("CARGO_PKG_VERSION")))
            .build()
            .new_agent();
        Self {
            agent,
            unreachable: RefCell::default(),
        }
    }

    /// Brings `url` to `part`, going on where an earlier try left off. At most `limit` bytes are
    /// accepted.
    pub(super) fn download(
        &self,
        url: &str,
        part: &Path,
        item: &str,
        limit: u64,
        reporter: &dyn Reporter,
    ) -> Result<(), HubError> {
        let host = url
            .parse::<Uri>()
            .ok()
            .and_then(|uri| match (uri.host(), uri.port_u16()) {
                (Some(host), Some(port)) => Some(format!("{host}:{port}")),
                (host, None) => host.map(str::to_owned),
                (None, Some(_)) => None,
            })
            .ok_or_else(|| HubError::Protocol("the URL names no host".into()))?;
        if let Some(why) = self.unreachable.borrow().get(&host) {
            return Err(HubError::Unreachable {
                host,
                why: why.clone(),
            });
        }
        let mut fruitless = 0;
        loop {
            let before = length(part);
            let result = self.connection(url, &host, part, item, limit, reporter);
            reporter.report(Event::Finished);
            match result {
                Ok(Answer::Complete) => return Ok(()),
                Ok(Answer::StartOver) if fruitless < FRUITLESS => {
                    fruitless += 1;
                    fs::remove_file(part)?;
                }
                Ok(Answer::StartOver) => {
                    return Err(HubError::Protocol(
                        "the server cannot resume and cannot restart".into(),
                    ));
                }
                Err(HubError::Cut { .. }) if length(part) > before => fruitless = 0,
                Err(HubError::Cut { .. }) if fruitless + 1 < FRUITLESS => fruitless += 1,
                Err(error) => {
                    if let HubError::Unreachable { host, why } = &error {
                        self.unreachable
                            .borrow_mut()
                            .insert(host.clone(), why.clone());
                    }
                    return Err(error);
                }
            }
            thread::sleep(PAUSE);
        }
    }

    fn connection(
        &self,
        url: &str,
        host: &str,
        part: &Path,
        item: &str,
        limit: u64,
        reporter: &dyn Reporter,
    ) -> Result<Answer, HubError> {
        let have = length(part);
        // Compression would make byte ranges mean something else.
        let mut request = self
            .agent
            .get(url)
            .header(header::ACCEPT_ENCODING, "identity");
        if have > 0 {
            request = request.header(header::RANGE, format!("bytes={have}-"));
        }
        let response = request.call().map_err(|error| refused(error, host, have))?;
        let (from, total) = match response.status().as_u16() {
            200 => (0, content_length(&response)),
            206 => match content_range(&response) {
                Some((from, total)) if from == have => (from, total),
                _ => return Ok(Answer::StartOver),
            },
            416 if content_range_total(&response) == Some(have) => return Ok(Answer::Complete),
            416 if have > 0 => return Ok(Answer::StartOver),
            status => return Err(HubError::Status(status)),
        };
        if total.is_some_and(|total| total > limit) {
            return Err(HubError::TooLarge(limit));
        }
        reporter.report(Event::Started {
            item,
            activity: Activity::Downloading,
            total,
        });
        let done = receive(response, part, from, limit, reporter)?;
        match total {
            Some(total) if done < total => Err(HubError::Cut {
                at: done,
                why: "the server hung up".into(),
            }),
            _ => Ok(Answer::Complete),
        }
    }
}

/// Appends the body to `part` from byte `from`; the file's length afterwards.
fn receive(
    response: Response<Body>,
    part: &Path,
    from: u64,
    limit: u64,
    reporter: &dyn Reporter,
) -> Result<u64, HubError> {
    let mut file = OpenOptions::new().create(true).append(true).open(part)?;
    if from == 0 {
        file.set_len(0)?;
    }
    let mut body = response
        .into_body()
        .into_with_config()
        .limit(u64::MAX)
        .reader();
    let mut buffer = vec![0_u8; 1 << 16];
    let mut done = from;
    loop {
        let read = match body.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => {
                return Err(HubError::Cut {
                    at: done,
                    why: error.to_string(),
                });
            }
        };
        done += read as u64;
        if done > limit {
            return Err(HubError::TooLarge(limit));
        }
        file.write_all(&buffer[..read])?;
        reporter.report(Event::Advanced(done));
    }
    file.sync_all()?;
    Ok(done)
}

fn length(part: &Path) -> u64 {
    fs::metadata(part).map_or(0, |metadata| metadata.len())
}

fn content_length(response: &Response<Body>) -> Option<u64> {
    response
        .headers()
        .get(header::CONTENT_LENGTH)?
        .to_str()
        .ok()?
        .trim()
        .parse()
        .ok()
}

/// First byte and, where the server knows it, length of the whole: `bytes 5-9/10`.
fn content_range(response: &Response<Body>) -> Option<(u64, Option<u64>)> {
    let text = response
        .headers()
        .get(header::CONTENT_RANGE)?
        .to_str()
        .ok()?;
    let (range, total) = text.trim().strip_prefix("bytes ")?.split_once('/')?;
    let (from, _) = range.split_once('-')?;
    Some((from.trim().parse().ok()?, total.trim().parse().ok()))
}

/// The length of the whole in an answer that has none of it: `bytes */10`.
fn content_range_total(response: &Response<Body>) -> Option<u64> {
    let text = response
        .headers()
        .get(header::CONTENT_RANGE)?
        .to_str()
        .ok()?;
    text.trim().strip_prefix("bytes */")?.parse().ok()
}

/// Errors before there was an answer. Only those that say something about the host condemn it.
fn refused(error: ureq::Error, host: &str, at: u64) -> HubError {
    let why = error.to_string();
    match error {
        ureq::Error::HostNotFound
        | ureq::Error::ConnectionFailed
        | ureq::Error::ConnectProxyFailed(_)
        | ureq::Error::Timeout(Timeout::Resolve | Timeout::Connect | Timeout::RecvResponse)
        | ureq::Error::Tls(_)
        | ureq::Error::Rustls(_) => HubError::Unreachable {
            host: host.into(),
            why,
        },
        ureq::Error::Io(error)
            if error.kind() != io::ErrorKind::UnexpectedEof
                && error.kind() != io::ErrorKind::ConnectionReset =>
        {
            HubError::Unreachable {
                host: host.into(),
                why,
            }
        }
        ureq::Error::Io(_) | ureq::Error::Timeout(_) | ureq::Error::BodyStalled => {
            HubError::Cut { at, why }
        }
        _ => HubError::Protocol(why),
    }
}
