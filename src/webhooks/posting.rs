//! One signed POST to a server.

use std::time::Duration;

use reqwest::RequestBuilder;
use reqwest::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use time::OffsetDateTime;
use url::Url;

use super::signature;
use crate::conversation::settings::Server;
use crate::web::{Client, Refused};

/// Where a server is, as far as its settings say.
pub(super) fn url_of(server: &Server) -> Option<Url> {
    server.url.as_deref()?.parse().ok()
}

/// A request with the server's header fields and, where it has a secret, a signature. `id` names
/// the message in all attempts.
///
/// # Errors
/// Where the URL may not be asked.
pub(super) fn request(
    client: &Client,
    server: &Server,
    url: Url,
    id: &str,
    body: String,
) -> Result<RequestBuilder, Refused> {
    let seconds = OffsetDateTime::now_utc().unix_timestamp();
    let mut request = client.post(url)?;
    for (name, value) in &server.headers {
        let name = HeaderName::from_bytes(name.as_bytes());
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_str(value)) {
            request = request.header(name, value);
        }
    }
    if let Some(secret) = &server.secret {
        let signed = signature::sign(secret.expose(), id, seconds, &body);
        request = request.header("webhook-signature", signed);
    }
    let limit = Duration::from_secs_f64(server.timeout_seconds.clamp(1.0, 300.0));
    Ok(request
        .header("webhook-id", id)
        .header("webhook-timestamp", seconds)
        .header(CONTENT_TYPE, "application/json")
        .timeout(limit)
        .body(body))
}
