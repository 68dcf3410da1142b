//! The command line's end of the control socket.

use std::io;
use std::path::{Path, PathBuf};

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;

use super::{Answer, Ask, LONGEST_LINE, Request, Response, VERSION, socket_path};

/// Why the server could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// Nobody listens on the data folder's socket.
    #[error("no server is running on the data folder {}", .0.display())]
    NoServer(PathBuf),
    /// The socket belongs to another user.
    #[error("the server on the data folder {} belongs to another user", .0.display())]
    Forbidden(PathBuf),
    /// The server went away, or the socket is broken.
    #[error("the server does not answer: {0}")]
    Io(#[from] io::Error),
    /// The answer is not one of this version's.
    #[error("the server's answer is not understood: {0}; is it another version of offhook?")]
    Strange(String),
}

/// Asks the server of a data folder and waits for its answer.
///
/// # Errors
/// Where there is no server, or it cannot be understood. A refusal is an [`Answer`].
pub async fn ask(data: &Path, ask: Ask) -> Result<Answer, AskError> {
    let stream = connect(data).await?;
    let (reading, mut writing) = stream.into_split();
    let request = Request {
        version: VERSION,
        ask,
    };
    let mut line =
        serde_json::to_vec(&request).map_err(|error| AskError::Strange(error.to_string()))?;
    line.push(b'\n');
    writing.write_all(&line).await?;
    let mut answer = Vec::new();
    let mut reading = BufReader::new(reading.take(LONGEST_LINE));
    reading.read_until(b'\n', &mut answer).await?;
    if answer.is_empty() {
        let gone = io::Error::new(io::ErrorKind::UnexpectedEof, "it hung up");
        return Err(AskError::Io(gone));
    }
    let response: Response =
        serde_json::from_slice(&answer).map_err(|error| AskError::Strange(error.to_string()))?;
    Ok(response.answer)
}

async fn connect(data: &Path) -> Result<UnixStream, AskError> {
    let connected = UnixStream::connect(socket_path(data)).await;
    connected.map_err(|error| match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
            AskError::NoServer(data.to_owned())
        }
        io::ErrorKind::PermissionDenied => AskError::Forbidden(data.to_owned()),
        _ => AskError::Io(error),
    })
}
