-- What a session date was when it was closed: one row a stream and table, with the hash that says whether it still is the same.

CREATE TABLE IF NOT EXISTS {database}.daily_reports
(
    session_date Date COMMENT 'Session that was closed' CODEC(ZSTD(1)),
    stream LowCardinality(String) COMMENT 'Capture',
    table LowCardinality(String) COMMENT 'Market table',
    source LowCardinality(String) COMMENT 'live, import or history',
    rows UInt64 COMMENT 'Rows of the stream and date in the table' CODEC(ZSTD(1)),
    content_hash String COMMENT 'Hash of these rows, 32 hex digits; equal content gives an equal hash, whatever the order of rows' CODEC(ZSTD(1)),
    seq_first UInt64 COMMENT 'Least seq; 0 without rows' CODEC(ZSTD(1)),
    seq_last UInt64 COMMENT 'Greatest seq; 0 without rows' CODEC(ZSTD(1)),
    ts_first Nullable(DateTime64(9, 'UTC')) COMMENT 'Receive time of the first row, UTC, ns; NULL without rows' CODEC(ZSTD(1)),
    ts_last Nullable(DateTime64(9, 'UTC')) COMMENT 'Receive time of the last row, UTC, ns; NULL without rows' CODEC(ZSTD(1)),
    table_bytes UInt64 COMMENT 'Bytes of these rows on disk' CODEC(ZSTD(1)),
    journal_lines UInt64 COMMENT 'Last seq of the journal: lines received' CODEC(ZSTD(1)),
    journal_bytes UInt64 COMMENT 'Bytes of the date in the journal, on disk' CODEC(ZSTD(1)),
    segments UInt32 COMMENT 'Segments of the date in the journal' CODEC(ZSTD(1)),
    segments_sealed UInt32 COMMENT 'Of these, sealed' CODEC(ZSTD(1)),
    rebuilt UInt8 COMMENT '1: the close found a reason to rebuild the stream, and did' CODEC(ZSTD(1)),
    reason String COMMENT 'That reason; empty when there was none' CODEC(ZSTD(1)),
    program String COMMENT 'Version of the program that closed it' CODEC(ZSTD(1)),
    seconds Float64 COMMENT 'Time that the close took, over all streams, s' CODEC(ZSTD(1)),
    ts_written DateTime64(9, 'UTC') COMMENT 'When the row was written, UTC, ns; the newest of a date, stream and table counts' CODEC(ZSTD(1))
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(session_date)
ORDER BY (session_date, stream, table, ts_written)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1
COMMENT 'What each session date was when it was closed, one row a stream and table, append-only, never replaced';
