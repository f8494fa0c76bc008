-- Endpoints chosen at the start because together they cover the fleet, and how far
-- they do, as JSON (fleet.Reach); empty if nobody was chosen.
CREATE TABLE coverage_member (
  rollout  BIGINT NOT NULL,
  endpoint BIGINT NOT NULL,
  PRIMARY KEY (rollout, endpoint)
){{clustered}};
ALTER TABLE rollout ADD COLUMN coverage TEXT NOT NULL DEFAULT '';

-- Vitals at the first outcome: reporting had any, measured of those could be
-- compared with controls, slow of those exceeded them.
ALTER TABLE rollout_cohort ADD COLUMN reporting BIGINT NOT NULL DEFAULT 0;
ALTER TABLE rollout_cohort ADD COLUMN measured BIGINT NOT NULL DEFAULT 0;
ALTER TABLE rollout_cohort ADD COLUMN slow BIGINT NOT NULL DEFAULT 0;
