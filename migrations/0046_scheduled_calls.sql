-- When a call that is to be made later may be made.
ALTER TABLE calls ADD COLUMN earliest_at TEXT;
ALTER TABLE calls ADD COLUMN latest_at TEXT;
