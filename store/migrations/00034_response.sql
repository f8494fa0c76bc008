-- Each attempt to send a letter or a call, with what came of it. It is written when
-- the attempt begins: one whose server ended shows as one without an answer.
CREATE TABLE letter_attempt (
  letter  BIGINT NOT NULL,
  n       BIGINT NOT NULL,
  at      BIGINT NOT NULL,
  outcome TEXT   NOT NULL,
  code    BIGINT NOT NULL,
  detail  TEXT   NOT NULL,
  PRIMARY KEY (letter, n)
){{clustered}};

-- Whom a call calls; empty for letters to reporters.
ALTER TABLE letter ADD COLUMN whom TEXT NOT NULL DEFAULT '';

-- What calls to a webhook are signed with, for each address that the roster in
-- force names.
CREATE TABLE call_hook (
  url    TEXT   NOT NULL PRIMARY KEY,
  secret BYTEA  NOT NULL,
  made   BIGINT NOT NULL
){{clustered}};

-- Applied tables of rewards: no row ever changes.
CREATE TABLE reward_table (
  id       TEXT   NOT NULL,
  revision BIGINT NOT NULL CHECK (revision > 0),
  body     TEXT   NOT NULL,
  made     BIGINT NOT NULL,
  actor    TEXT   NOT NULL,
  PRIMARY KEY (id, revision)
){{clustered}};
