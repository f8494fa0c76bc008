-- Whether an exposed endpoint's vitals were compared with the controls': 0 is not
-- yet, 1 not slow, 2 slow. rollout_cohort.measured and slow count them by cohort;
-- measured of the controls (-2) is how many the first comparison had. Who only
-- reported is counted nowhere.
ALTER TABLE exposure ADD COLUMN measured BIGINT NOT NULL DEFAULT 0;
ALTER TABLE rollout_cohort DROP COLUMN reporting;
