-- Who called, by the trunk's rules, through which trunk, and whom they called first.
ALTER TABLE calls ADD COLUMN customer_number TEXT;
ALTER TABLE calls ADD COLUMN customer_name TEXT;
ALTER TABLE calls ADD COLUMN trunk TEXT;
ALTER TABLE calls ADD COLUMN diverted_from TEXT;
