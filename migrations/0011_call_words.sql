-- Which words were said in which calls, newest first for each word: what a search reads.
CREATE TABLE call_words (
    word TEXT NOT NULL,
    created_at TEXT NOT NULL,
    call_id TEXT NOT NULL REFERENCES calls (id) ON DELETE CASCADE,
    PRIMARY KEY (word, created_at, call_id)
);
CREATE INDEX call_words_call ON call_words (call_id);
CREATE INDEX calls_updated_at ON calls (updated_at, id);
