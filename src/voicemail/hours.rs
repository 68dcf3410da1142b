//! Opening hours, in the time of a place.

use jiff::Timestamp;
use jiff::civil::{Date, DateTime, Time, Weekday};
use jiff::tz::TimeZone;
use serde::Deserialize;

const DAYS: [(&str, Weekday); 7] = [
    ("mon", Weekday::Monday),
    ("tue", Weekday::Tuesday),
    ("wed", Weekday::Wednesday),
    ("thu", Weekday::Thursday),
    ("fri", Weekday::Friday),
    ("sat", Weekday::Saturday),
    ("sun", Weekday::Sunday),
];

/// Why hours cannot be read. The operator's to mend.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HoursError {
    /// Not `mon-fri 09:00-17:00`.
    #[error(
        "{0:?} is not like \"mon-fri 09:00-17:00\" or \"sat 10:00-12:30\"; days are mon to sun"
    )]
    Period(String),
    /// Not a date.
    #[error("{0:?} is not a date like 2026-12-25")]
    Date(String),
    /// Nobody knows the zone.
    #[error("{0:?} is no time zone like \"Europe/Berlin\" or \"UTC\"")]
    Zone(String),
}

/// As it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    open: Vec<String>,
    #[serde(default)]
    closed: Vec<String>,
    #[serde(default)]
    timezone: Option<String>,
}

#[derive(Clone, Debug, PartialEq)]
struct Period {
    days: Vec<Weekday>,
    from: Time,
    /// Not after midnight; `None` is midnight.
    to: Option<Time>,
}

/// When somebody is there: `{ open = ["mon-fri 09:00-17:00"], closed = ["2026-12-25"], timezone =
/// "Europe/Berlin" }`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(try_from = "Written")]
pub struct Hours {
    open: Vec<Period>,
    closed: Vec<Date>,
    zone: TimeZone,
}

impl TryFrom<Written> for Hours {
    type Error = HoursError;

    fn try_from(written: Written) -> Result<Self, HoursError> {
        let zone = written.timezone.as_deref().unwrap_or("UTC");
        let date = |text: &String| text.parse().map_err(|_| HoursError::Date(text.clone()));
        Ok(Self {
            open: written
                .open
                .iter()
                .map(|text| period(text).ok_or_else(|| HoursError::Period(text.clone())))
                .collect::<Result<_, _>>()?,
            closed: written.closed.iter().map(date).collect::<Result<_, _>>()?,
            zone: TimeZone::get(zone).map_err(|_| HoursError::Zone(zone.to_owned()))?,
        })
    }
}

impl Hours {
    /// No hours at all, by the clock of Greenwich.
    pub(super) fn utc() -> Self {
        Self {
            open: Vec::new(),
            closed: Vec::new(),
            zone: TimeZone::UTC,
        }
    }

    /// Whether somebody is there at this time (seconds since 1970).
    pub fn is_open(&self, unix_seconds: i64) -> bool {
        let now = self.local(unix_seconds);
        let (date, time) = (now.date(), now.time());
        let within = |period: &Period| {
            period.days.contains(&date.weekday())
                && period.from <= time
                && period.to.is_none_or(|to| time < to)
        };
        !self.closed.contains(&date) && self.open.iter().any(within)
    }

    /// The date and time of the place.
    pub(super) fn local(&self, unix_seconds: i64) -> DateTime {
        let at = Timestamp::from_second(unix_seconds).unwrap_or(Timestamp::UNIX_EPOCH);
        self.zone.to_datetime(at)
    }
}

fn period(text: &str) -> Option<Period> {
    let (days, times) = text.trim().split_once(char::is_whitespace)?;
    let (from, to) = times.trim().split_once('-')?;
    let from = time(from)?;
    let to = match to.trim() {
        "24:00" | "00:00" => None,
        text => Some(time(text)?),
    };
    to.is_none_or(|to| from < to).then_some(())?;
    Some(Period {
        days: weekdays(days)?,
        from,
        to,
    })
}

fn time(text: &str) -> Option<Time> {
    let (hour, minute) = text.trim().split_once(':')?;
    Time::new(hour.parse().ok()?, minute.parse().ok()?, 0, 0).ok()
}

/// `mon`, `mon-fri`, `mon,wed,fri`, `sat-mon`.
fn weekdays(text: &str) -> Option<Vec<Weekday>> {
    let place = |name: &str| {
        let name = name.trim().to_ascii_lowercase();
        DAYS.iter().position(|(known, _)| *known == name)
    };
    let mut days = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (place(first)?, place(last)?);
        let count = (last + DAYS.len() - first) % DAYS.len() + 1;
        days.extend((first..first + count).map(|day| DAYS[day % DAYS.len()].1));
    }
    Some(days)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hours(toml: &str) -> Result<Hours, String> {
        toml::from_str(toml).map_err(|error| error.to_string())
    }

    /// Seconds since 1970 of a time in UTC.
    fn at(text: &str) -> i64 {
        text.parse::<Timestamp>().expect("a time").as_second()
    }

    #[test]
    fn somebody_is_there_on_workdays_in_the_time_of_the_place_summer_and_winter() {
        let berlin = hours(
            "open = [\"mon-fri 09:00-17:00\", \"sat 10:00-12:30\"]\n\
             closed = [\"2026-12-25\"]\ntimezone = \"Europe/Berlin\"",
        )
        .expect("hours");
        // A Monday in winter, one hour ahead of UTC, and one in summer, two hours ahead.
        assert!(!berlin.is_open(at("2026-01-12T07:59:59Z")));
        assert!(berlin.is_open(at("2026-01-12T08:00:00Z")));
        assert!(berlin.is_open(at("2026-01-12T15:59:59Z")));
        assert!(!berlin.is_open(at("2026-01-12T16:00:00Z")));
        assert!(berlin.is_open(at("2026-07-13T07:00:00Z")));
        assert!(!berlin.is_open(at("2026-07-13T15:00:00Z")));
        assert!(berlin.is_open(at("2026-01-17T11:29:00Z")), "Saturday");
        assert!(!berlin.is_open(at("2026-01-18T11:00:00Z")), "Sunday");
        assert!(!berlin.is_open(at("2026-12-25T11:00:00Z")), "a holiday");
    }

    #[test]
    fn lists_and_weeks_that_wrap_are_read_and_midnight_ends_a_day() {
        let night = hours("open = [\"sat-mon 20:00-24:00\", \"wed,fri 00:00-06:00\"]");
        let night = night.expect("hours");
        assert!(night.is_open(at("2026-01-18T23:59:59Z")), "Sunday");
        assert!(night.is_open(at("2026-01-19T20:00:00Z")), "Monday");
        assert!(!night.is_open(at("2026-01-20T20:00:00Z")), "Tuesday");
        assert!(night.is_open(at("2026-01-21T00:00:00Z")), "Wednesday");
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        for bad in [
            "mon-fri",
            "mon-fry 09:00-17:00",
            "mon 17:00-09:00",
            "mon 9-17",
            "mon 25:00-26:00",
        ] {
            let error = hours(&format!("open = [\"{bad}\"]")).expect_err("wrong");
            assert!(
                error.contains(bad) && error.contains("mon to sun"),
                "{error}"
            );
        }
        let error = hours("open = []\nclosed = [\"25.12.\"]").expect_err("wrong");
        assert!(error.contains("2026-12-25"), "{error}");
        let error = hours("open = []\ntimezone = \"Berlin\"").expect_err("wrong");
        assert!(error.contains("Europe/Berlin"), "{error}");
    }
}
