//! baresip as a caller: it plays a WAV file, records what it hears, and hangs up when the file is
//! over.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::process::run;
use super::server::Server;
use super::sound::Sound;
use super::{Folder, media_ports, udp_port};

/// Where Debian and others keep baresip's modules.
const MODULES: [&str; 3] = [
    "/usr/lib/baresip/modules",
    "/usr/lib64/baresip/modules",
    "/usr/local/lib/baresip/modules",
];

/// What baresip printed and heard.
pub(crate) struct Seen {
    pub(crate) output: String,
    pub(crate) heard: Sound,
}

pub(crate) fn dial(server: &Server, user: &str, play: &Path) -> Seen {
    dial_uri(&server.uri(user), play, &[], "audio_codecs=pcma")
}

/// Calls a URI, with more lines of configuration and these parameters of the account.
pub(crate) fn dial_uri(uri: &str, play: &Path, more: &[String], account: &str) -> Seen {
    let folder = Folder::new("baresip");
    configure(folder.path(), play, more, account);
    let mut command = Command::new("baresip");
    command.arg("-f").arg(folder.path()).args(["-t", "60"]);
    command.arg("-e").arg(format!("/dial {uri}"));
    let finished = run(&mut command, Duration::from_secs(90));
    let recorded = fs::read_dir(folder.path()).expect("the folder").flatten();
    let mut heard = recorded
        .map(|file| file.path())
        .filter(|path| path.to_string_lossy().ends_with("-dec.wav"));
    let heard = heard
        .next()
        .unwrap_or_else(|| panic!("baresip heard nothing:\n{}", finished.output()));
    Seen {
        heard: Sound::read(&heard),
        output: finished.output(),
    }
}

fn configure(folder: &Path, play: &Path, more: &[String], account: &str) {
    let modules = MODULES
        .into_iter()
        .find(|folder| Path::new(folder).is_dir())
        .expect("baresip's modules (baresip-core)");
    let media = media_ports();
    let lines = [
        "poll_method epoll".to_owned(),
        format!("sip_listen 127.0.0.1:{}", udp_port()),
        "net_interface 127.0.0.1".to_owned(),
        format!("rtp_ports {media}-{}", media + 99),
        "call_max_calls 1".to_owned(),
        format!("audio_source aufile,{}", play.display()),
        "audio_player aubridge,nowhere".to_owned(),
        "audio_srate 8000".to_owned(),
        "audio_channels 1".to_owned(),
        format!("snd_path {}", folder.display()),
        format!("module_path {modules}"),
        "module g711.so".to_owned(),
        "module aufile.so".to_owned(),
        "module aubridge.so".to_owned(),
        "module sndfile.so".to_owned(),
        "module_app account.so".to_owned(),
        "module_app menu.so".to_owned(),
    ];
    let key = |line: &str| line.split(' ').next().map(str::to_owned);
    let own = more.iter().map(|line| key(line)).collect::<Vec<_>>();
    let kept = lines.iter().filter(|line| {
        // Modules are many, everything else is said once.
        line.starts_with("module") || !own.contains(&key(line))
    });
    let lines: Vec<String> = kept.chain(more).cloned().collect();
    fs::write(folder.join("config"), lines.join("\n") + "\n").expect("room on the disk");
    let account = format!("<sip:baresip@127.0.0.1>;regint=0;{account}\n");
    fs::write(folder.join("accounts"), account).expect("room on the disk");
    fs::write(folder.join("contacts"), "").expect("room on the disk");
}
