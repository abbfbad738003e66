-- What each session date was worth: the verdict on every symbol, and what the stores were found to hold.

CREATE TABLE IF NOT EXISTS {database}.completeness
(
    run_id String COMMENT 'Names the judgement; all rows of one have it' CODEC(ZSTD(1)),
    session_date Date COMMENT 'Session that was judged',
    symbol LowCardinality(String) COMMENT 'Instrument as the feed names it',
    grade LowCardinality(String) COMMENT 'complete, repaired, degraded or missing',
    reasons Array(String) COMMENT 'Why it is not complete, and what could not be judged, in words' CODEC(ZSTD(3)),
    expected UInt8 COMMENT '1: the symbol was wanted on the date; 0: it is only there',
    expected_minutes Array(UInt32) COMMENT 'Minutes of the windows pre, regular, after of the calendar' CODEC(ZSTD(1)),
    seen_minutes Array(UInt32) COMMENT 'Minutes of these windows with a row of the symbol in any table' CODEC(ZSTD(1)),
    rows UInt64 COMMENT 'Rows of the recording in all market tables, history left out' CODEC(ZSTD(1)),
    rows_history UInt64 COMMENT 'Rows that came from history' CODEC(ZSTD(1)),
    trades UInt64 COMMENT 'Prints of the recording' CODEC(ZSTD(1)),
    rows_by_hour Array(UInt64) COMMENT 'Rows of the recording by hour of New York, 0 to 23' CODEC(ZSTD(1)),
    rows_usual Float64 COMMENT 'Mean rows of the judged dates before; 0 when none was judged' CODEC(ZSTD(1)),
    days_usual UInt32 COMMENT 'How many dates that mean is over' CODEC(ZSTD(1)),
    tick_ids_expected UInt64 COMMENT 'TickIDs of the counting market centres' CODEC(ZSTD(1)),
    tick_ids_lost UInt64 COMMENT 'Of these, missing in the recording' CODEC(ZSTD(1)),
    tick_ids_missing UInt64 COMMENT 'Of these, missing with history, too' CODEC(ZSTD(1)),
    volume_expected Int64 COMMENT 'Volume of the day by the feed\'s running total, shares or contracts; -1 none' CODEC(ZSTD(1)),
    volume_lost Int64 COMMENT 'What the prints of the recording lack of it' CODEC(ZSTD(1)),
    volume_missing Int64 COMMENT 'What the prints lack of it with history, too' CODEC(ZSTD(1)),
    volume_bar Int64 COMMENT 'Volume of the vendor\'s daily bar; -1 where none is stored' CODEC(ZSTD(1)),
    gaps UInt32 COMMENT 'Gaps longer than completeness.gap_s that touch the symbol' CODEC(ZSTD(1)),
    gap_s Float64 COMMENT 'Their time within the windows, s' CODEC(ZSTD(1)),
    unexplained_s Float64 COMMENT 'Time within the windows that is neither recorded, explained nor repaired, s' CODEC(ZSTD(1)),
    unexplained_rows UInt64 COMMENT 'Rows that are known to be missing, and neither explained nor repaired' CODEC(ZSTD(1)),
    book_good_s Float64 COMMENT 'Time that the stored book was good, s' CODEC(ZSTD(1)),
    book_suspect_s Float64 COMMENT 'Time that it was suspect, s' CODEC(ZSTD(1)),
    book_building_s Float64 COMMENT 'Time that it was being built, s' CODEC(ZSTD(1)),
    latency_p50_ms Nullable(Float64) COMMENT 'Median of receive time minus event time, ms; NULL without live rows that have both' CODEC(ZSTD(1)),
    latency_p99_ms Nullable(Float64) COMMENT '99th percentile of it, ms' CODEC(ZSTD(1)),
    quarantined UInt64 COMMENT 'Lines that could not be decoded, and rows that ClickHouse refused' CODEC(ZSTD(1)),
    ts_written DateTime64(9, 'UTC') COMMENT 'When the row was written, UTC, ns; the newest of a date and symbol counts' CODEC(ZSTD(1))
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(session_date)
ORDER BY (session_date, symbol, ts_written)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1
COMMENT 'Verdict on each symbol of each judged session date, append-only, never replaced';

CREATE TABLE IF NOT EXISTS {database}.reconciliations
(
    run_id String COMMENT 'Names the comparison; all rows of one have it' CODEC(ZSTD(1)),
    session_date Date COMMENT 'Session that was compared',
    stream LowCardinality(String) COMMENT 'Capture',
    table LowCardinality(String) COMMENT 'Market table',
    store LowCardinality(String) COMMENT 'clickhouse, jsonl or kafka',
    state LowCardinality(String) COMMENT 'equal, different, healed, unknown or off',
    reason String COMMENT 'Why it is unknown, off or not healed' CODEC(ZSTD(3)),
    rows_journal UInt64 COMMENT 'Rows that the journal yields for the store' CODEC(ZSTD(1)),
    rows_store UInt64 COMMENT 'Rows of the store' CODEC(ZSTD(1)),
    seq_first UInt64 COMMENT 'Least seq in the store; 0 without rows' CODEC(ZSTD(1)),
    seq_last UInt64 COMMENT 'Greatest seq in the store; 0 without rows' CODEC(ZSTD(1)),
    minutes UInt32 COMMENT 'Minutes whose count or hash differs' CODEC(ZSTD(1)),
    missing UInt64 COMMENT 'Keys that only the journal yields' CODEC(ZSTD(1)),
    extra UInt64 COMMENT 'Keys that only the store has' CODEC(ZSTD(1)),
    doubled UInt64 COMMENT 'Keys whose row the store has more than once' CODEC(ZSTD(1)),
    changed UInt64 COMMENT 'Keys with other values' CODEC(ZSTD(1)),
    unreadable UInt64 COMMENT 'Lines of files that are no records' CODEC(ZSTD(1)),
    keys String COMMENT 'The first keys of each kind, JSON object' CODEC(ZSTD(3)),
    seconds Float64 COMMENT 'Time that the comparison of the date took, s' CODEC(ZSTD(1)),
    ts_written DateTime64(9, 'UTC') COMMENT 'When the row was written, UTC, ns' CODEC(ZSTD(1))
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(session_date)
ORDER BY (session_date, stream, table, store, ts_written)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, non_replicated_deduplication_window = 1000
COMMENT 'What each comparison of the stores with the journal found, append-only, never replaced'
