//! `offhook trunks`: where each trunk of a running server stands with its registrar.

use time::format_description::well_known::Rfc3339;

use super::live::{At, ask, strange};
use super::{Failure, print};
use crate::control::{Answer, Ask, TrunkState, TrunkStatus};

pub(super) async fn trunks(at: At) -> Result<(), Failure> {
    let Answer::Trunks(trunks) = ask(&at.data, Ask::Trunks).await? else {
        return Err(strange());
    };
    if at.json {
        print::json(&trunks);
    } else if trunks.is_empty() {
        print::line("No trunks are configured.");
    } else {
        let rows: Vec<Vec<String>> = trunks.iter().map(row).collect();
        print::table(
            &[
                "TRUNK",
                "STATE",
                "SINCE",
                "EXPIRES",
                "OPTIONS",
                "LAST ERROR",
            ],
            &rows,
        );
    }
    Ok(())
}

fn row(trunk: &TrunkStatus) -> Vec<String> {
    let state = match trunk.state {
        TrunkState::NotRegistering => "does not register",
        TrunkState::Registering => "registering",
        TrunkState::Registered => "registered",
        TrunkState::Failed => "failed",
        TrunkState::Unregistered => "unregistered",
    };
    let reachable = match trunk.reachability {
        None => "-".to_owned(),
        Some(reachability) => {
            let word = if reachability.up { "up" } else { "down" };
            let status = reachability.status.map(|status| format!(" {status}"));
            let took = reachability.round_trip_ms.map(|ms| format!(" {ms} ms"));
            format!(
                "{word}{}{}",
                status.unwrap_or_default(),
                took.unwrap_or_default()
            )
        }
    };
    let expires = trunk.expires.and_then(|at| at.format(&Rfc3339).ok());
    let error = trunk.last_error.as_deref();
    vec![
        trunk.trunk.to_string(),
        state.to_owned(),
        trunk.since.format(&Rfc3339).unwrap_or_default(),
        expires.unwrap_or_else(|| "-".to_owned()),
        reachable,
        error.unwrap_or("-").to_owned(),
    ]
}
