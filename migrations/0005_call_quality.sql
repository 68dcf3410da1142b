-- How the call sounded, both ways (JSON), and how its media was encrypted.
ALTER TABLE calls ADD COLUMN quality TEXT;
ALTER TABLE calls ADD COLUMN srtp TEXT;
