//! Keeps the map true: which module may import which, that pure modules stay pure, and that no
//! file grows past reading.

// Helpers of tests, which clippy does not take for tests.
#![allow(clippy::expect_used)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Lines a file may have without its tests.
const LONGEST_FILE: usize = 600;

/// Files that may be longer, each with its reason.
const LONG_FILES: &[(&str, &str)] = &[];

const PURE: &[&str] = &[
    "ids",
    "numbers",
    "record",
    "audio",
    "sip",
    "sdp",
    "rtp",
    "conversation",
    "voicemail",
];

/// What each top-level module may import of ours. `main` and `app` see everything.
const IMPORTS: &[(&str, &[&str])] = &[
    ("ids", &[]),
    ("numbers", &[]),
    ("record", &["ids"]),
    ("audio", &[]),
    ("sip", &["ids", "audio"]),
    ("sdp", &["ids", "audio"]),
    ("rtp", &["ids", "audio"]),
    ("conversation", &["ids", "audio", "record"]),
    ("voicemail", &["ids", "audio", "record"]),
    ("observe", &["ids", "record"]),
    ("models", &["ids", "observe"]),
    (
        "net",
        &[
            "ids",
            "audio",
            "sip",
            "sdp",
            "rtp",
            "conversation",
            "record",
            "observe",
        ],
    ),
    (
        "engines",
        &[
            "ids",
            "audio",
            "sip",
            "sdp",
            "rtp",
            "conversation",
            "record",
            "observe",
            "web",
        ],
    ),
    // HTTP clients for whoever asks other machines.
    ("web", &[]),
    (
        "store",
        &[
            "ids",
            "audio",
            "sip",
            "sdp",
            "rtp",
            "conversation",
            "record",
            "observe",
        ],
    ),
    // audio, sip and engines for the settings that they own.
    (
        "config",
        &[
            "ids",
            "audio",
            "numbers",
            "sip",
            "conversation",
            "voicemail",
            "engines",
        ],
    ),
    // Objects of the API in Vapi's shape, put together with the configuration.
    (
        "directory",
        &["ids", "record", "conversation", "sip", "config", "store"],
    ),
    (
        "call",
        &[
            "ids",
            "numbers",
            "audio",
            "sip",
            "sdp",
            "rtp",
            "conversation",
            "voicemail",
            "record",
            "observe",
            "net",
            "engines",
            "store",
            "webhooks",
        ],
    ),
    // Queues in the database, like the journal that it goes through, and sends by HTTP.
    (
        "webhooks",
        &["ids", "record", "conversation", "observe", "store", "web"],
    ),
    // Asks the model about calls that are kept.
    (
        "analysis",
        &["ids", "record", "conversation", "engines", "store"],
    ),
    ("control", &["ids", "record", "observe", "call"]),
    ("softphone", &["ids", "audio", "sip", "sdp", "rtp", "net"]),
    // conversation for the assistants that it checks, and the roles of what is told them; softphone
    // for the test call from the browser, of which it sees sound and nothing of SIP.
    (
        "http",
        &[
            "ids",
            "audio",
            "record",
            "config",
            "observe",
            "store",
            "call",
            "directory",
            "conversation",
            "softphone",
        ],
    ),
    // `offhook demo` speaks, hence engines; ladders read SIP messages.
    (
        "cli",
        &[
            "ids",
            "audio",
            "record",
            "sip",
            "config",
            "store",
            "models",
            "engines",
            "softphone",
            "control",
        ],
    ),
    ("bin", &["audio", "engines", "ids", "observe"]),
];

/// Words that a pure module may not hold outside its tests: clocks, IO, threads, global randomness.
const IMPURE: &[&str] = &[
    "Instant::now",
    "SystemTime::now",
    "now_utc",
    "tokio::",
    "std::thread",
    "std::fs",
    "std::net::UdpSocket",
    "std::net::Tcp",
    "rand::rng()",
    "thread_rng",
    "rand::random",
];

struct Source {
    path: String,
    module: String,
    text: String,
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn sources() -> Vec<Source> {
    let mut files = Vec::new();
    collect(&root().join("src"), &mut files);
    files.sort();
    assert!(files.len() > 20, "the scan finds the sources");
    files
        .into_iter()
        .map(|file| {
            let path = file
                .strip_prefix(root().join("src"))
                .expect("inside src")
                .display()
                .to_string();
            let module = path
                .split('/')
                .next()
                .expect("a first part")
                .trim_end_matches(".rs")
                .to_owned();
            let text = fs::read_to_string(&file).expect("readable");
            Source { path, module, text }
        })
        .collect()
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("folder") {
        let path = entry.expect("entry").path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|e| e == "rs") {
            files.push(path);
        }
    }
}

/// A test file by its place: `tests.rs`, `tests/…`, `*_tests.rs`, and the simulated networks.
fn is_test_file(path: &str) -> bool {
    path.ends_with("/tests.rs")
        || path.ends_with("/simulation.rs")
        || path.contains("/tests/")
        || path.ends_with("_tests.rs")
}

/// The text without comments and without a trailing `mod tests { … }`.
fn product_code(text: &str) -> String {
    let mut kept = String::new();
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        let ends_here = line.trim() == "#[cfg(test)]"
            && lines.peek().is_some_and(|next| {
                let next = next.trim();
                next.starts_with("mod ") && next.ends_with('{')
            });
        if ends_here {
            break;
        }
        if !line.trim_start().starts_with("//") {
            kept.push_str(line);
            kept.push('\n');
        }
    }
    kept
}

/// Top-level modules named by `crate::`, `offhook::` or a chain of `super::` that leaves the
/// module, also inside braces (`use crate::{a, b::c}`).
fn imports(source: &Source) -> Vec<String> {
    let text = product_code(&source.text);
    let mut found = Vec::new();
    for prefix in ["crate::", "offhook::"] {
        for (at, _) in text.match_indices(prefix) {
            let before = text[..at].chars().next_back();
            if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == '$') {
                continue;
            }
            found.extend(first_names(&text[at + prefix.len()..]));
        }
    }
    let depth = source.path.matches('/').count()
        + usize::from(!source.path.ends_with("/mod.rs") && source.path.contains('/'));
    let leaving = "super::".repeat(depth.max(1));
    for (at, _) in text.match_indices(&leaving) {
        let before = text[..at].chars().next_back();
        if before.is_some_and(|c| c == ':' || c.is_alphanumeric()) {
            continue;
        }
        found.extend(first_names(&text[at + leaving.len()..]));
    }
    found
}

fn first_names(rest: &str) -> Vec<String> {
    let name = |text: &str| -> String {
        text.trim_start()
            .chars()
            .take_while(|c| c.is_alphanumeric() || *c == '_')
            .collect()
    };
    let Some(inner) = rest.strip_prefix('{') else {
        return vec![name(rest)];
    };
    let mut depth = 1;
    let mut names = Vec::new();
    let mut start = 0;
    for (at, c) in inner.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 1 => {
                names.push(name(&inner[start..at]));
                start = at + 1;
            }
            _ => {}
        }
        if depth == 0 {
            names.push(name(&inner[start..at]));
            break;
        }
    }
    names.retain(|name| !name.is_empty());
    names
}

#[test]
fn modules_import_only_what_the_map_allows() {
    let allowed: BTreeMap<&str, &[&str]> = IMPORTS.iter().copied().collect();
    let modules: Vec<String> = sources()
        .iter()
        .map(|source| source.module.clone())
        .collect();
    let mut wrong = Vec::new();
    for source in sources() {
        if matches!(source.module.as_str(), "main" | "app" | "lib") || is_test_file(&source.path) {
            continue;
        }
        let Some(may) = allowed.get(source.module.as_str()) else {
            wrong.push(format!(
                "{}: module {} is not on the map",
                source.path, source.module
            ));
            continue;
        };
        for name in imports(&source) {
            let ours = modules.contains(&name) && name != "bin";
            if ours && name != source.module && !may.contains(&name.as_str()) {
                wrong.push(format!("{} imports {name}", source.path));
            }
        }
    }
    assert!(wrong.is_empty(), "not on the map:\n{}", wrong.join("\n"));
}

#[test]
fn pure_modules_hold_no_clock_io_thread_or_global_randomness() {
    let mut wrong = Vec::new();
    for source in sources() {
        if !PURE.contains(&source.module.as_str()) || is_test_file(&source.path) {
            continue;
        }
        let code = product_code(&source.text);
        for word in IMPURE {
            if code.contains(word) {
                wrong.push(format!("{} holds {word}", source.path));
            }
        }
    }
    assert!(wrong.is_empty(), "impure:\n{}", wrong.join("\n"));
}

#[test]
fn only_the_binary_that_wraps_an_engine_names_its_native_crate() {
    let natives = [
        ("whisper_rs", "offhook-stt"),
        ("llama_cpp", "offhook-llm"),
        ("piper_rs", "offhook-tts"),
    ];
    for source in sources() {
        for (native, home) in natives {
            let at_home = source.path.starts_with(&format!("bin/{home}/"));
            assert!(
                at_home || !product_code(&source.text).contains(native),
                "{} names {native}",
                source.path
            );
        }
        let sip_vocabulary = ["sip/message", "sip/wire"]
            .iter()
            .any(|home| source.path.starts_with(home));
        assert!(
            sip_vocabulary || !product_code(&source.text).contains("rsip::"),
            "{} names rsip",
            source.path
        );
        let sql = source.path.starts_with("store/") || source.path == "app.rs";
        assert!(
            sql || !product_code(&source.text).contains("sqlx::"),
            "{} names sqlx",
            source.path
        );
    }
}

#[test]
fn no_file_is_too_long_to_read() {
    let long: Vec<String> = sources()
        .iter()
        .filter(|source| !is_test_file(&source.path))
        .filter(|source| !LONG_FILES.iter().any(|(path, _)| *path == source.path))
        .filter_map(|source| {
            let lines = product_lines(&source.text);
            (lines > LONGEST_FILE).then(|| format!("{}: {lines} lines", source.path))
        })
        .collect();
    assert!(long.is_empty(), "too long:\n{}", long.join("\n"));
}

fn product_lines(text: &str) -> usize {
    match text.find("#[cfg(test)]\nmod tests {") {
        Some(at) => text[..at].lines().count(),
        None => text.lines().count(),
    }
}

#[test]
fn the_scan_sees_through_braces_and_super() {
    let source = Source {
        path: "net/sip.rs".to_owned(),
        module: "net".to_owned(),
        text: "use crate::{ids::CallId, store};\nuse super::local::x;\nuse super::super::http;\n// crate::cli\n".to_owned(),
    };
    let mut found = imports(&source);
    found.sort();
    assert_eq!(found, ["http", "ids", "store"]);
}
