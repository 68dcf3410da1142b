//! The socket itself; what calls do with commands is theirs to test.

use std::os::unix::fs::MetadataExt;

use super::super::{AskError, ask};
use super::*;

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("offhook-ctl-{}-{name}", std::process::id()));
        fs::create_dir_all(&path).expect("a folder");
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn desk() -> Desk {
    Desk {
        dialler: Arc::new(|request| {
            let unknown = DialRefusal::UnknownAssistant(format!("{:?}", request.talker));
            Box::pin(async { Err(unknown) })
        }),
        registry: Registry::new(1),
        mailbox_changed: Arc::new(|_| false),
        trunks: TrunkBoard::default(),
    }
}

fn refusal(answer: &Answer) -> Option<Refusal> {
    match answer {
        Answer::Refused { refusal, .. } => Some(*refusal),
        _ => None,
    }
}

#[tokio::test]
async fn only_its_user_can_open_it_and_a_stale_one_is_replaced() {
    let folder = Folder::new("stale");
    // What a killed server leaves: a socket file that nobody listens on.
    drop(std::os::unix::net::UnixListener::bind(socket_path(&folder.0)).expect("bound"));
    assert!(matches!(
        ask(&folder.0, Ask::Calls).await,
        Err(AskError::NoServer(_))
    ));
    let socket = Socket::bind(&folder.0).expect("replaced");
    let mode = fs::metadata(socket_path(&folder.0)).expect("there").mode();
    assert_eq!(mode & 0o777, 0o600);
    let serving = tokio::spawn(socket.serve(desk()));
    let answer = ask(&folder.0, Ask::Calls).await.expect("an answer");
    assert_eq!(answer, Answer::Calls(Vec::new()));
    serving.abort();
    let _ = serving.await;
    assert!(!socket_path(&folder.0).exists(), "it goes with its server");
    assert!(matches!(
        ask(&folder.0, Ask::Calls).await,
        Err(AskError::NoServer(_))
    ));
}

#[tokio::test]
async fn a_file_in_its_place_is_not_overwritten() {
    let folder = Folder::new("file");
    fs::write(socket_path(&folder.0), "precious").expect("written");
    let error = Socket::bind(&folder.0).expect_err("in the way");
    assert!(error.to_string().contains("no socket"), "{error}");
    assert_eq!(
        fs::read_to_string(socket_path(&folder.0)).expect("there"),
        "precious"
    );
}

#[tokio::test]
async fn nonsense_is_refused_and_endless_lines_are_not_read() {
    let folder = Folder::new("nonsense");
    let socket = Socket::bind(&folder.0).expect("bound");
    let serving = tokio::spawn(socket.serve(desk()));
    let mut client = UnixStream::connect(socket_path(&folder.0))
        .await
        .expect("connected");
    for line in [
        "hello\n",
        "{\"version\":2,\"ask\":\"calls\"}\n",
        "{\"version\":1,\"ask\":\"reboot\"}\n",
        "{\"version\":1,\"ask\":\"calls\",\"more\":1}\n",
    ] {
        client.write_all(line.as_bytes()).await.expect("written");
        let mut answer = Vec::new();
        BufReader::new(&mut client)
            .read_until(b'\n', &mut answer)
            .await
            .expect("read");
        let response: Response = serde_json::from_slice(&answer).expect("a response");
        assert_eq!(
            refusal(&response.answer),
            Some(Refusal::BadRequest),
            "{line}"
        );
    }
    let endless = vec![b'a'; usize::try_from(LONGEST_LINE).expect("small") + 1];
    // The server may hang up before all of it is written.
    let _ = client.write_all(&endless).await;
    let mut answer = Vec::new();
    let _ = client.read_to_end(&mut answer).await;
    assert!(answer.is_empty());
    serving.abort();
}

#[tokio::test]
async fn an_unknown_call_and_an_empty_text_are_told_apart() {
    let desk = desk();
    let id = "1234".to_owned();
    let answer = desk.answer(Ask::Hold { id: id.clone() }).await;
    assert_eq!(refusal(&answer), Some(Refusal::UnknownCall));
    let text = "  ".to_owned();
    let answer = desk.answer(Ask::Say { id, text }).await;
    assert_eq!(refusal(&answer), Some(Refusal::BadRequest));
    let dial = Ask::Dial {
        assistant: "nobody".to_owned(),
        number: "+4930123".to_owned(),
        trunk: None,
        wait: true,
    };
    let answer = desk.answer(dial).await;
    assert_eq!(refusal(&answer), Some(Refusal::NotAllowed));
}
