//! Percentiles, by nearest rank: every figure is one that was measured.

use serde_json::{Value, json};

/// Measured values, sorted.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sample(Vec<f64>);

impl Sample {
    pub(crate) fn new(values: impl IntoIterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        Self(values)
    }

    /// Milliseconds, which may be negative.
    pub(crate) fn of_ms(values: impl IntoIterator<Item = i64>) -> Self {
        Self::new(values.into_iter().map(|value| value as f64))
    }

    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn values(&self) -> impl Iterator<Item = f64> + '_ {
        self.0.iter().copied()
    }

    /// The smallest value that at least `share` (0 to 1) of all values do not exceed.
    pub(crate) fn percentile(&self, share: f64) -> Option<f64> {
        let rank = (share * self.0.len() as f64).ceil() as usize;
        self.0.get(rank.max(1) - 1).copied()
    }

    pub(crate) fn max(&self) -> Option<f64> {
        self.0.last().copied()
    }

    /// Share of the values that `is` holds for.
    pub(crate) fn share(&self, is: impl Fn(f64) -> bool) -> f64 {
        let holds = self.0.iter().filter(|value| is(**value)).count();
        holds as f64 / self.0.len().max(1) as f64
    }

    pub(crate) fn to_json(&self) -> Value {
        json!({
            "count": self.count(),
            "p50": self.percentile(0.5),
            "p95": self.percentile(0.95),
            "p99": self.percentile(0.99),
            "p99.9": self.percentile(0.999),
            "max": self.max(),
        })
    }
}

/// A value without decimals, or a dash.
pub(crate) fn whole(value: Option<f64>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.0}"))
}

/// `part` of `all`, as a percentage with one decimal.
pub(crate) fn percent(part: usize, all: usize) -> String {
    match all {
        0 => "-".to_owned(),
        _ => format!("{:.1} %", 100.0 * part as f64 / all as f64),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_the_value_that_so_many_do_not_exceed() {
        let sample = Sample::of_ms((1..=100).rev());
        assert_eq!(sample.percentile(0.5), Some(50.0));
        assert_eq!(sample.percentile(0.95), Some(95.0));
        assert_eq!(sample.percentile(1.0), sample.max());
        assert_eq!(Sample::of_ms([7]).percentile(0.95), Some(7.0));
        assert_eq!(Sample::default().percentile(0.5), None);
        assert!((sample.share(|value| value <= 25.0) - 0.25).abs() < 1e-9);
    }

    #[test]
    fn of_nothing_there_is_no_percentage() {
        assert_eq!(percent(0, 0), "-");
        assert_eq!(percent(1, 8), "12.5 %");
    }
}
