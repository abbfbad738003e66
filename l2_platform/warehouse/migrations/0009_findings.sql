-- What audits found, and that they ran: both append-only. The rows of coverage_hours are what later dates are compared with.

CREATE TABLE IF NOT EXISTS {database}.findings
(
    run_id String COMMENT 'Audit that found it' CODEC(ZSTD(1)),
    check LowCardinality(String) COMMENT 'Rule, by its name in docs/quality.md',
    stream LowCardinality(String) COMMENT 'Capture; empty where several are concerned',
    session_date Date COMMENT 'Session that was judged' CODEC(ZSTD(1)),
    symbol LowCardinality(String) COMMENT 'Instrument; empty = the whole stream',
    severity LowCardinality(String) COMMENT 'warn or error',
    ts_from Nullable(DateTime64(9, 'UTC')) COMMENT 'First flagged row, UTC, ns; NULL where it has no time' CODEC(ZSTD(1)),
    ts_to Nullable(DateTime64(9, 'UTC')) COMMENT 'Last flagged row, UTC, ns' CODEC(ZSTD(1)),
    seq_from UInt64 COMMENT 'Least seq of the flagged rows; 0 where they have none' CODEC(ZSTD(1)),
    seq_to UInt64 COMMENT 'Greatest seq of the flagged rows' CODEC(ZSTD(1)),
    looked UInt64 COMMENT 'Rows of the stream and symbol that were judged together' CODEC(ZSTD(1)),
    flagged UInt64 COMMENT 'Of these, flagged' CODEC(ZSTD(1)),
    value Float64 COMMENT 'How bad, in the unit of the threshold' CODEC(ZSTD(1)),
    threshold Float64 COMMENT 'The setting it was compared with' CODEC(ZSTD(1)),
    detail String COMMENT 'Details, JSON object' CODEC(ZSTD(3)),
    ts_written DateTime64(9, 'UTC') COMMENT 'When it was written, UTC, ns' CODEC(ZSTD(1))
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(session_date)
ORDER BY (session_date, run_id, check, stream, symbol)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, non_replicated_deduplication_window = 10000
COMMENT 'What audits found: a stretch of flagged rows each, append-only, never replaced; rows are labelled here and stay where they are';

CREATE TABLE IF NOT EXISTS {database}.audit_runs
(
    run_id String COMMENT 'Audit' CODEC(ZSTD(1)),
    session_date Date COMMENT 'Session that was judged' CODEC(ZSTD(1)),
    check LowCardinality(String) COMMENT 'Rule, by its name in docs/quality.md',
    looked UInt64 COMMENT 'Rows it looked at' CODEC(ZSTD(1)),
    flagged UInt64 COMMENT 'Rows it flagged' CODEC(ZSTD(1)),
    findings UInt64 COMMENT 'Findings, those too that were not kept' CODEC(ZSTD(1)),
    severity LowCardinality(String) COMMENT 'Worst finding: warn or error; error also where it should have been judged and could not; empty otherwise',
    outcome LowCardinality(String) COMMENT 'passed, failed or not_evaluated',
    message String COMMENT 'Why it was not evaluated; empty otherwise' CODEC(ZSTD(1)),
    seconds Float64 COMMENT 'Time that it took, s' CODEC(ZSTD(1)),
    ts_written DateTime64(9, 'UTC') COMMENT 'When it was written, UTC, ns' CODEC(ZSTD(1))
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(session_date)
ORDER BY (session_date, run_id, check)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, non_replicated_deduplication_window = 10000
COMMENT 'Which checks ran on a session date, on how many rows and with what outcome, append-only; written after the findings of the check';
