-- Notices: what tenants are told of a case, and how far it has come. Times are
-- microseconds since 1970, UTC; 0 is never.

-- How a tenant is written to. Empty: not on this channel. feed is the SHA-256 of
-- the secret in the feed's address.
CREATE TABLE tenant_contact (
  tenant   BIGINT NOT NULL PRIMARY KEY REFERENCES tenant (id),
  language TEXT   NOT NULL,
  email    TEXT   NOT NULL,
  second   TEXT   NOT NULL,
  openpgp  TEXT   NOT NULL,
  webhook  TEXT   NOT NULL,
  secret   BYTEA  NOT NULL,
  feed     BYTEA  UNIQUE,
  changed  BIGINT NOT NULL
){{clustered}};

-- What was told to everyone of one wave: content is notify.Content in JSON.
CREATE TABLE notice_wave (
  case_id  BIGINT NOT NULL,
  number   BIGINT NOT NULL,
  rung     TEXT   NOT NULL,
  content  TEXT   NOT NULL,
  audience BYTEA  NOT NULL,
  at       BIGINT NOT NULL,
  actor    TEXT   NOT NULL,
  notices  BIGINT NOT NULL,
  PRIMARY KEY (case_id, number)
){{clustered}};

-- One tenant's notice of one case. wave is that of its newest edition. resources
-- is the tenant's own part of the audience in JSON; told its hash. state and
-- closed are derived (notify.Progress), and kept for lists.
CREATE TABLE notice (
  id           BIGINT  NOT NULL PRIMARY KEY,
  case_id      BIGINT  NOT NULL,
  tenant       BIGINT  NOT NULL REFERENCES tenant (id),
  wave         BIGINT  NOT NULL,
  edition      BIGINT  NOT NULL,
  rung         TEXT    NOT NULL,
  language     TEXT    NOT NULL,
  mark         TEXT    NOT NULL,
  resources    TEXT    NOT NULL,
  told         BYTEA   NOT NULL,
  created      BIGINT  NOT NULL,
  edited       BIGINT  NOT NULL,
  delivered    BIGINT  NOT NULL,
  opened       BIGINT  NOT NULL,
  acknowledged BIGINT  NOT NULL,
  acknowledged_by TEXT NOT NULL,
  reopenings   BIGINT  NOT NULL,
  reopened     BIGINT  NOT NULL,
  ended        BOOLEAN NOT NULL,
  state        TEXT    NOT NULL,
  closed       BOOLEAN NOT NULL,
  reasons      TEXT    NOT NULL,
  look         BIGINT  NOT NULL,
  UNIQUE (case_id, tenant)
);
CREATE INDEX notice_tenant ON notice (tenant, id);
CREATE INDEX notice_look ON notice (look) WHERE look > 0;

-- A step's row is made when something becomes known of it; n counts from 1.
CREATE TABLE notice_step (
  notice      BIGINT NOT NULL,
  n           BIGINT NOT NULL,
  attested    BIGINT NOT NULL,
  attested_by TEXT   NOT NULL,
  verified    BIGINT NOT NULL,
  PRIMARY KEY (notice, n)
){{clustered}};

-- The newest result of a step's check on each resource.
CREATE TABLE notice_result (
  notice   BIGINT  NOT NULL,
  n        BIGINT  NOT NULL,
  resource TEXT    NOT NULL,
  passed   BOOLEAN NOT NULL,
  at       BIGINT  NOT NULL,
  PRIMARY KEY (notice, n, resource)
){{clustered}};

-- A rendered message, as it is sent on every channel.
CREATE TABLE notice_message (
  id      BIGINT NOT NULL PRIMARY KEY,
  notice  BIGINT NOT NULL,
  purpose TEXT   NOT NULL,
  n       BIGINT NOT NULL,
  subject TEXT   NOT NULL,
  opaque  TEXT   NOT NULL,
  body    TEXT   NOT NULL,
  created BIGINT NOT NULL,
  UNIQUE (notice, purpose, n)
);

-- The outbox: one message on one channel (notify.Delivery). holder is the server
-- that works on it. doubtful counts the attempts whose answer is not known.
CREATE TABLE delivery (
  id         BIGINT NOT NULL PRIMARY KEY,
  message    BIGINT NOT NULL,
  notice     BIGINT NOT NULL,
  channel    TEXT   NOT NULL,
  message_id TEXT   NOT NULL,
  state      TEXT   NOT NULL,
  created    BIGINT NOT NULL,
  due        BIGINT NOT NULL,
  attempts   BIGINT NOT NULL,
  doubtful   BIGINT NOT NULL,
  code       BIGINT NOT NULL,
  detail     TEXT   NOT NULL,
  holder     TEXT   NOT NULL,
  UNIQUE (message, channel)
){{clustered}};
CREATE INDEX delivery_due ON delivery (due) WHERE state IN ('waiting', 'leased', 'released');
CREATE INDEX delivery_notice ON delivery (notice);

-- What was sent, each attempt: began is written before anything is, released
-- before what makes the receiver take it.
CREATE TABLE delivery_attempt (
  delivery BIGINT NOT NULL,
  n        BIGINT NOT NULL,
  holder   TEXT   NOT NULL,
  address  TEXT   NOT NULL,
  began    BIGINT NOT NULL,
  released BIGINT NOT NULL,
  ended    BIGINT NOT NULL,
  outcome  TEXT   NOT NULL,
  code     BIGINT NOT NULL,
  detail   TEXT   NOT NULL,
  PRIMARY KEY (delivery, n)
){{clustered}};

-- What the case's owner was paged about.
CREATE TABLE notice_page (
  notice BIGINT NOT NULL,
  code   TEXT   NOT NULL,
  n      BIGINT NOT NULL,
  at     BIGINT NOT NULL,
  PRIMARY KEY (notice, code, n)
){{clustered}};

-- Each read of a notice by its tenant. entry is the ledger's.
CREATE TABLE notice_read (
  id     BIGINT NOT NULL PRIMARY KEY,
  notice BIGINT NOT NULL,
  at     BIGINT NOT NULL,
  actor  TEXT   NOT NULL,
  via    TEXT   NOT NULL
){{clustered}};
CREATE INDEX notice_read_notice ON notice_read (notice, at);
