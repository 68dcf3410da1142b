-- What parts of numbers and addresses are looked for in, in lower case, cut where an index must end;
-- and everything that such a search reads before it has found a page, newest first.
ALTER TABLE calls ADD COLUMN people TEXT NOT NULL DEFAULT '';
UPDATE calls SET people = lower(substr(COALESCE(customer_number, '') || ' ' || caller || ' ' || called, 1, 300));
CREATE INDEX calls_people ON calls (created_at, id, people);

-- Whether a call has a word that begins so, without reading a row; and words in the order of their
-- bytes, so that those that begin alike lie together.
DROP INDEX call_words_call;
-- PostgreSQL only: ALTER TABLE call_words ALTER COLUMN word TYPE TEXT COLLATE "C";
CREATE INDEX call_words_call ON call_words (call_id, word);

-- How long people talked, so that calls are counted without reading their rows.
ALTER TABLE calls ADD COLUMN talked_ms BIGINT;
-- SQLite only: UPDATE calls SET talked_ms = CAST(ROUND((julianday(ended_at) - julianday(started_at)) * 86400000) AS INTEGER);
-- PostgreSQL only: UPDATE calls SET talked_ms = CAST(EXTRACT(EPOCH FROM CAST(ended_at AS TIMESTAMPTZ) - CAST(started_at AS TIMESTAMPTZ)) * 1000 AS BIGINT);
CREATE INDEX calls_counted ON calls (created_at, call_type, ended_reason, started_at, talked_ms);
