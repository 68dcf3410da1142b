//! The API over very many kept calls: how long lists, searches and filters take, on SQLite and on
//! PostgreSQL (Debian's, started here).
//!
//! The calls are made by the database itself, from counting: 8 messages each of 6 words, of a
//! vocabulary in which few words are frequent.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use offhook::store::{Database, Store};
use serde_json::json;
use sqlx::{AssertSqlSafe, Connection};
use time::{Duration, OffsetDateTime};

use crate::Result;
use crate::load::Watch;
use crate::options::Options;
use crate::report::{Report, Table};
use crate::server::{Server, Setup};
use crate::statistics::Sample;

/// A number with leading noughts, in both databases.
fn digits(expression: &str, width: u32) -> String {
    let base = 10_u64.pow(width);
    format!("SUBSTR(CAST({base} + ({expression}) AS TEXT), 2, {width})")
}

/// A day, so many before today.
fn day_before(days: u32) -> String {
    let day = OffsetDateTime::now_utc().date() - Duration::days(i64::from(days));
    format!("{day}")
}

/// A time, minute by minute, of which the last of so many calls' is of today.
fn minute(expression: &str, calls: u32) -> String {
    let days = calls.div_ceil(1440);
    let days: String = (0..days).rev().map(day_before).collect();
    let day = format!("SUBSTR('{days}', ({expression}) / 1440 * 10 + 1, 10)");
    let hour = digits(&format!("({expression}) / 60 % 24"), 2);
    let minute = digits(&format!("({expression}) % 60"), 2);
    format!("{day} || 'T' || {hour} || ':' || {minute} || ':00.000Z'")
}

fn statements(calls: u32) -> Vec<String> {
    let numbers = |most: u32| {
        format!(
            "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < {})",
            most - 1
        )
    };
    // As random as ids are in their first digits.
    let id = |i: &str| {
        let first = digits(&format!("{i} * 7919 % 100000000"), 8);
        format!("{first} || '-0000-4000-8000-' || {}", digits(i, 12))
    };
    // Squared, so that the first words are many times as frequent as the last.
    let word = |seed: &str| {
        let chance = format!("((({seed}) % 997 * 7919 + 104729) % 997)");
        format!("'word' || CAST({chance} * {chance} / 500 AS TEXT)")
    };
    let words: Vec<String> = (0..6)
        .map(|w| word(&format!("n.i * 48 + m.p * 6 + {w}")))
        .collect();
    let places = "(SELECT 0 AS p UNION ALL SELECT 1 UNION ALL SELECT 2 UNION ALL SELECT 3 \
        UNION ALL SELECT 4 UNION ALL SELECT 5 UNION ALL SELECT 6 UNION ALL SELECT 7) AS m";
    let counting = numbers(calls);
    let (call, at) = (id("n.i"), minute("n.i", calls));
    let number = format!("'+4930' || {}", digits("n.i % 9973", 7));
    let mut all = vec![format!(
        "INSERT INTO calls (id, call_type, status, assistant, caller, called, peer, sip_call_id, \
         created_at, started_at, ended_at, ended_reason, ended_by, digits, customer_number, \
         phone_number_id, updated_at, people, talked_ms) {counting} SELECT {call}, 'inboundPhoneCall', 'ended', \
         'assistant' || CAST(n.i % 20 AS TEXT), 'sip:a@b', 'sip:c@d', 'peer', 'id', {at}, {at}, {at}, \
         CASE WHEN n.i % 50 = 0 THEN 'silence-timed-out' ELSE 'customer-ended-call' END, 'customer', \
         '', {number}, 'number' || CAST(n.i % 7 AS TEXT), {at}, {number} || ' sip:a@b sip:c@d', n.i % 300 * 1000 FROM n"
    )];
    all.push(format!(
        "INSERT INTO messages (call_id, position, role, message, start_ms, end_ms, turn, interrupted) \
         {counting} SELECT {call}, m.p, CASE WHEN m.p % 2 = 0 THEN 'bot' ELSE 'user' END, {}, m.p * 4000, \
         m.p * 4000 + 3000, m.p / 2, 0 FROM n CROSS JOIN {places}",
        words.join(" || ' ' || ")
    ));
    for word in &words {
        all.push(format!(
            "INSERT INTO call_words (word, created_at, call_id) {counting} \
             SELECT {word}, {at}, {call} FROM n CROSS JOIN {places} WHERE 1 = 1 \
             ON CONFLICT (word, created_at, call_id) DO NOTHING"
        ));
    }
    // Two turns in each.
    let ledger = "'{\"turn\":' || CAST(t.n AS TEXT) || ',\"speechEndedMs\":1000,\"endpointMs\":1300,\
        \"transcriptMs\":1500,\"firstTokenMs\":1700,\"firstClauseMs\":1800,\"firstAudioMs\":1900,\
        \"firstPacketMs\":' || CAST(1950 + n.i % 500 AS TEXT) || ',\"retries\":0}'";
    all.push(format!(
        "INSERT INTO turns (call_id, turn, ledger) {counting} SELECT {call}, t.n, {ledger} \
         FROM n CROSS JOIN (SELECT 1 AS n UNION ALL SELECT 2) AS t"
    ));
    all.push("ANALYZE".to_owned());
    all
}

/// A PostgreSQL of our own.
struct PostgreSql {
    folder: PathBuf,
    port: u16,
}

fn postgres_program(name: &str) -> Result<Command> {
    let versions = fs::read_dir("/usr/lib/postgresql")
        .map_err(|error| format!("PostgreSQL is not installed (/usr/lib/postgresql: {error})"))?;
    let newest = versions
        .filter_map(|version| Some(version.ok()?.path().join("bin")))
        .max();
    let program = newest.ok_or("PostgreSQL is not installed")?.join(name);
    // It does not run as root.
    if !rustix::process::geteuid().is_root() {
        return Ok(Command::new(program));
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]);
    command.arg(program).current_dir("/");
    Ok(command)
}

fn well(command: &mut Command) -> Result<()> {
    let finished = command.output()?;
    match finished.status.success() {
        true => Ok(()),
        false => Err(String::from_utf8_lossy(&finished.stderr)
            .into_owned()
            .into()),
    }
}

impl PostgreSql {
    fn start() -> Result<Self> {
        let port = std::net::TcpListener::bind("127.0.0.1:0")?
            .local_addr()?
            .port();
        let folder = std::env::temp_dir().join(format!("offhook-bench-postgresql-{port}"));
        fs::create_dir_all(&folder)?;
        if rustix::process::geteuid().is_root() {
            well(Command::new("chown").arg("postgres").arg(&folder))?;
        }
        let data = folder.join("data");
        well(
            postgres_program("initdb")?
                .arg("-D")
                .arg(&data)
                .args(["-A", "trust", "-U", "offhook"]),
        )?;
        let server = Self { folder, port };
        let options = format!(
            "-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={}",
            server.folder.display()
        );
        let mut start = postgres_program("pg_ctl")?;
        start
            .arg("-D")
            .arg(&data)
            .arg("-w")
            .arg("-l")
            .arg(server.folder.join("log"));
        // Its output goes to the log, and is not waited for.
        let started = start
            .args(["-o", &options, "start"])
            .stdout(std::process::Stdio::null());
        match started.status()?.success() {
            true => Ok(server),
            false => Err("PostgreSQL does not start".into()),
        }
    }

    fn url(&self) -> String {
        format!("postgres://offhook@127.0.0.1:{}/postgres", self.port)
    }
}

impl Drop for PostgreSql {
    fn drop(&mut self) {
        if let Ok(mut stop) = postgres_program("pg_ctl") {
            stop.arg("-D")
                .arg(self.folder.join("data"))
                .args(["-m", "immediate", "stop"]);
            drop(stop.output());
        }
        drop(fs::remove_dir_all(&self.folder));
    }
}

/// Fills a database.
async fn fill(database: &Database, url: &str, calls: u32) -> Result<()> {
    let store = Store::open_database(database).await?;
    store.close().await;
    let mut connection = sqlx::AnyConnection::connect(url).await?;
    for statement in statements(calls) {
        sqlx::query(AssertSqlSafe(statement))
            .execute(&mut connection)
            .await?;
    }
    connection.close().await?;
    Ok(())
}

/// What is asked, and how; `{middle}` is a day with as many calls before it as after it.
const ASKED: &[(&str, &str)] = &[
    ("first page", "/call?limit=50"),
    (
        "100 older ones",
        "/call?limit=100&createdAtLt={middle}T00:00:00Z",
    ),
    ("of an assistant", "/call?limit=50&assistantId=assistant7"),
    ("of a number", "/call?limit=50&phoneNumberId=number3"),
    (
        "from a customer",
        "/call?limit=50&customerNumber=%2B49300000042",
    ),
    ("part of a number", "/call?limit=50&number=4242"),
    ("part of every number", "/call?limit=50&number=4930"),
    ("part of no number", "/call?limit=50&number=99999999"),
    (
        "part, and a rare outcome",
        "/call?limit=50&number=30000&endedReason=silence-timed-out",
    ),
    (
        "by a rare outcome",
        "/call?limit=50&endedReason=silence-timed-out",
    ),
    ("a frequent word", "/call?limit=50&search=word0"),
    ("a rare word", "/call?limit=50&search=word1900"),
    ("two words", "/call?limit=50&search=word0%20word200"),
    ("a word nobody said", "/call?limit=50&search=nobody"),
    ("a frequent beginning", "/call?limit=50&search=wo"),
    ("two, one nobody's", "/call?limit=50&search=word0%20nobody"),
    (
        "word and assistant",
        "/call?limit=50&search=word2&assistantId=assistant7",
    ),
    ("largest page", "/call?limit=1000"),
    ("one call", "/call/00332598-0000-4000-8000-000000000042"),
    ("dashboard: history", "/ui/api/calls"),
    ("dashboard: number", "/ui/api/calls?number=4242"),
    ("dashboard: every number", "/ui/api/calls?number=4930"),
    ("dashboard: no number", "/ui/api/calls?number=99999999"),
    ("dashboard: words", "/ui/api/calls?text=word0%20word20"),
    (
        "dashboard: nobody's words",
        "/ui/api/calls?text=word0%20nobody",
    ),
    (
        "dashboard: everything",
        "/ui/api/calls?number=30&text=word2&assistant=assistant7&outcome=customer-ended-call\
         &from={middle}T00:00:00Z",
    ),
    (
        "dashboard: one call",
        "/ui/api/calls/00332598-0000-4000-8000-000000000042",
    ),
    (
        "dashboard: overview, 90 days",
        "/ui/api/overview?hours=2160",
    ),
];

/// Logs in to the dashboard: the cookie.
fn log_in(server: &Server, url: Option<&str>, agent: &ureq::Agent) -> Result<String> {
    let password = server.operator("bench", url)?;
    let address = format!("http://{}/ui/api/session", server.http());
    let login = json!({ "name": "bench", "password": password });
    let answer = agent
        .post(&address)
        .header("Content-Type", "application/json")
        .send(login.to_string())?;
    let cookie = answer.headers().get("set-cookie");
    let cookie = cookie.ok_or("no cookie was set")?.to_str()?;
    Ok(cookie.split(';').next().unwrap_or_default().to_owned())
}

pub(crate) fn run(options: &Options) -> Result<Report> {
    let calls: u32 = options.number("calls", 50_000)?;
    let rounds: usize = options.number("rounds", 40)?;
    let watch = Watch::start();
    let mut table = Table::new(
        format!("Answers over {calls} kept calls, ms; {rounds} of each"),
        &["asked", "database", "p50", "p95", "max", "bytes"],
    );
    let mut details = Vec::new();
    let postgresql = PostgreSql::start()?;
    for url in [None, Some(postgresql.url())] {
        measure(
            options,
            url.as_deref(),
            calls,
            rounds,
            &mut table,
            &mut details,
        )?;
    }
    let mut report = Report::new("api", watch.stop());
    report.table(table);
    report.detail("answers", json!(details));
    Ok(report)
}

fn measure(
    options: &Options,
    url: Option<&str>,
    calls: u32,
    rounds: usize,
    table: &mut Table,
    details: &mut Vec<serde_json::Value>,
) -> Result<()> {
    let mut setup = Setup::new(options)?.set("http__requests_per_second", &1_000_000);
    if let Some(url) = url {
        setup = setup.set("store__url", &url);
    }
    let server = setup.start()?;
    let database = Database::new(&server.data(), url)?;
    let file = format!(
        "sqlite://{}",
        server.data().join(offhook::store::DATABASE_FILE).display()
    );
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(fill(&database, url.unwrap_or(&file), calls))?;
    let key = server.api_key(url)?;
    let agent = ureq::Agent::new_with_defaults();
    let cookie = log_in(&server, url, &agent)?;
    let name = if url.is_some() {
        "PostgreSQL"
    } else {
        "SQLite"
    };
    for (what, path) in ASKED {
        let path = path.replace("{middle}", &day_before(calls / 1440 / 2));
        let mut took = Vec::new();
        let mut bytes = 0;
        for _ in 0..rounds {
            let began = Instant::now();
            let address = format!("http://{}{path}", server.http());
            let request = agent
                .get(&address)
                .header("Authorization", &format!("Bearer {key}"))
                .header("Cookie", &cookie);
            bytes = request.call()?.body_mut().read_to_vec()?.len();
            took.push(began.elapsed().as_secs_f64() * 1000.0);
        }
        let sample = Sample::new(took);
        let ms = |value: Option<f64>| format!("{:.1}", value.unwrap_or(f64::NAN));
        table.row(vec![
            (*what).to_owned(),
            name.to_owned(),
            ms(sample.percentile(0.5)),
            ms(sample.percentile(0.95)),
            ms(sample.max()),
            bytes.to_string(),
        ]);
        details.push(
            json!({ "asked": what, "database": name, "ms": sample.to_json(), "bytes": bytes }),
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_made_calls_are_found_as_real_ones_are() {
        let folder = std::env::temp_dir().join(format!("offhook-bench-api-{}", std::process::id()));
        let database = Database::Folder(folder.clone());
        let url = format!(
            "sqlite://{}",
            folder.join(offhook::store::DATABASE_FILE).display()
        );
        fill(&database, &url, 100).await.expect("filled");
        let store = Store::open_database(&database).await.expect("opened");
        let query = offhook::store::CallQuery {
            limit: 1000,
            words: Some("word0".to_owned()),
            ..Default::default()
        };
        assert!(!store.find_calls(&query).await.expect("found").is_empty());
        store.close().await;
        drop(fs::remove_dir_all(Path::new(&folder)));
    }
}
