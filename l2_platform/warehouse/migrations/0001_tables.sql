-- Tables of the platform. {database} is the database of the settings. Statements end with a semicolon at the end of a line.
-- Market tables are projections of the journal: PARTITION = (session_date, stream) is the unit of rebuild. ORDER BY (symbol, seq)
-- makes reads of one instrument short; the projection `position` answers max(seq) of a partition without reading it.
-- min_parts_to_merge_at_once: the engine's own choice merged after every small insert and wrote each row 250 times (measured).

CREATE TABLE IF NOT EXISTS {database}.depth_updates
(
    stream LowCardinality(String) COMMENT 'Capture that the row comes from, e.g. iqfeed-depth-0 or iqfeed-depth-import-1a2b3c4d',
    session_date Date COMMENT 'Trading session that owns the instant ts_recv (for imports: the file\'s dates)' CODEC(ZSTD(1)),
    seq UInt64 COMMENT 'Seq number of the line in the journal of (stream, session_date); identifies the row together with them' CODEC(Delta, ZSTD(1)),
    symbol LowCardinality(String) COMMENT 'Instrument as the feed names it; empty where a line has none',
    ts_event Nullable(DateTime64(9, 'UTC')) COMMENT 'Time that the feed gives, UTC, ns; NULL where it gives none' CODEC(Delta, ZSTD(1)),
    ts_recv DateTime64(9, 'UTC') COMMENT 'Time of our read of the line, UTC, ns (for imports: time of the import)' CODEC(Delta, ZSTD(1)),
    source LowCardinality(String) COMMENT 'live, import or history',
    kind Enum8('price_level_order' = 48, 'add' = 51, 'update' = 52, 'delete' = 53, 'summary' = 54, 'level_summary' = 55, 'level_update' = 56, 'level_delete' = 57, 'clear' = 75) COMMENT 'What the message does; the number is the feed\'s own message letter' CODEC(ZSTD(1)),
    side Enum8('none' = 0, 'ask' = 65, 'bid' = 66) COMMENT 'Side of the book' CODEC(ZSTD(1)),
    price Decimal(18, 9) COMMENT 'Price, exact, currency units; 0 where the message has none' CODEC(ZSTD(1)),
    size Int64 COMMENT 'Size, shares or contracts' CODEC(ZSTD(1)),
    order_id UInt64 COMMENT 'Order id of the venue; 0 where there is none' CODEC(Delta, ZSTD(1)),
    mmid LowCardinality(String) COMMENT 'Market maker or venue code; empty where there is none',
    priority UInt64 COMMENT 'Order priority of the venue, smaller is earlier; 0 where there is none' CODEC(Delta, ZSTD(1)),
    order_count UInt32 COMMENT 'Orders at the price level; 0 where the feed gives none' CODEC(ZSTD(1)),
    snapshot UInt8 COMMENT '1: row of the feed\'s snapshot burst after a watch; counts in no rate' CODEC(ZSTD(1)),
    trust Enum8('building' = 0, 'good' = 1, 'suspect' = 2) COMMENT 'How far the book of the symbol can be believed after the row' CODEC(ZSTD(1)),
    PROJECTION position (SELECT stream, session_date, max(seq) GROUP BY stream, session_date)
)
ENGINE = MergeTree
PARTITION BY (session_date, stream)
ORDER BY (symbol, seq)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, min_parts_to_merge_at_once = 10, deduplicate_merge_projection_mode = 'rebuild'
COMMENT 'Depth messages, one row a message, everything that may change a book';

CREATE TABLE IF NOT EXISTS {database}.quotes
(
    stream LowCardinality(String) COMMENT 'Capture that the row comes from, e.g. iqfeed-depth-0 or iqfeed-depth-import-1a2b3c4d',
    session_date Date COMMENT 'Trading session that owns the instant ts_recv (for imports: the file\'s dates)' CODEC(ZSTD(1)),
    seq UInt64 COMMENT 'Seq number of the line in the journal of (stream, session_date); identifies the row together with them' CODEC(Delta, ZSTD(1)),
    symbol LowCardinality(String) COMMENT 'Instrument as the feed names it; empty where a line has none',
    ts_event Nullable(DateTime64(9, 'UTC')) COMMENT 'Time that the feed gives, UTC, ns; NULL where it gives none' CODEC(Delta, ZSTD(1)),
    ts_recv DateTime64(9, 'UTC') COMMENT 'Time of our read of the line, UTC, ns (for imports: time of the import)' CODEC(Delta, ZSTD(1)),
    source LowCardinality(String) COMMENT 'live, import or history',
    bid Nullable(Decimal(18, 9)) COMMENT 'Best bid price, exact; NULL where there is none' CODEC(ZSTD(1)),
    bid_size Int64 COMMENT 'Size at the bid, shares or contracts; -1 none' CODEC(ZSTD(1)),
    bid_market_center Int32 COMMENT 'Market centre of the bid (feed\'s code list); -1 none' CODEC(ZSTD(1)),
    ask Nullable(Decimal(18, 9)) COMMENT 'Best ask price, exact; NULL where there is none' CODEC(ZSTD(1)),
    ask_size Int64 COMMENT 'Size at the ask, shares or contracts; -1 none' CODEC(ZSTD(1)),
    ask_market_center Int32 COMMENT 'Market centre of the ask (feed\'s code list); -1 none' CODEC(ZSTD(1)),
    ts_bid Nullable(DateTime64(9, 'UTC')) COMMENT 'Time of the bid as the feed gives it, UTC, ns' CODEC(Delta, ZSTD(1)),
    ts_ask Nullable(DateTime64(9, 'UTC')) COMMENT 'Time of the ask as the feed gives it, UTC, ns' CODEC(Delta, ZSTD(1)),
    total_volume Int64 COMMENT 'Volume of the day so far, shares or contracts; -1 none' CODEC(ZSTD(1)),
    delay Int32 COMMENT 'Delay of the data, minutes; 0 real time, -1 none' CODEC(ZSTD(1)),
    contents LowCardinality(String) COMMENT 'What the message is about: letters of the feed\'s Message Contents (a ask, b bid, C/E/O trade, v volume …)',
    snapshot UInt8 COMMENT '1: answer to a watch (P line), not an update; counts in no rate' CODEC(ZSTD(1)),
    PROJECTION position (SELECT stream, session_date, max(seq) GROUP BY stream, session_date)
)
ENGINE = MergeTree
PARTITION BY (session_date, stream)
ORDER BY (symbol, seq)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, min_parts_to_merge_at_once = 10, deduplicate_merge_projection_mode = 'rebuild'
COMMENT 'Best bid and ask, one row a Level 1 message that changes the quote or answers a watch';

CREATE TABLE IF NOT EXISTS {database}.trades
(
    stream LowCardinality(String) COMMENT 'Capture that the row comes from, e.g. iqfeed-depth-0 or iqfeed-depth-import-1a2b3c4d',
    session_date Date COMMENT 'Trading session that owns the instant ts_recv (for imports: the file\'s dates)' CODEC(ZSTD(1)),
    seq UInt64 COMMENT 'Seq number of the line in the journal of (stream, session_date); identifies the row together with them' CODEC(Delta, ZSTD(1)),
    symbol LowCardinality(String) COMMENT 'Instrument as the feed names it; empty where a line has none',
    ts_event Nullable(DateTime64(9, 'UTC')) COMMENT 'Time that the feed gives, UTC, ns; NULL where it gives none' CODEC(Delta, ZSTD(1)),
    ts_recv DateTime64(9, 'UTC') COMMENT 'Time of our read of the line, UTC, ns (for imports: time of the import)' CODEC(Delta, ZSTD(1)),
    source LowCardinality(String) COMMENT 'live, import or history',
    price Decimal(18, 9) COMMENT 'Price of the print, exact, currency units' CODEC(ZSTD(1)),
    size Int64 COMMENT 'Size of the print, shares or contracts' CODEC(ZSTD(1)),
    market_center Int32 COMMENT 'Market centre of the print (feed\'s code list); -1 none' CODEC(ZSTD(1)),
    conditions LowCardinality(String) COMMENT 'Trade conditions, two hex digits each, as the feed sends them',
    tick_id UInt64 COMMENT 'TickID; counts per symbol, day and market centre on most feeds (advisory)' CODEC(Delta, ZSTD(1)),
    aggressor Enum8('none' = 0, 'buy' = 1, 'sell' = 2, 'neither' = 3) COMMENT 'Side that took liquidity; none where the feed does not tell' CODEC(ZSTD(1)),
    day_code UInt8 COMMENT 'Day code of the print as the feed sends it' CODEC(ZSTD(1)),
    basis Enum8('none' = 0, 'last' = 67, 'extended' = 69, 'other' = 79, 'settle' = 83) COMMENT 'Basis for last: last (C) qualifies, extended (E) outside regular hours, other (O) volume only, settle (S)' CODEC(ZSTD(1)),
    total_volume Int64 COMMENT 'Volume of the day after the print, shares or contracts; -1 none' CODEC(ZSTD(1)),
    bid Nullable(Decimal(18, 9)) COMMENT 'Best bid at the print, exact; NULL where there is none' CODEC(ZSTD(1)),
    ask Nullable(Decimal(18, 9)) COMMENT 'Best ask at the print, exact; NULL where there is none' CODEC(ZSTD(1)),
    trade_date Date COMMENT 'Exchange date (New York) of ts_event; session_date where ts_event is NULL' CODEC(ZSTD(1)),
    event_key String ALIAS concat(symbol, '|', toString(trade_date), '|', toString(market_center), '|', toString(tick_id)) COMMENT 'Names the market event across captures (advisory, computed)',
    PROJECTION position (SELECT stream, session_date, max(seq) GROUP BY stream, session_date)
)
ENGINE = MergeTree
PARTITION BY (session_date, stream)
ORDER BY (symbol, seq)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, min_parts_to_merge_at_once = 10, deduplicate_merge_projection_mode = 'rebuild'
COMMENT 'Trade prints, one row a print';

CREATE TABLE IF NOT EXISTS {database}.book_snapshots
(
    stream LowCardinality(String) COMMENT 'Capture that the row comes from, e.g. iqfeed-depth-0 or iqfeed-depth-import-1a2b3c4d',
    session_date Date COMMENT 'Trading session that owns the instant ts_recv (for imports: the file\'s dates)' CODEC(ZSTD(1)),
    seq UInt64 COMMENT 'Seq of the message after which the book looked like this; row id with stream and session_date' CODEC(Delta, ZSTD(1)),
    symbol LowCardinality(String) COMMENT 'Instrument as the feed names it; empty where a line has none',
    ts_event Nullable(DateTime64(9, 'UTC')) COMMENT 'Time that the feed gives, UTC, ns; NULL where it gives none' CODEC(Delta, ZSTD(1)),
    ts_recv DateTime64(9, 'UTC') COMMENT 'Time of our read of the line, UTC, ns (for imports: time of the import)' CODEC(Delta, ZSTD(1)),
    source LowCardinality(String) COMMENT 'live, import or history',
    trust Enum8('building' = 0, 'good' = 1, 'suspect' = 2) COMMENT 'How far the book of the symbol can be believed after the row' CODEC(ZSTD(1)),
    bid_px Array(Decimal(18, 9)) COMMENT 'Bid prices, best first, exact; empty levels are left out' CODEC(ZSTD(1)),
    bid_sz Array(Int64) COMMENT 'Bid sizes, shares or contracts, one per price of bid_px' CODEC(ZSTD(1)),
    bid_ct Array(UInt32) COMMENT 'Bid orders (or venues) per level; 0 where the feed gives none' CODEC(ZSTD(1)),
    ask_px Array(Decimal(18, 9)) COMMENT 'Ask prices, best first, exact; empty levels are left out' CODEC(ZSTD(1)),
    ask_sz Array(Int64) COMMENT 'Ask sizes, shares or contracts, one per price of ask_px' CODEC(ZSTD(1)),
    ask_ct Array(UInt32) COMMENT 'Ask orders (or venues) per level; 0 where the feed gives none' CODEC(ZSTD(1)),
    total_bid_size Int64 COMMENT 'Sum of bid_sz' CODEC(ZSTD(1)),
    total_ask_size Int64 COMMENT 'Sum of ask_sz' CODEC(ZSTD(1)),
    PROJECTION position (SELECT stream, session_date, max(seq) GROUP BY stream, session_date)
)
ENGINE = MergeTree
PARTITION BY (session_date, stream)
ORDER BY (symbol, seq)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, min_parts_to_merge_at_once = 10, deduplicate_merge_projection_mode = 'rebuild'
COMMENT 'Top of the book after messages that change it, at most one a symbol in jsonl.l2_interval_ms';

CREATE TABLE IF NOT EXISTS {database}.feed_events
(
    stream LowCardinality(String) COMMENT 'Capture that the row comes from, e.g. iqfeed-depth-0 or iqfeed-depth-import-1a2b3c4d',
    session_date Date COMMENT 'Trading session that owns the instant ts_recv (for imports: the file\'s dates)' CODEC(ZSTD(1)),
    seq UInt64 COMMENT 'Seq of the line, or of the last line before a control frame' CODEC(Delta, ZSTD(1)),
    ordinal UInt32 COMMENT '0: the line with this seq; 1, 2 …: control frames after it' CODEC(ZSTD(1)),
    symbol LowCardinality(String) COMMENT 'Instrument as the feed names it; empty where a line has none',
    ts_event Nullable(DateTime64(9, 'UTC')) COMMENT 'Time that the feed gives, UTC, ns; NULL where it gives none' CODEC(Delta, ZSTD(1)),
    ts_recv DateTime64(9, 'UTC') COMMENT 'Time of our read of the line, UTC, ns (for imports: time of the import)' CODEC(Delta, ZSTD(1)),
    source LowCardinality(String) COMMENT 'live, import or history',
    kind LowCardinality(String) COMMENT 'What happened: quarantine, system, connect, disconnect, subscribed, …',
    detail String COMMENT 'Details, JSON object' CODEC(ZSTD(3)),
    raw String COMMENT 'Bytes of a bad or system line, at most 64 KiB' CODEC(ZSTD(3))
)
ENGINE = MergeTree
PARTITION BY (session_date, stream)
ORDER BY (seq, ordinal)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, min_parts_to_merge_at_once = 10
COMMENT 'Everything that is no market data: bad lines, system lines, connections, collector starts';

CREATE TABLE IF NOT EXISTS {database}.gap_events
(
    gap_id String COMMENT 'Names the gap over all its versions' CODEC(ZSTD(1)),
    stream LowCardinality(String) COMMENT 'Capture that misses data',
    session_date Date COMMENT 'Session of the gap' CODEC(ZSTD(1)),
    seq UInt64 COMMENT 'Seq at which this version was found: delivery position, with ordinal' CODEC(Delta, ZSTD(1)),
    ordinal UInt32 COMMENT 'Order within one seq' CODEC(ZSTD(1)),
    source LowCardinality(String) COMMENT 'live, import or history',
    symbols Array(String) COMMENT 'Instruments that miss data; empty = all of the stream' CODEC(ZSTD(1)),
    ts_from DateTime64(9, 'UTC') COMMENT 'Last byte before the gap, UTC, ns' CODEC(Delta, ZSTD(1)),
    ts_to Nullable(DateTime64(9, 'UTC')) COMMENT 'First market data after the gap, UTC, ns; NULL while it is open' CODEC(Delta, ZSTD(1)),
    cause LowCardinality(String) COMMENT 'disconnect, silence, restart, stopped, journal_loss, damage, server_disconnected, late_subscription',
    evidence String COMMENT 'What shows the gap, JSON object' CODEC(ZSTD(3)),
    repair_source LowCardinality(String) COMMENT 'Where missing rows were fetched from; empty = not repaired',
    rows_recovered UInt64 COMMENT 'Rows that the repair brought' CODEC(ZSTD(1)),
    residual String COMMENT 'What stays missing after the repair; empty = nothing known' CODEC(ZSTD(1)),
    state LowCardinality(String) COMMENT 'open, closed or withdrawn',
    seq_before UInt64 COMMENT 'Last seq before the gap' CODEC(ZSTD(1)),
    version UInt32 COMMENT '1, 2 …: the greatest is the gap\'s state' CODEC(ZSTD(1)),
    ts_written DateTime64(9, 'UTC') COMMENT 'When this version was written, UTC, ns' CODEC(Delta, ZSTD(1))
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(session_date)
ORDER BY (stream, session_date, seq, ordinal)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, min_parts_to_merge_at_once = 10
COMMENT 'Gaps: data that a feed did not deliver, every version of every gap, append-only, never replaced';

CREATE TABLE IF NOT EXISTS {database}.delivery_positions
(
    stream LowCardinality(String) COMMENT 'Capture',
    session_date Date COMMENT 'Session' CODEC(ZSTD(1)),
    seq UInt64 COMMENT 'Every row of every seq up to here is stored in all tables' CODEC(Delta, ZSTD(1)),
    segment UInt32 COMMENT 'Journal segment of the position after seq' CODEC(ZSTD(1)),
    offset UInt64 COMMENT 'Uncompressed byte offset in the segment, of the next byte to read' CODEC(Delta, ZSTD(1)),
    ts DateTime64(9, 'UTC') COMMENT 'When it was written, UTC, ns' CODEC(Delta, ZSTD(1))
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(session_date)
ORDER BY (stream, session_date, seq)
SETTINGS min_parts_to_merge_at_once = 10
COMMENT 'How far the delivery got, one row a batch; bounds the replay after a restart';

CREATE VIEW IF NOT EXISTS {database}.gaps AS
SELECT * FROM {database}.gap_events
ORDER BY gap_id, version DESC, ts_written DESC
LIMIT 1 BY gap_id
COMMENT 'Gaps: the newest version of each';

CREATE VIEW IF NOT EXISTS {database}.bars_1m
(
    stream LowCardinality(String) COMMENT 'Capture that the trades come from',
    session_date Date COMMENT 'Session of the trades',
    symbol LowCardinality(String) COMMENT 'Instrument as the feed names it',
    source LowCardinality(String) COMMENT 'live, import or history',
    ts_begin DateTime('UTC') COMMENT 'Begin of the minute, UTC',
    open Decimal(18, 9) COMMENT 'First price in seq order, exact, currency units',
    high Decimal(18, 9) COMMENT 'Greatest price',
    low Decimal(18, 9) COMMENT 'Least price',
    close Decimal(18, 9) COMMENT 'Last price in seq order',
    volume Int64 COMMENT 'Sum of the sizes, shares or contracts',
    trade_count UInt64 COMMENT 'Prints'
)
AS
SELECT
    stream, session_date, symbol, source, toStartOfMinute(assumeNotNull(ts_event)) AS ts_begin,
    argMin(price, seq) AS open, max(price) AS high, min(price) AS low, argMax(price, seq) AS close,
    sum(size) AS volume, count() AS trade_count
FROM {database}.trades
WHERE basis IN ('last', 'extended') AND ts_event IS NOT NULL
GROUP BY stream, session_date, symbol, source, ts_begin
COMMENT 'Minute bars of the stored trades by IQFeed\'s own rule (C and E prints), labelled by their begin';
