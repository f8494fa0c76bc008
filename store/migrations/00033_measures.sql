-- What exposed endpoints were compared by beside vitals: a list in the order of the
-- policy's measures, of how many were compared, how many of them are worse, and how
-- many were expected to be, at most and usually, in millionths; of the controls (-2)
-- the first is how many the first comparison had. exposure.measured has two bits for
-- each, from the third on.
ALTER TABLE rollout_cohort ADD COLUMN measures TEXT NOT NULL DEFAULT '[]';
