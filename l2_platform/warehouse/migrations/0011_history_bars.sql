-- Bars that the vendor made, beside the views that make bars of stored trades.

CREATE TABLE IF NOT EXISTS {database}.history_bars
(
    stream LowCardinality(String) COMMENT 'Capture that the row comes from, e.g. iqfeed-bars-history',
    session_date Date COMMENT 'Session that was asked for' CODEC(ZSTD(1)),
    seq UInt64 COMMENT 'Seq number of the line in the journal of (stream, session_date); identifies the row together with them' CODEC(Delta, ZSTD(1)),
    symbol LowCardinality(String) COMMENT 'Instrument as the feed names it',
    source LowCardinality(String) COMMENT 'history',
    interval_s UInt32 COMMENT 'Length of the bar, s; 86400: an exchange date' CODEC(ZSTD(1)),
    ts_begin DateTime64(9, 'UTC') COMMENT 'Begin of the bar, UTC, ns; of a daily bar midnight in New York' CODEC(GCD, Delta, ZSTD(1)),
    ts_recv DateTime64(9, 'UTC') COMMENT 'When the last byte of the reply came, UTC, ns' CODEC(Delta, ZSTD(1)),
    open Decimal(18, 9) COMMENT 'First price, exact, currency units' CODEC(ZSTD(1)),
    high Decimal(18, 9) COMMENT 'Greatest price' CODEC(ZSTD(1)),
    low Decimal(18, 9) COMMENT 'Least price' CODEC(ZSTD(1)),
    close Decimal(18, 9) COMMENT 'Last price' CODEC(ZSTD(1)),
    volume Int64 COMMENT 'Volume of the bar, shares or contracts; -1 none' CODEC(ZSTD(1)),
    total_volume Int64 COMMENT 'Volume of the day after the last print of the bar; -1 none (daily bars)' CODEC(Delta, ZSTD(1)),
    trade_count Int64 COMMENT 'Prints; 0: the vendor does not count them (bars of seconds, daily bars)' CODEC(ZSTD(1)),
    PROJECTION position (SELECT stream, session_date, max(seq) GROUP BY stream, session_date)
)
ENGINE = MergeTree
PARTITION BY (session_date, stream)
ORDER BY (symbol, interval_s, seq)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, min_parts_to_merge_at_once = 20, merge_selector_base = 20,
    merge_selector_enable_heuristic_to_remove_small_parts_at_right = 0, non_replicated_deduplication_window = 10000,
    deduplicate_merge_projection_mode = 'rebuild'
COMMENT 'Bars of the vendor\'s history, one row a bar';
