-- Bars of other lengths, the symbols that were wanted over time, and the sessions of the calendar.

CREATE VIEW IF NOT EXISTS {database}.bars_1s
(
    stream LowCardinality(String) COMMENT 'Capture that the trades come from',
    session_date Date COMMENT 'Session of the trades',
    symbol LowCardinality(String) COMMENT 'Instrument as the feed names it',
    source LowCardinality(String) COMMENT 'live, import or history',
    ts_begin DateTime('UTC') COMMENT 'Begin of the second, UTC',
    open Decimal(18, 9) COMMENT 'First price in seq order, exact, currency units',
    high Decimal(18, 9) COMMENT 'Greatest price',
    low Decimal(18, 9) COMMENT 'Least price',
    close Decimal(18, 9) COMMENT 'Last price in seq order',
    volume Int64 COMMENT 'Sum of the sizes, shares or contracts',
    total_volume Int64 COMMENT 'Volume of the day after the last print of the bar, O prints included; -1 none',
    trade_count UInt64 COMMENT 'Prints'
)
AS
SELECT
    stream, session_date, symbol, source, toDateTime(toStartOfSecond(assumeNotNull(ts_event)), 'UTC') AS ts_begin,
    argMin(price, seq) AS open, max(price) AS high, min(price) AS low, argMax(price, seq) AS close,
    sum(size) AS volume, argMax(trades.total_volume, seq) AS total_volume, count() AS trade_count
FROM {database}.trades
WHERE basis IN ('last', 'extended') AND ts_event IS NOT NULL
GROUP BY stream, session_date, symbol, source, ts_begin
COMMENT 'Second bars of the stored trades by IQFeed\'s own rule (C and E prints), labelled by their begin';

CREATE VIEW IF NOT EXISTS {database}.bars_5s
(
    stream LowCardinality(String) COMMENT 'Capture that the trades come from',
    session_date Date COMMENT 'Session of the trades',
    symbol LowCardinality(String) COMMENT 'Instrument as the feed names it',
    source LowCardinality(String) COMMENT 'live, import or history',
    ts_begin DateTime('UTC') COMMENT 'Begin of the five seconds, UTC',
    open Decimal(18, 9) COMMENT 'First price in seq order, exact, currency units',
    high Decimal(18, 9) COMMENT 'Greatest price',
    low Decimal(18, 9) COMMENT 'Least price',
    close Decimal(18, 9) COMMENT 'Last price in seq order',
    volume Int64 COMMENT 'Sum of the sizes, shares or contracts',
    total_volume Int64 COMMENT 'Volume of the day after the last print of the bar, O prints included; -1 none',
    trade_count UInt64 COMMENT 'Prints'
)
AS
SELECT
    stream, session_date, symbol, source, toStartOfInterval(toDateTime(assumeNotNull(ts_event), 'UTC'), INTERVAL 5 SECOND) AS ts_begin,
    argMin(price, seq) AS open, max(price) AS high, min(price) AS low, argMax(price, seq) AS close,
    sum(size) AS volume, argMax(trades.total_volume, seq) AS total_volume, count() AS trade_count
FROM {database}.trades
WHERE basis IN ('last', 'extended') AND ts_event IS NOT NULL
GROUP BY stream, session_date, symbol, source, ts_begin
COMMENT 'Five-second bars of the stored trades by IQFeed\'s own rule (C and E prints), labelled by their begin';

CREATE VIEW IF NOT EXISTS {database}.bars_daily
(
    stream LowCardinality(String) COMMENT 'Capture that the trades come from',
    session_date Date COMMENT 'Session of the trades',
    symbol LowCardinality(String) COMMENT 'Instrument as the feed names it',
    source LowCardinality(String) COMMENT 'live, import or history',
    trade_date Date COMMENT 'Exchange date (New York)',
    open Decimal(18, 9) COMMENT 'First price of the C prints in seq order, exact, currency units',
    high Decimal(18, 9) COMMENT 'Greatest price of the C prints',
    low Decimal(18, 9) COMMENT 'Least price of the C prints',
    close Decimal(18, 9) COMMENT 'Last price of the C prints in seq order',
    volume Int64 COMMENT 'Sum of the sizes of C, E and O prints, shares or contracts',
    trade_count UInt64 COMMENT 'C, E and O prints'
)
AS
SELECT
    stream, session_date, symbol, source, trade_date,
    argMinIf(price, seq, basis = 'last') AS open, maxIf(price, basis = 'last') AS high, minIf(price, basis = 'last') AS low,
    argMaxIf(price, seq, basis = 'last') AS close, sum(size) AS volume, count() AS trade_count
FROM {database}.trades
WHERE basis IN ('last', 'extended', 'other')
GROUP BY stream, session_date, symbol, source, trade_date
HAVING countIf(basis = 'last') > 0
COMMENT 'Daily bars of the stored trades by IQFeed\'s own rule: prices of C prints, volume of C, E and O prints';

CREATE TABLE IF NOT EXISTS {database}.universe_events
(
    symbol LowCardinality(String) COMMENT 'Instrument as the feed names it',
    group_name LowCardinality(String) COMMENT 'Group of the symbols file',
    wanted UInt8 COMMENT '1: recorded from here on; 0: not any more',
    version UInt64 COMMENT 'Version of the symbols file that says so' CODEC(ZSTD(1)),
    ts DateTime64(9, 'UTC') COMMENT 'When that version was written, UTC, ns' CODEC(ZSTD(1)),
    ts_written DateTime64(9, 'UTC') COMMENT 'When this row was written, UTC, ns' CODEC(ZSTD(1))
)
ENGINE = MergeTree
ORDER BY (symbol, ts)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1
COMMENT 'Which symbols were wanted since when, one row a change, append-only: the newest row of a symbol before an instant tells';

CREATE VIEW IF NOT EXISTS {database}.universe
(
    symbol LowCardinality(String) COMMENT 'Instrument as the feed names it',
    group_name LowCardinality(String) COMMENT 'Group of the symbols file',
    since DateTime64(9, 'UTC') COMMENT 'When its row changed last, UTC, ns'
)
AS
SELECT symbol, argMax(group_name, (ts, version)) AS group_name, max(ts) AS since
FROM {database}.universe_events
GROUP BY symbol
HAVING argMax(wanted, (ts, version)) = 1
COMMENT 'The symbols that are wanted now';

CREATE TABLE IF NOT EXISTS {database}.session_calendar
(
    calendar LowCardinality(String) COMMENT 'Name of the calendar, e.g. XNYS',
    session_date Date COMMENT 'Session',
    ts_pre DateTime('UTC') COMMENT 'Begin of pre-market trading, UTC; that of regular trading where there is none',
    ts_open DateTime('UTC') COMMENT 'Begin of regular trading, UTC',
    ts_close DateTime('UTC') COMMENT 'End of regular trading, UTC',
    ts_after DateTime('UTC') COMMENT 'End of after-hours trading, UTC; that of regular trading where there is none',
    ts_end DateTime('UTC') COMMENT 'Here the next session date begins, UTC',
    half_day UInt8 COMMENT '1: regular trading is shorter than usual',
    utc_offset_s Int32 COMMENT 'Exchange time minus UTC at the open, s; it changes with daylight saving time',
    ts_written DateTime64(9, 'UTC') COMMENT 'When the row was written, UTC, ns; the newest counts'
)
ENGINE = ReplacingMergeTree(ts_written)
ORDER BY (calendar, session_date)
COMMENT 'Sessions of the calendar, a year back and a year ahead; read with FINAL';
