//! Short calls at a rising rate: how many are set up a second, how long INVITE to 180 and to 200
//! takes, and what fails.

use std::time::Duration;

use serde_json::json;

use crate::Result;
use crate::generator::{self, Generator, Stage};
use crate::load::Watch;
use crate::options::Options;
use crate::report::{Report, Table};

/// Rates that are tried, in calls a second.
const RATES: [u32; 6] = [25, 50, 100, 150, 200, 250];

pub(crate) fn run(options: &Options) -> Result<Report> {
    let seconds: u64 = options.number("seconds", 10)?;
    let hold = Duration::from_millis(options.number("hold", 100)?);
    let rates = match options.all("rate") {
        [] => RATES.to_vec(),
        given => given
            .iter()
            .map(|rate| rate.parse::<u32>())
            .collect::<std::result::Result<Vec<u32>, _>>()?,
    };
    let server = generator::server(options)?;
    let mut generator = Generator::new(&server, hold)?;
    // What the first calls open for good is no part of what is measured.
    generator.run(20, 20)?;
    let watch = Watch::start();
    let mut table = Table::new(
        format!(
            "Calls of {} ms, INVITE to 180 and to 200 in ms",
            hold.as_millis()
        ),
        &Stage::HEAD,
    );
    let mut details = Vec::new();
    for rate in rates {
        let calls = usize::try_from(u64::from(rate) * seconds)?;
        let stage = generator.run(rate, calls)?;
        table.row(stage.row(rate));
        details.push(stage.to_json(rate));
    }
    let mut report = Report::new("signalling", watch.stop());
    report.table(table);
    report.note(generator::NOTE);
    report.detail("stages", json!(details));
    Ok(report)
}
