//! The requester's side of a request: its answers, its cancellation, and their way to a call.

use std::sync::Arc;

use tokio::sync::mpsc;

use crate::engines::ipc::RequestId;
use crate::engines::{EngineError, EngineEvent};

/// One answer to a request.
#[derive(Debug, PartialEq)]
pub enum Response<R> {
    /// A piece; more follow.
    Part {
        /// The piece.
        body: R,
        /// Bytes beside it.
        payload: Vec<u8>,
    },
    /// The last piece.
    Done {
        /// The piece.
        body: R,
        /// Bytes beside it.
        payload: Vec<u8>,
    },
    /// The end, without a further piece.
    Failed(EngineError),
}

/// Lets requests be cancelled without knowing their types.
pub(in crate::engines) trait Canceller: Send + Sync {
    fn cancel(&self, id: RequestId);
    fn promote(&self, id: RequestId);
}

/// A request that is under way. Dropping it cancels the request.
#[must_use = "dropping the handle cancels the request"]
pub struct RequestHandle {
    id: RequestId,
    canceller: Arc<dyn Canceller>,
}

impl RequestHandle {
    pub(in crate::engines) fn new(id: RequestId, canceller: Arc<dyn Canceller>) -> Self {
        Self { id, canceller }
    }

    /// The request.
    pub fn id(&self) -> RequestId {
        self.id
    }

    /// Stops the request. An event that is already in the call's channel stays there.
    pub fn cancel(self) {
        drop(self);
    }

    /// Raises a speculative request to [`Priority::Waiting`](crate::engines::Priority::Waiting), if it still waits.
    pub fn promote(&self) {
        self.canceller.promote(self.id);
    }
}

impl Drop for RequestHandle {
    fn drop(&mut self) {
        self.canceller.cancel(self.id);
    }
}

impl std::fmt::Debug for RequestHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("RequestHandle").field(&self.id).finish()
    }
}

/// The answers to one request. Dropping it cancels the request.
#[must_use = "dropping the answers cancels the request"]
#[derive(Debug)]
pub struct Responses<R> {
    handle: RequestHandle,
    receiver: mpsc::Receiver<Response<R>>,
    ended: bool,
}

impl<R> Responses<R> {
    pub(super) fn new(handle: RequestHandle, receiver: mpsc::Receiver<Response<R>>) -> Self {
        Self {
            handle,
            receiver,
            ended: false,
        }
    }

    /// The next answer; `None` behind [`Response::Done`] and [`Response::Failed`].
    /// Cancellation-safe.
    pub async fn next(&mut self) -> Option<Response<R>> {
        if self.ended {
            return None;
        }
        let response = match self.receiver.recv().await {
            Some(response) => response,
            // Whoever cancels drops the sender.
            None => Response::Failed(EngineError::Cancelled),
        };
        self.ended = !matches!(response, Response::Part { .. });
        Some(response)
    }

    /// Waits for the end of a request that is answered in one piece.
    ///
    /// # Errors
    /// What the request failed with; parts before the end are dropped.
    pub async fn done(mut self) -> Result<(R, Vec<u8>), EngineError> {
        loop {
            match self.next().await {
                Some(Response::Part { .. }) => {}
                Some(Response::Done { body, payload }) => return Ok((body, payload)),
                Some(Response::Failed(error)) => return Err(error),
                None => return Err(EngineError::Cancelled),
            }
        }
    }
}

/// Turns the answers to a request into events for a call, in a task of its own, until the last
/// answer or until the call stops listening. A cancelled request sends no event.
pub fn forward<R: Send + 'static>(
    responses: Responses<R>,
    events: mpsc::Sender<EngineEvent>,
    mut translate: impl FnMut(Response<R>) -> Option<EngineEvent> + Send + 'static,
) -> RequestHandle {
    let handle = RequestHandle {
        id: responses.handle.id,
        canceller: Arc::clone(&responses.handle.canceller),
    };
    tokio::spawn(async move {
        let mut responses = responses;
        loop {
            let response = tokio::select! {
                response = responses.next() => response,
                () = events.closed() => None,
            };
            match response {
                None | Some(Response::Failed(EngineError::Cancelled)) => return,
                Some(response) => {
                    if let Some(event) = translate(response)
                        && events.send(event).await.is_err()
                    {
                        return;
                    }
                }
            }
        }
    });
    handle
}
