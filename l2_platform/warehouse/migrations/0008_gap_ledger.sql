-- What explains a gap, and what became of its repair; two causes that concern single symbols.

ALTER TABLE {database}.gap_events
    ADD COLUMN IF NOT EXISTS explanation LowCardinality(String)
        COMMENT 'Why nothing had to come: halt, auction, closed, half_day, quiet …; empty = unexplained' AFTER residual;

ALTER TABLE {database}.gap_events
    ADD COLUMN IF NOT EXISTS repair_state LowCardinality(String)
        COMMENT 'repaired, partial, nothing_to_repair, impossible (depth has no history) or failed; empty = nothing tried' AFTER explanation;

ALTER TABLE {database}.gap_events
    COMMENT COLUMN cause 'disconnect, silence, restart, stopped, journal_loss, damage, server_disconnected, late_subscription, symbol_silence, missing_prints';

CREATE OR REPLACE VIEW {database}.gaps AS
SELECT * FROM {database}.gap_events
ORDER BY gap_id, version DESC, ts_written DESC
LIMIT 1 BY gap_id
COMMENT 'Gaps: the newest version of each';
