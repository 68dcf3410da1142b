//! Statements that are put together from what is asked for, so that the database sees only the
//! conditions that there are and can use its indexes.

use sqlx::any::AnyRow;
use sqlx::{AnyPool, AssertSqlSafe};
use time::OffsetDateTime;

use super::StoreError;
use super::rows::Timestamp;

enum Argument {
    Text(String),
    Number(i64),
}

/// SQL with its arguments. Only literals of ours become SQL; values are always arguments.
pub(super) struct Statement {
    sql: String,
    arguments: Vec<Argument>,
    has_condition: bool,
    /// What comes after the page.
    end: &'static str,
}

/// Bounds of a time, each where it is set. Vapi's names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Times {
    /// After.
    pub gt: Option<OffsetDateTime>,
    /// At or after.
    pub ge: Option<OffsetDateTime>,
    /// Before.
    pub lt: Option<OffsetDateTime>,
    /// At or before.
    pub le: Option<OffsetDateTime>,
}

impl Statement {
    pub(super) fn new(select: &'static str) -> Self {
        Self {
            sql: select.to_owned(),
            arguments: Vec::new(),
            has_condition: false,
            end: "",
        }
    }

    /// A page inside another statement: `begin … end`.
    pub(super) fn inside(begin: &'static str, end: &'static str) -> Self {
        Self {
            end,
            ..Self::new(begin)
        }
    }

    /// Adds an argument and returns its place, `$n`.
    pub(super) fn text(&mut self, value: impl Into<String>) -> String {
        self.arguments.push(Argument::Text(value.into()));
        format!("${}", self.arguments.len())
    }

    fn number(&mut self, value: i64) -> String {
        self.arguments.push(Argument::Number(value));
        format!("${}", self.arguments.len())
    }

    /// Adds a condition.
    pub(super) fn condition(&mut self, sql: &str) {
        self.sql.push_str(match self.has_condition {
            true => " AND ",
            false => " WHERE ",
        });
        self.sql.push_str(sql);
        self.has_condition = true;
    }

    /// A column has this value, where one is given.
    pub(super) fn equals(&mut self, column: &'static str, value: Option<impl Into<String>>) {
        if let Some(value) = value {
            let place = self.text(value);
            self.condition(&format!("{column} = {place}"));
        }
    }

    /// A column has a time within these bounds.
    pub(super) fn within(&mut self, column: &'static str, times: &Times) {
        let bounds = [
            (">", times.gt),
            (">=", times.ge),
            ("<", times.lt),
            ("<=", times.le),
        ];
        for (operator, at) in bounds {
            if let Some(at) = at {
                let place = self.text(Timestamp(at).to_string());
                self.condition(&format!("{column} {operator} {place}"));
            }
        }
    }

    pub(super) async fn fetch(
        mut self,
        order: &'static str,
        limit: u32,
        pool: &AnyPool,
    ) -> Result<Vec<AnyRow>, StoreError> {
        let limit = self.number(i64::from(limit));
        let sql = format!("{} ORDER BY {order} LIMIT {limit}{}", self.sql, self.end);
        let mut query = sqlx::query(AssertSqlSafe(sql));
        for argument in self.arguments {
            query = match argument {
                Argument::Text(text) => query.bind(text),
                Argument::Number(number) => query.bind(number),
            };
        }
        Ok(query.fetch_all(pool).await?)
    }
}
