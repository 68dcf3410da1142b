//! Very many short calls: whether the server's memory stays flat.

use std::fs;
use std::time::Duration;

use serde_json::json;

use crate::Result;
use crate::generator::{self, Generator};
use crate::load::Watch;
use crate::options::Options;
use crate::report::{Report, Table};

/// Until the server has forgotten all transactions (64 x T1, and the ladder's lingering).
const FORGOTTEN: Duration = Duration::from_secs(45);
/// Between two looks.
const STEP: usize = 1_000;

pub(crate) fn run(options: &Options) -> Result<Report> {
    let calls: usize = options.number("calls", 10_000)?;
    let rate: u32 = options.number("rate", 100)?;
    let hold = Duration::from_millis(options.number("hold", 100)?);
    let server = generator::server(options)?;
    let mut generator = Generator::new(&server, hold)?;
    let watch = Watch::start();
    // As many calls as are remembered at once at this rate, for which memory is needed anyway.
    let warm_up = usize::try_from(u64::from(rate) * FORGOTTEN.as_secs())?;
    let mut failed = generator.run(rate, warm_up)?.failed;
    std::thread::sleep(FORGOTTEN);
    let mut looks = vec![(0, resident_megabytes(server.pid())?)];
    let mut made = 0;
    while made < calls {
        let count = STEP.min(calls - made);
        failed += generator.run(rate, count)?.failed;
        made += count;
        looks.push((made, resident_megabytes(server.pid())?));
    }
    std::thread::sleep(FORGOTTEN);
    let before = looks[0].1;
    let after = resident_megabytes(server.pid())?;
    let mut table = Table::new(
        format!("Resident memory of the server, MB, at {rate} calls a second"),
        &["calls", "MB", "more than before"],
    );
    let row = |calls: String, megabytes: f64| {
        let more = megabytes - before;
        vec![calls, format!("{megabytes:.1}"), format!("{more:+.1}")]
    };
    for (calls, megabytes) in &looks {
        table.row(row(calls.to_string(), *megabytes));
    }
    table.row(row(format!("{made}, and 45 s later"), after));
    let mut report = Report::new("memory", watch.stop());
    report.table(table);
    report.note(format!(
        "{failed} of {} calls failed. Before these there were {warm_up} others, and 45 s.",
        made + warm_up
    ));
    report.note(generator::NOTE);
    let looks: Vec<_> = looks
        .iter()
        .map(|(calls, megabytes)| json!({ "calls": calls, "megabytes": megabytes }))
        .collect();
    report.detail("looks", json!(looks));
    report.detail("afterMB", json!(after));
    report.detail("failed", json!(failed));
    Ok(report)
}

/// What a process has in memory.
pub(crate) fn resident_megabytes(pid: u32) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|line| line.split_ascii_whitespace().next());
    let kilobytes: f64 = kilobytes.ok_or("no VmRSS")?.parse()?;
    Ok(kilobytes / 1024.0)
}
