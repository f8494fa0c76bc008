-- Endpoints as a table by row id, which is the endpoint's id. Stored by primary key
-- instead, each page above the leaves held whole rows, labels and all: a large fleet's
-- tree was two pages deeper, and those pages alone filled the cache.
CREATE TABLE endpoint_rowid (
  id            INTEGER NOT NULL PRIMARY KEY,
  tenant        BIGINT NOT NULL REFERENCES tenant (id),
  secret        BYTEA NOT NULL UNIQUE,
  labels        TEXT NOT NULL,
  domain        TEXT NOT NULL,
  rss           BIGINT NOT NULL,
  sandbox       TEXT NOT NULL,
  name          TEXT NOT NULL,
  agent_version TEXT NOT NULL,
  enrolled      BIGINT NOT NULL,
  trouble       TEXT NOT NULL DEFAULT ''
);
INSERT INTO endpoint_rowid (id, tenant, secret, labels, domain, rss, sandbox, name, agent_version, enrolled, trouble)
  SELECT id, tenant, secret, labels, domain, rss, sandbox, name, agent_version, enrolled, trouble FROM endpoint ORDER BY id;
DROP TABLE endpoint;
ALTER TABLE endpoint_rowid RENAME TO endpoint;
CREATE INDEX endpoint_tenant ON endpoint (tenant, id);
