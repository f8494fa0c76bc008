-- Reports and cases. Both are their facts: what stands in a row of psirt_case or
-- psirt_report beside its revision is derived from the facts, in the transaction
-- that adds one. Ids are random: they tell neither time nor number.

-- rung is the level of disclosure; what is on rung sealed has its readers recorded.
CREATE TABLE psirt_case (
  id       BIGINT  NOT NULL PRIMARY KEY,
  revision BIGINT  NOT NULL,
  rung     TEXT    NOT NULL,
  closed   BOOLEAN NOT NULL,
  opened   BIGINT  NOT NULL,
  changed  BIGINT  NOT NULL
){{clustered}};

-- case_id is 0 while the report belongs to none. request is the sender's
-- idempotency key.
CREATE TABLE psirt_report (
  id       BIGINT NOT NULL PRIMARY KEY,
  revision BIGINT NOT NULL,
  case_id  BIGINT NOT NULL,
  received BIGINT NOT NULL,
  changed  BIGINT NOT NULL,
  request  TEXT   NOT NULL UNIQUE
){{clustered}};
CREATE INDEX psirt_report_case ON psirt_report (case_id, id);

-- One row for each fact of a case or report. tlp is the label's rank, 0 (CLEAR)
-- to 4 (RED); readers is a JSON list of principals, empty for all who may read
-- the label. entry is the ledger entry that holds the commitment to salt and fact.
CREATE TABLE psirt_fact (
  subject  BIGINT   NOT NULL,
  seq      BIGINT   NOT NULL,
  id       BIGINT   NOT NULL UNIQUE,
  kind     TEXT     NOT NULL,
  at       BIGINT   NOT NULL,
  recorded BIGINT   NOT NULL,
  actor    TEXT     NOT NULL,
  tlp      BIGINT   NOT NULL CHECK (tlp BETWEEN 0 AND 4),
  readers  TEXT     NOT NULL,
  body     TEXT     NOT NULL,
  salt     BYTEA    NOT NULL,
  entry    BIGINT   NOT NULL,
  PRIMARY KEY (subject, seq)
){{clustered}};

-- Who may read a case or report, up to which label.
CREATE TABLE case_member (
  principal TEXT   NOT NULL,
  subject   BIGINT NOT NULL,
  role      TEXT   NOT NULL CHECK (role IN ('lead', 'member', 'observer')),
  tlp       BIGINT NOT NULL CHECK (tlp BETWEEN 0 AND 4),
  PRIMARY KEY (principal, subject)
){{clustered}};
CREATE INDEX case_member_subject ON case_member (subject, principal);

-- Who may read reports that belong to no case yet.
CREATE TABLE triager (
  principal TEXT   NOT NULL PRIMARY KEY,
  added     BIGINT NOT NULL
){{clustered}};

-- What a ledger entry of kind "sealed" commits to: content is JSON.
CREATE TABLE opening (
  entry   BIGINT NOT NULL PRIMARY KEY,
  subject BIGINT NOT NULL,
  salt    BYTEA  NOT NULL,
  content TEXT   NOT NULL
){{clustered}};
CREATE INDEX opening_subject ON opening (subject, entry);
