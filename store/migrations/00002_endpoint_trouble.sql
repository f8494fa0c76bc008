-- What an endpoint's agent cannot do at present, in its own words.
ALTER TABLE endpoint ADD COLUMN trouble TEXT NOT NULL DEFAULT '';
