//! Files from servers that go away, lie or know no ranges.

use std::fs;
use std::io::ErrorKind;
use std::net::TcpListener;
use std::time::Duration;

use super::support::{
    Folder, Notes, Reply, Server, ears, failure, fetch, manifest, sha256, source_urls, weights,
};
use crate::models::hub::{Hub, HubError};
use crate::models::{Catalog, CatalogError, FetchError, FetchOptions, FileState, Silent};

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
    catalog.replace_sources(vec![crate::models::Source::Url(server.url("ears.bin"))]);
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
