//! Kept calls as they are looked for: by number, assistant, time, outcome, and by what was said.

use sqlx::any::AnyRow;
use sqlx::{AnyConnection, Row};
use time::OffsetDateTime;

use super::rows::{self, Timestamp, name_of, parsed_option};
use super::statement::{Statement, Times};
use super::{Store, StoreError, trusted};
use crate::ids::CallId;
use crate::record::{Analysis, CallDocument, CallRecord, CallStatus, CallType, EndedReason};

/// Words of a message that can be found, and of a search.
const MOST_WORDS: usize = 200;
const MOST_SEARCHED: usize = 8;
/// Longer words are cut.
const LONGEST_WORD: usize = 40;

/// Rows of words that are read to find the calls of a page; of more than these, calls are read until
/// the page is full.
const RARE: i64 = 3000;

/// As much of who called whom as can be found, in characters: an index has no longer entries.
const LONGEST_PEOPLE: usize = 300;

/// A page of calls, newest first. What is not set does not matter.
#[derive(Clone, Debug, Default)]
pub struct CallQuery {
    /// At most this many.
    pub limit: u32,
    /// Only calls made before this time.
    pub before: Option<OffsetDateTime>,
    /// Only calls that come after this one: its time and id, as the last of a page.
    pub after: Option<(OffsetDateTime, String)>,
    /// This call.
    pub id: Option<CallId>,
    /// By who answered.
    pub assistant: Option<String>,
    /// By the phone number's id.
    pub phone_number_id: Option<String>,
    /// By the customer's number, in E.164.
    pub customer_number: Option<String>,
    /// By a part of either side's number or address, without regard to case.
    pub number: Option<String>,
    /// By where it stands.
    pub status: Option<CallStatus>,
    /// By its way.
    pub call_type: Option<CallType>,
    /// By why it ended.
    pub ended_reason: Option<EndedReason>,
    /// By when it was made.
    pub created: Times,
    /// By when its row changed last.
    pub updated: Times,
    /// By words that were said in it, all of them; the last one may be a word's beginning.
    pub words: Option<String>,
}

/// A call with what the API knows of it.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredCall {
    /// The call.
    pub record: CallRecord,
    /// A name for people.
    pub name: Option<String>,
    /// What it was made with, where the API or a number's server made it.
    pub document: CallDocument,
    /// When its row changed last.
    pub updated_at: OffsetDateTime,
    /// What the model says of it, once it does; not in lists.
    pub analysis: Option<Analysis>,
}

impl Store {
    /// One page of calls, newest first, without messages and turns.
    ///
    /// # Errors
    /// Where the statement fails or a row is unreadable.
    pub async fn calls(&self, query: &CallQuery) -> Result<Vec<CallRecord>, StoreError> {
        let found = self.find_calls(query).await?;
        Ok(found.into_iter().map(|call| call.record).collect())
    }

    /// The same with what the API knows of them.
    ///
    /// # Errors
    /// Where the statement fails or a row is unreadable.
    pub async fn find_calls(&self, query: &CallQuery) -> Result<Vec<StoredCall>, StoreError> {
        let words = match query.words.as_deref().map(Words::of) {
            None => None,
            Some(None) => return Ok(Vec::new()),
            Some(Some(words)) => Some(words),
        };
        // The row itself is read of the calls of the page only.
        let end = ") ORDER BY calls.created_at DESC, calls.id DESC";
        let (mut statement, order) = match words.as_ref().and_then(|words| words.whole.first()) {
            None => (
                Statement::inside(
                    "SELECT calls.* FROM calls WHERE calls.id IN (SELECT calls.id FROM calls",
                    end,
                ),
                "calls.created_at DESC, calls.id DESC",
            ),
            Some(first) => {
                let mut statement = Statement::inside(
                    "SELECT calls.* FROM calls WHERE calls.id IN (SELECT calls.id \
                     FROM call_words AS said JOIN calls ON calls.id = said.call_id",
                    end,
                );
                statement.equals("said.word", Some(first));
                (statement, "said.created_at DESC, said.call_id DESC")
            }
        };
        if let Some(words) = &words {
            for word in words.whole.iter().skip(1) {
                let place = statement.text(word);
                statement.condition(&format!(
                    "(SELECT 1 FROM call_words AS other WHERE other.word = {place} \
                     AND other.created_at = said.created_at AND other.call_id = said.call_id \
                     LIMIT 1) IS NOT NULL"
                ));
            }
            let rare = self.is_rare(&words.begun).await?;
            begun(&mut statement, &words.begun, rare);
        }
        conditions(&mut statement, query);
        let rows = statement.fetch(order, query.limit, &self.pool).await?;
        rows.iter().map(stored).collect()
    }

    /// Whether so few calls have words that begin so that all of them are soon read.
    async fn is_rare(&self, begun: &str) -> Result<bool, StoreError> {
        let found: i64 = sqlx::query_scalar(
            "SELECT COUNT(*) FROM (SELECT 1 FROM call_words WHERE word >= $1 AND word < $2 \
             LIMIT $3) AS found",
        )
        .bind(begun)
        .bind(past(begun))
        .bind(RARE + 1)
        .fetch_one(&self.pool)
        .await?;
        Ok(found <= RARE)
    }

    /// A call with everything that was kept of it. `None` where there is no such call.
    ///
    /// # Errors
    /// Where a statement fails or a row is unreadable.
    pub async fn stored_call(&self, id: CallId) -> Result<Option<StoredCall>, StoreError> {
        let row = sqlx::query("SELECT * FROM calls WHERE id = $1")
            .bind(id.to_string())
            .fetch_optional(&self.pool)
            .await?;
        let Some(mut call) = row.as_ref().map(stored).transpose()? else {
            return Ok(None);
        };
        let (messages, turns) = self.said(id).await?;
        call.record.messages = messages;
        call.record.turns = turns;
        call.analysis = self.analysis(id).await?.flatten();
        Ok(Some(call))
    }

    /// Names a call, or takes its name away. False where there is none.
    ///
    /// # Errors
    /// Where the statement fails.
    pub async fn name_call(&self, id: CallId, name: Option<&str>) -> Result<bool, StoreError> {
        let mut connection = self.pool.acquire().await?;
        let done = sqlx::query("UPDATE calls SET name = $2, updated_at = $3 WHERE id = $1")
            .bind(id.to_string())
            .bind(name)
            .bind(Timestamp(OffsetDateTime::now_utc()).to_string())
            .execute(&mut *connection)
            .await;
        let done = done.map(|done| done.rows_affected() > 0);
        trusted(connection, done.map_err(StoreError::from))
    }
}

fn conditions(statement: &mut Statement, query: &CallQuery) {
    statement.equals("calls.id", query.id.map(|id| id.to_string()));
    statement.equals("calls.assistant", query.assistant.as_deref());
    statement.equals("calls.phone_number_id", query.phone_number_id.as_deref());
    statement.equals("calls.customer_number", query.customer_number.as_deref());
    statement.equals("calls.status", query.status.as_ref().map(name_of));
    statement.equals("calls.call_type", query.call_type.as_ref().map(name_of));
    statement.equals(
        "calls.ended_reason",
        query.ended_reason.as_ref().map(name_of),
    );
    if let Some(part) = &query.number {
        let place = statement.text(containing(part));
        statement.condition(&format!("calls.people LIKE {place} ESCAPE '\\'"));
    }
    if let Some((at, id)) = &query.after {
        let (at, id) = (
            statement.text(Timestamp(*at).to_string()),
            statement.text(id),
        );
        statement.condition(&format!(
            "calls.created_at <= {at} AND (calls.created_at < {at} OR calls.id < {id})"
        ));
    }
    let created = Times {
        lt: [query.created.lt, query.before].into_iter().flatten().min(),
        ..query.created
    };
    statement.within("calls.created_at", &created);
    statement.within("calls.updated_at", &query.updated);
}

pub(super) fn stored(row: &AnyRow) -> Result<StoredCall, StoreError> {
    let record = rows::call(row)?;
    let fields = parsed_option(row, "document", |text| serde_json::from_str(text).ok())?;
    let document = CallDocument {
        fields: fields.unwrap_or_default(),
        secrets: row.try_get("secrets")?,
    };
    Ok(StoredCall {
        name: row.try_get("name")?,
        document,
        updated_at: parsed_option(row, "updated_at", rows::time_of)?.unwrap_or(record.created_at),
        analysis: None,
        record,
    })
}

/// Words that are searched for.
struct Words {
    /// The longest first: it is the rarest, as a rule, and the others are looked up for its calls.
    whole: Vec<String>,
    /// The last one, which people may still be typing.
    begun: String,
}

impl Words {
    /// `None` where there are none.
    fn of(text: &str) -> Option<Self> {
        let mut whole = words_of(text);
        whole.truncate(MOST_SEARCHED);
        let begun = whole.pop()?;
        whole.sort_by_key(|word| std::cmp::Reverse(word.len()));
        Some(Self { whole, begun })
    }
}

/// Where the words end that begin so, in the order of their bytes.
fn past(begun: &str) -> String {
    format!("{begun}{}", char::MAX)
}

/// Calls with a word that begins so: all of them where they are few, else each call is asked.
fn begun(statement: &mut Statement, begun: &str, rare: bool) {
    let (from, until) = (statement.text(begun), statement.text(past(begun)));
    statement.condition(&match rare {
        true => format!(
            "calls.id IN (SELECT call_id FROM call_words WHERE word >= {from} AND word < {until})"
        ),
        // PostgreSQL would make a join of EXISTS, and read every word that begins so.
        false => format!(
            "(SELECT 1 FROM call_words AS begun WHERE begun.call_id = calls.id \
             AND begun.word >= {from} AND begun.word < {until} LIMIT 1) IS NOT NULL"
        ),
    });
}

/// A LIKE pattern of a part, whose own signs mean nothing.
fn containing(part: &str) -> String {
    let mut pattern = "%".to_owned();
    for letter in part.trim().to_lowercase().chars() {
        if matches!(letter, '%' | '_' | '\\') {
            pattern.push('\\');
        }
        pattern.push(letter);
    }
    pattern.push('%');
    pattern
}

/// What parts of numbers are looked for in.
pub(super) fn people(call: &CallRecord) -> String {
    let customer = call.customer.as_ref().map(|customer| &*customer.number);
    let people = format!("{} {} {}", customer.unwrap_or_default(), call.from, call.to);
    people.to_lowercase().chars().take(LONGEST_PEOPLE).collect()
}

/// Keeps what a call was made with.
pub(super) async fn save_document(
    connection: &mut AnyConnection,
    call: CallId,
    document: &CallDocument,
) -> Result<(), StoreError> {
    sqlx::query("UPDATE calls SET document = $2, secrets = $3 WHERE id = $1")
        .bind(call.to_string())
        // JSON always serialises.
        .bind(serde_json::to_string(&document.fields).unwrap_or_default())
        .bind(document.secrets.clone())
        .execute(connection)
        .await?;
    Ok(())
}

/// The words of a text as they are looked for: lower case, each once.
fn words_of(text: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    for word in text.split(|letter: char| !letter.is_alphanumeric()) {
        let word: String = word.to_lowercase().chars().take(LONGEST_WORD).collect();
        if !word.is_empty() && !words.contains(&word) {
            words.push(word);
        }
        if words.len() == MOST_WORDS {
            break;
        }
    }
    words
}

/// Makes a call's message findable.
pub(super) async fn save_words(
    connection: &mut AnyConnection,
    call: CallId,
    text: &str,
) -> Result<(), StoreError> {
    let words = words_of(text);
    if words.is_empty() {
        return Ok(());
    }
    let places: Vec<String> = (2..=words.len() + 1).map(|n| format!("(${n})")).collect();
    // `column1` is what both databases call the column of VALUES.
    let sql = format!(
        "INSERT INTO call_words (word, created_at, call_id) \
         SELECT given.column1, calls.created_at, calls.id FROM (VALUES {}) AS given \
         CROSS JOIN calls WHERE calls.id = $1 ON CONFLICT (word, created_at, call_id) DO NOTHING",
        places.join(", ")
    );
    let mut query = sqlx::query(sqlx::AssertSqlSafe(sql)).bind(call.to_string());
    for word in words {
        query = query.bind(word);
    }
    // Each number of words is another statement, of which not all are worth keeping.
    query.persistent(false).execute(connection).await?;
    Ok(())
}

#[cfg(test)]
mod tests;
