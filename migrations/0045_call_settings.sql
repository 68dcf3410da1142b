-- Where the server is that a message waits for, to tell whose messages pile up.
ALTER TABLE webhook_deliveries ADD COLUMN receiver TEXT NOT NULL DEFAULT '';

-- The secrets of what a call was made with (its document), encrypted.
ALTER TABLE calls ADD COLUMN secrets BLOB;
