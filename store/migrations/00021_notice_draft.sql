-- What a case's notices will say: told to its audience as its rungs open.
CREATE TABLE notice_draft (
  case_id BIGINT NOT NULL PRIMARY KEY,
  content TEXT   NOT NULL,
  actor   TEXT   NOT NULL,
  at      BIGINT NOT NULL
){{clustered}};
