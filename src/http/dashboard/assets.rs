//! The files of the dashboard, built in.

use axum::extract::Path;
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};
use sha2::{Digest, Sha256};

use crate::http::error::ApiError;

struct Asset {
    path: &'static str,
    kind: &'static str,
    bytes: &'static [u8],
}

macro_rules! assets {
    ($($path:literal $kind:literal),* $(,)?) => {
        &[$(Asset {
            path: $path,
            kind: $kind,
            bytes: include_bytes!(concat!("ui/", $path)),
        }),*]
    };
}

const ASSETS: &[Asset] = assets![
    "index.html" "text/html; charset=utf-8",
    "style.css" "text/css; charset=utf-8",
    "icon.svg" "image/svg+xml",
    "theme.js" "text/javascript; charset=utf-8",
    "app.js" "text/javascript; charset=utf-8",
    "lib/api.js" "text/javascript; charset=utf-8",
    "lib/dom.js" "text/javascript; charset=utf-8",
    "lib/format.js" "text/javascript; charset=utf-8",
    "lib/chart.js" "text/javascript; charset=utf-8",
    "lib/wave.js" "text/javascript; charset=utf-8",
    "lib/listen.js" "text/javascript; charset=utf-8",
    "lib/microphone.js" "text/javascript; charset=utf-8",
    "lib/sound.js" "text/javascript; charset=utf-8",
    "lib/talk.js" "text/javascript; charset=utf-8",
    "pages/login.js" "text/javascript; charset=utf-8",
    "pages/overview.js" "text/javascript; charset=utf-8",
    "pages/live.js" "text/javascript; charset=utf-8",
    "pages/history.js" "text/javascript; charset=utf-8",
    "pages/call.js" "text/javascript; charset=utf-8",
    "pages/assistants.js" "text/javascript; charset=utf-8",
    "pages/talk.js" "text/javascript; charset=utf-8",
    "pages/numbers.js" "text/javascript; charset=utf-8",
    "pages/trunks.js" "text/javascript; charset=utf-8",
    "pages/voicemails.js" "text/javascript; charset=utf-8",
];

/// The one page.
pub(super) async fn index(headers: HeaderMap) -> Response {
    serve("index.html", &headers)
}

/// Any other file.
pub(super) async fn file(Path(path): Path<String>, headers: HeaderMap) -> Response {
    serve(&path, &headers)
}

fn serve(path: &str, headers: &HeaderMap) -> Response {
    let Some(asset) = ASSETS.iter().find(|asset| asset.path == path) else {
        return ApiError::NotFound("there is no such page".to_owned()).into_response();
    };
    let digest = Sha256::digest(asset.bytes);
    let tag: String = digest[..8]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let tag = format!("\"{tag}\"");
    // Asked for again each time, and only sent where another version is built in.
    let common: [(HeaderName, String); 2] = [
        (header::ETAG, tag.clone()),
        (header::CACHE_CONTROL, "no-cache".to_owned()),
    ];
    let shown = headers.get(header::IF_NONE_MATCH);
    if shown.is_some_and(|shown| shown.as_bytes() == tag.as_bytes()) {
        return (StatusCode::NOT_MODIFIED, common).into_response();
    }
    let kind = [(header::CONTENT_TYPE, asset.kind)];
    (common, kind, asset.bytes).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_need_nothing_from_elsewhere_and_every_file_that_they_import_is_there() {
        for asset in ASSETS {
            let text = String::from_utf8_lossy(asset.bytes);
            for elsewhere in ["https://", "src=\"//", "@import", "eval(", "innerHTML"] {
                assert!(!text.contains(elsewhere), "{} has {elsewhere}", asset.path);
            }
            if !asset.path.ends_with(".js") {
                continue;
            }
            for line in text.lines().filter(|line| line.starts_with("import ")) {
                let from = line.rsplit('\'').nth(1).expect("a path in quotes");
                let folder = asset.path.rsplit_once('/').map_or("", |(folder, _)| folder);
                let path = match (from.strip_prefix("../"), from.strip_prefix("./")) {
                    (Some(up), _) => up.to_owned(),
                    (None, Some(here)) if folder.is_empty() => here.to_owned(),
                    (None, Some(here)) => format!("{folder}/{here}"),
                    (None, None) => panic!("{}: {line}", asset.path),
                };
                assert!(
                    ASSETS.iter().any(|asset| asset.path == path),
                    "{}: {line}",
                    asset.path
                );
            }
        }
    }
}
