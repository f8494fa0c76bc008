-- What belongs to reports from outside: the reporter's page, by the hash of its
-- secret; attachments, by digest, each once however many reports have it; and the
-- letters that go out to reporters and to those on duty.

CREATE TABLE report_page (
  hash   BYTEA  NOT NULL PRIMARY KEY,
  report BIGINT NOT NULL UNIQUE
){{clustered}};

CREATE TABLE report_file (
  digest TEXT   NOT NULL PRIMARY KEY,
  length BIGINT NOT NULL,
  added  BIGINT NOT NULL,
  body   BYTEA  NOT NULL
);

CREATE TABLE report_file_of (
  report BIGINT NOT NULL,
  digest TEXT   NOT NULL,
  PRIMARY KEY (report, digest)
){{clustered}};

-- A letter is composed when it is sent, of the facts of its subject: here stands
-- none of its text. due is when it is tried next, 0 once it is done with; seq is
-- the fact that made it, so that the same fact makes it once.
CREATE TABLE letter (
  id      BIGINT NOT NULL PRIMARY KEY,
  subject BIGINT NOT NULL,
  seq     BIGINT NOT NULL,
  kind    TEXT   NOT NULL,
  address TEXT   NOT NULL,
  made    BIGINT NOT NULL,
  due     BIGINT NOT NULL,
  tries   BIGINT NOT NULL,
  sent    BIGINT NOT NULL,
  trouble TEXT   NOT NULL,
  UNIQUE (subject, seq, kind, address)
){{clustered}};
CREATE INDEX letter_due ON letter (due, id);

-- Reports and cases with a call that nobody has answered. The call itself is
-- their facts'; this finds them.
CREATE TABLE open_call (
  subject BIGINT NOT NULL PRIMARY KEY
){{clustered}};

-- Who is on duty when, as a list of revisions; the newest is in force.
CREATE TABLE duty_roster (
  revision BIGINT NOT NULL PRIMARY KEY,
  made     BIGINT NOT NULL,
  actor    TEXT   NOT NULL,
  body     TEXT   NOT NULL
){{clustered}};
