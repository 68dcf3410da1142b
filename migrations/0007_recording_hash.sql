-- SHA-256 of the finished recording, so that it can be shown to be the one that was made.
ALTER TABLE calls ADD COLUMN recording_sha256 TEXT;
