//! Databases for tests: each test gets one of its own, once in SQLite and once in PostgreSQL.
//!
//! PostgreSQL is started once for the test program, in a folder of its own that only its socket
//! leads into. A shell that holds the other end of a pipe stops it when the program ends, however
//! that happens. Where PostgreSQL is not installed the tests fail and say so.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use sqlx::{AnyConnection, Connection, Executor};

use super::{Database, Store};

/// Names tests, `async fn(Place)`, each of which runs on both databases.
macro_rules! on_both_databases {
    ($($name:ident),* $(,)?) => {
        mod on_sqlite {
            $(#[tokio::test]
            async fn $name() {
                super::$name($crate::store::testing::Place::sqlite()).await;
            })*
        }
        mod on_postgresql {
            $(#[tokio::test]
            async fn $name() {
                super::$name($crate::store::testing::Place::postgresql().await).await;
            })*
        }
    };
}
pub(crate) use on_both_databases;

/// An empty database, and a folder that goes with the test.
pub(crate) struct Place {
    /// The data folder.
    pub(crate) folder: PathBuf,
    /// The database.
    pub(crate) database: Database,
}

fn new_folder() -> PathBuf {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let name = format!("offhook-place-{}-{count}", std::process::id());
    let path = std::env::temp_dir().join(name);
    fs::create_dir_all(&path).expect("a folder");
    path
}

impl Place {
    /// SQLite in the folder.
    pub(crate) fn sqlite() -> Self {
        let folder = new_folder();
        Self {
            database: Database::Folder(folder.clone()),
            folder,
        }
    }

    /// A new database of the test program's server.
    pub(crate) async fn postgresql() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let server = server();
        let name = format!("test{}", COUNT.fetch_add(1, Ordering::Relaxed));
        sqlx::any::install_default_drivers();
        let mut connection = AnyConnection::connect(&server.url("postgres"))
            .await
            .expect("the server answers");
        let sql = format!("CREATE DATABASE {name}");
        connection
            .execute(sqlx::raw_sql(sqlx::AssertSqlSafe(sql)))
            .await
            .expect("a new database");
        Self {
            folder: new_folder(),
            database: Database::PostgreSql(server.url(&name)),
        }
    }

    /// Opens it, as a start of the server does.
    pub(crate) async fn open(&self) -> Store {
        Store::open_database(&self.database).await.expect("opened")
    }

    /// A statement after which a connection cannot write.
    pub(crate) fn refuses_writes(&self) -> &'static str {
        match self.database {
            Database::Folder(_) => "PRAGMA query_only = ON",
            Database::PostgreSql(_) => "SET default_transaction_read_only = on",
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// PostgreSQL of the test program.
struct Server {
    folder: PathBuf,
    /// Stops it when the program is gone.
    _warden: Child,
}

fn server() -> &'static Server {
    static SERVER: OnceLock<Server> = OnceLock::new();
    SERVER.get_or_init(Server::start)
}

impl Server {
    fn start() -> Self {
        let folder = std::env::temp_dir().join(format!("offhook-pg-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder");
        if rustix::process::geteuid().is_root() {
            succeed(Command::new("chown").arg("postgres").arg(&folder));
        }
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).expect("ours");
        let data = folder.join("data");
        succeed(
            program("initdb")
                .arg("-D")
                .arg(&data)
                .args(["-A", "trust", "-U", "offhook", "-N"]),
        );
        let options = format!(
            "-c listen_addresses= -c unix_socket_directories={} -c max_connections=300 \
             -c fsync=off -c full_page_writes=off -c synchronous_commit=off",
            folder.display()
        );
        // Nothing of it may hold the output of the tests open.
        let log = folder.join("log");
        succeed(
            program("pg_ctl")
                .arg("-D")
                .arg(&data)
                .arg("-l")
                .arg(&log)
                .args(["-w", "-o", &options, "start"])
                .stdout(Stdio::null())
                .stderr(Stdio::null()),
        );
        Self {
            _warden: warden(&folder, &data),
            folder,
        }
    }

    fn url(&self, database: &str) -> String {
        let host = self.folder.display();
        format!("postgres://offhook@localhost/{database}?host={host}")
    }
}

fn warden(folder: &Path, data: &Path) -> Child {
    let script = r#"trap "" INT TERM HUP; read -r _; shift 2; "$@" >"$0/stop" 2>&1; rm -rf "$0""#;
    let stop = program("pg_ctl");
    Command::new("sh")
        .arg("-c")
        .arg(script)
        .arg(folder)
        .args(["-", "-"])
        .arg(stop.get_program())
        .args(stop.get_args())
        .arg("-D")
        .arg(data)
        .args(["-m", "immediate", "stop"])
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("a shell")
}

/// The newest that is installed; as Debian's own user where we are root, which PostgreSQL refuses.
fn program(name: &str) -> Command {
    let versions = fs::read_dir("/usr/lib/postgresql").unwrap_or_else(|error| {
        panic!("{error}: these tests need Debian's package postgresql (scripts/test installs it)")
    });
    let folders = versions.map(|version| version.expect("a folder").path().join("bin"));
    let program = folders.max().expect("a version of PostgreSQL").join(name);
    let mut command = match rustix::process::geteuid().is_root() {
        false => Command::new(program),
        true => {
            let mut command = Command::new("setpriv");
            command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]);
            command.arg(program);
            command
        }
    };
    command.current_dir("/");
    command
}

fn succeed(command: &mut Command) {
    let Output {
        status,
        stdout,
        stderr,
    } = command.stdin(Stdio::null()).output().expect("it runs");
    let said = [stdout, stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    assert!(
        status.success(),
        "{command:?}: {status}: {}",
        said.join("\n")
    );
}
