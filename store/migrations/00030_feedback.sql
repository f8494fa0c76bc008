-- The forms by which customers and partners say what they think of how a case was
-- handled: whose form it is, by the hash of the secret in its address.
CREATE TABLE feedback_form (
  hash    BYTEA  NOT NULL PRIMARY KEY,
  case_id BIGINT NOT NULL,
  asked   TEXT   NOT NULL
){{clustered}};
