//! One connection with a pipe for its other end, and with bounds short enough to wait for.

use tokio::io::DuplexStream;
use tokio::task::JoinHandle;

use super::*;

const OPTIONS: &str = "OPTIONS sip:a@example.com SIP/2.0\r\nVia: SIP/2.0/TCP b;branch=z9hG4bK1\r\n\
    Max-Forwards: 70\r\nFrom: <sip:b@example.com>;tag=1\r\nTo: <sip:a@example.com>\r\n\
    Call-ID: 1\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n";

/// No statement about speed.
const PATIENCE: Duration = Duration::from_secs(60);

/// Nothing is waited for in vain.
fn patient() -> Bounds {
    Bounds {
        first_message: PATIENCE,
        whole_message: PATIENCE,
        idle: PATIENCE,
        write: PATIENCE,
        linger: PATIENCE,
        keep_alive: PATIENCE..PATIENCE * 2,
        pong: PATIENCE,
    }
}

const SHORT: Duration = Duration::from_millis(100);

struct Ends {
    peer: DuplexStream,
    told: mpsc::Receiver<(ConnectionId, Told)>,
    queue: Option<mpsc::Sender<Arc<[u8]>>>,
    task: JoinHandle<()>,
}

fn open(opened: Opened, bounds: Bounds) -> Ends {
    let (ours, peer) = tokio::io::duplex(1 << 16);
    let (tell, told) = mpsc::channel(16);
    let (queue, queued) = mpsc::channel(16);
    let wiring = Wiring {
        id: ConnectionId(1),
        opened,
        told: tell,
        queue: queued,
        queued: Arc::default(),
        bounds,
    };
    let stream: Box<dyn Stream> = Box::new(ours);
    Ends {
        peer,
        told,
        queue: Some(queue),
        task: tokio::spawn(run(wiring, async { Ok(stream) })),
    }
}

impl Ends {
    async fn told(&mut self) -> Told {
        let told = timeout(PATIENCE, self.told.recv()).await;
        told.expect("in time").expect("something").1
    }

    /// Why it was closed, whatever else was told before.
    async fn closed(mut self) -> String {
        loop {
            if let Told::Closed(why) = self.told().await {
                self.queue = None;
                self.task.await.expect("an end");
                return why.to_string();
            }
        }
    }

    async fn write(&mut self, bytes: &[u8]) {
        self.peer.write_all(bytes).await.expect("written");
    }
}

#[tokio::test]
async fn a_peer_that_connects_and_says_nothing_is_gone() {
    let bounds = Bounds {
        first_message: SHORT,
        ..patient()
    };
    let ends = open(Opened::ByPeer, bounds);
    assert_eq!(ends.closed().await, "no first message in time");
}

#[tokio::test]
async fn a_message_that_trickles_in_must_be_whole_in_time() {
    let bounds = Bounds {
        whole_message: SHORT * 3,
        ..patient()
    };
    let mut ends = open(Opened::ByPeer, bounds);
    // Line ends between messages are none, and no reason to hurry.
    ends.write(b"\r\n").await;
    tokio::time::sleep(SHORT * 4).await;
    ends.write(OPTIONS.as_bytes()).await;
    assert!(matches!(ends.told().await, Told::Message(Ok(_))));
    let (read, mut write) = tokio::io::split(ends.peer);
    let trickle = tokio::spawn(async move {
        for byte in OPTIONS.bytes() {
            // An error is the end that this is about.
            let _ = write.write_all(&[byte]).await;
            tokio::time::sleep(SHORT).await;
        }
    });
    let why = loop {
        if let Some((_, Told::Closed(why))) = ends.told.recv().await {
            break why.to_string();
        }
    };
    assert_eq!(why, "no whole message in time");
    drop(read);
    trickle.abort();
}

#[tokio::test]
async fn pings_are_answered_and_a_connection_without_use_says_so_again_and_again() {
    let bounds = Bounds {
        idle: SHORT,
        ..patient()
    };
    let mut ends = open(Opened::ByPeer, bounds);
    ends.write(b"\r\n\r\n").await;
    let mut pong = [0; 2];
    ends.peer.read_exact(&mut pong).await.expect("a pong");
    assert_eq!(&pong, b"\r\n");
    for _ in 0..3 {
        assert!(matches!(ends.told().await, Told::Idle));
    }
}

#[tokio::test]
async fn our_connections_are_kept_alive_and_a_peer_that_stops_answering_is_gone() {
    let bounds = Bounds {
        keep_alive: SHORT..SHORT * 2,
        pong: SHORT * 15,
        ..patient()
    };
    let mut ends = open(Opened::ByUs, bounds);
    let mut ping = [0; 4];
    ends.peer.read_exact(&mut ping).await.expect("a ping");
    assert_eq!(&ping, b"\r\n\r\n");
    ends.write(b"\r\n").await;
    assert_eq!(ends.closed().await, "no answer to a keep-alive in time");
}

#[tokio::test]
async fn a_peer_that_knows_no_keep_alives_is_left_alone() {
    let bounds = Bounds {
        keep_alive: SHORT / 10..SHORT / 5,
        pong: SHORT / 10,
        idle: SHORT * 5,
        ..patient()
    };
    let mut ends = open(Opened::ByUs, bounds);
    let mut ping = [0; 4];
    for _ in 0..5 {
        ends.peer.read_exact(&mut ping).await.expect("a ping");
    }
    // Our own pings are no use that the connection is put to.
    assert!(matches!(ends.told().await, Told::Idle));
}

#[tokio::test]
async fn a_peer_that_takes_nothing_is_gone() {
    let bounds = Bounds {
        write: SHORT,
        ..patient()
    };
    let ends = open(Opened::ByUs, bounds);
    let queue = ends.queue.clone().expect("a queue");
    let large: Arc<[u8]> = vec![b'x'; 1 << 17].into();
    queue.send(large).await.expect("queued");
    assert_eq!(ends.closed().await, "no taking of a message in time");
}

#[tokio::test]
async fn what_is_queued_is_sent_before_it_closes() {
    let mut ends = open(Opened::ByUs, patient());
    let queue = ends.queue.take().expect("a queue");
    let words: Arc<[u8]> = b"last words".as_slice().into();
    queue.send(words).await.expect("queued");
    drop(queue);
    let mut heard = Vec::new();
    ends.peer.read_to_end(&mut heard).await.expect("an end");
    assert_eq!(heard, b"last words");
}
