-- Every print of a day once: those that a repair brought beside the live ones; bars are made of both. Within a bar prints are in seq
-- order, or in order of time where a repair brought some of them.

CREATE VIEW IF NOT EXISTS {database}.prints
(
    stream LowCardinality(String) COMMENT 'Capture of the symbol; of a print that a repair brought the live one whose gap it fills',
    session_date Date COMMENT 'Trading session',
    seq UInt64 COMMENT 'Seq number of the line in the journal of the capture that the row comes from',
    symbol LowCardinality(String) COMMENT 'Instrument as the feed names it',
    source LowCardinality(String) COMMENT 'live, import or history; history beside a live stream: a repair brought the print',
    ts_event Nullable(DateTime64(9, 'UTC')) COMMENT 'Time that the feed gives, UTC, ns; NULL where it gives none',
    ts_recv DateTime64(9, 'UTC') COMMENT 'Time of our read of the line, UTC, ns',
    price Decimal(18, 9) COMMENT 'Price of the print, exact, currency units',
    size Int64 COMMENT 'Size of the print, shares or contracts',
    market_center Int32 COMMENT 'Market centre of the print; -1 none',
    conditions LowCardinality(String) COMMENT 'Trade conditions, two hex digits each',
    tick_id UInt64 COMMENT 'TickID',
    aggressor Enum8('none' = 0, 'buy' = 1, 'sell' = 2, 'neither' = 3) COMMENT 'Side that took liquidity',
    day_code UInt8 COMMENT 'Day code of the print as the feed sends it',
    basis Enum8('none' = 0, 'last' = 67, 'extended' = 69, 'other' = 79, 'settle' = 83) COMMENT 'Basis for last',
    total_volume Int64 COMMENT 'Volume of the day after the print, shares or contracts; -1 none',
    bid Nullable(Decimal(18, 9)) COMMENT 'Best bid at the print',
    ask Nullable(Decimal(18, 9)) COMMENT 'Best ask at the print',
    trade_date Date COMMENT 'Exchange date (New York) of ts_event; session_date where ts_event is NULL'
)
AS
SELECT
    stream, session_date, seq, symbol, source, ts_event, ts_recv, price, size, market_center, conditions, tick_id,
    aggressor, day_code, basis, total_volume, bid, ask, trade_date
FROM {database}.trades
WHERE NOT endsWith(stream, '-repair-history')
UNION ALL
SELECT
    if(home.live_stream = '', lone.stream, home.live_stream) AS stream, lone.session_date AS session_date, lone.seq AS seq,
    lone.symbol AS symbol, lone.source AS source, lone.ts_event AS ts_event, lone.ts_recv AS ts_recv, lone.price AS price,
    lone.size AS size, lone.market_center AS market_center, lone.conditions AS conditions, lone.tick_id AS tick_id,
    lone.aggressor AS aggressor, lone.day_code AS day_code, lone.basis AS basis, lone.total_volume AS total_volume,
    lone.bid AS bid, lone.ask AS ask, lone.trade_date AS trade_date
FROM (
    SELECT
        repaired.vendor AS vendor, repaired.stream AS stream, repaired.session_date AS session_date, repaired.seq AS seq,
        repaired.symbol AS symbol, repaired.source AS source, repaired.ts_event AS ts_event, repaired.ts_recv AS ts_recv,
        repaired.price AS price, repaired.size AS size, repaired.market_center AS market_center,
        repaired.conditions AS conditions, repaired.tick_id AS tick_id, repaired.aggressor AS aggressor,
        repaired.day_code AS day_code, repaired.basis AS basis, repaired.total_volume AS total_volume, repaired.bid AS bid,
        repaired.ask AS ask, repaired.trade_date AS trade_date
    FROM (
        SELECT session_date, symbol, ts_event, market_center, tick_id, size FROM {database}.trades WHERE source = 'live'
    ) AS came
    RIGHT ANTI JOIN (
        SELECT *, splitByChar('-', toString(stream))[1] AS vendor FROM {database}.trades WHERE endsWith(stream, '-repair-history')
    ) AS repaired
    ON came.session_date = repaired.session_date AND came.symbol = repaired.symbol AND came.ts_event = repaired.ts_event
        AND came.market_center = repaired.market_center AND came.tick_id = repaired.tick_id AND came.size = repaired.size
) AS lone
LEFT JOIN (
    SELECT session_date, symbol, splitByChar('-', toString(stream))[1] AS vendor, min(toString(stream)) AS live_stream
    FROM {database}.trades
    WHERE source = 'live'
    GROUP BY session_date, symbol, vendor
) AS home
ON home.session_date = lone.session_date AND home.symbol = lone.symbol AND home.vendor = lone.vendor
COMMENT 'Every print once: prints of repaired gaps stand in the live stream of their symbol, unless they came live after all';

CREATE VIEW IF NOT EXISTS {database}.bar_prints
(
    stream LowCardinality(String) COMMENT 'Capture that the prints come from; its repaired gaps are in it',
    session_date Date COMMENT 'Session of the print',
    symbol LowCardinality(String) COMMENT 'Instrument as the feed names it',
    source LowCardinality(String) COMMENT 'live, import or history: that of the stream',
    seq UInt64 COMMENT 'Seq number of the line in the journal of the capture that the row comes from',
    place UInt128 COMMENT 'Time of the print, ns, then seq: their order where a repair brought some of them',
    mended Bool COMMENT 'A repair brought the print into a live stream',
    ts_event Nullable(DateTime64(9, 'UTC')) COMMENT 'Time that the feed gives, UTC, ns; NULL where it gives none',
    trade_date Date COMMENT 'Exchange date (New York) of ts_event; session_date where ts_event is NULL',
    basis Enum8('none' = 0, 'last' = 67, 'extended' = 69, 'other' = 79, 'settle' = 83) COMMENT 'Basis for last',
    price Decimal(18, 9) COMMENT 'Price of the print, exact, currency units',
    size Int64 COMMENT 'Size of the print, shares or contracts',
    day_volume Int64 COMMENT 'Volume of the day after the print, shares or contracts; -1 none'
)
AS
SELECT
    stream, session_date, symbol,
    multiIf(endsWith(stream, '-history'), 'history', position(stream, '-import-') > 0, 'import', 'live') AS source,
    seq, bitShiftLeft(toUInt128(toUnixTimestamp64Nano(ifNull(ts_event, ts_recv))), 64) + seq AS place,
    prints.source = 'history' AND NOT endsWith(stream, '-history') AS mended,
    ts_event, trade_date, basis, price, size, total_volume AS day_volume
FROM {database}.prints AS prints
COMMENT 'Every print once, with its place in a bar: what bars of every length are made of';

CREATE OR REPLACE VIEW {database}.bars_1s
(
    stream LowCardinality(String) COMMENT 'Capture that the prints come from; its repaired gaps are in it',
    session_date Date COMMENT 'Session of the prints',
    symbol LowCardinality(String) COMMENT 'Instrument as the feed names it',
    source LowCardinality(String) COMMENT 'live, import or history: that of the stream',
    ts_begin DateTime('UTC') COMMENT 'Begin of the second, UTC',
    open Decimal(18, 9) COMMENT 'First price, exact, currency units',
    high Decimal(18, 9) COMMENT 'Greatest price',
    low Decimal(18, 9) COMMENT 'Least price',
    close Decimal(18, 9) COMMENT 'Last price',
    volume Int64 COMMENT 'Sum of the sizes, shares or contracts',
    total_volume Int64 COMMENT 'Volume of the day after the last print of the bar, O prints included; -1 none',
    trade_count UInt64 COMMENT 'Prints'
)
AS
SELECT
    stream, session_date, symbol, source,
    toDateTime(toStartOfSecond(assumeNotNull(ts_event)), 'UTC') AS ts_begin,
    if(max(mended), argMin(price, place), argMin(price, seq)) AS open, max(price) AS high, min(price) AS low,
    if(max(mended), argMax(price, place), argMax(price, seq)) AS close,
    sum(size) AS volume, if(max(mended), argMax(day_volume, place), argMax(day_volume, seq)) AS total_volume, count() AS trade_count
FROM {database}.bar_prints
WHERE basis IN ('last', 'extended') AND ts_event IS NOT NULL
GROUP BY stream, session_date, symbol, source, ts_begin
COMMENT 'Second bars of every print once, by IQFeed\'s own rule (C and E prints), labelled by their begin';

CREATE OR REPLACE VIEW {database}.bars_5s
(
    stream LowCardinality(String) COMMENT 'Capture that the prints come from; its repaired gaps are in it',
    session_date Date COMMENT 'Session of the prints',
    symbol LowCardinality(String) COMMENT 'Instrument as the feed names it',
    source LowCardinality(String) COMMENT 'live, import or history: that of the stream',
    ts_begin DateTime('UTC') COMMENT 'Begin of the five seconds, UTC',
    open Decimal(18, 9) COMMENT 'First price, exact, currency units',
    high Decimal(18, 9) COMMENT 'Greatest price',
    low Decimal(18, 9) COMMENT 'Least price',
    close Decimal(18, 9) COMMENT 'Last price',
    volume Int64 COMMENT 'Sum of the sizes, shares or contracts',
    total_volume Int64 COMMENT 'Volume of the day after the last print of the bar, O prints included; -1 none',
    trade_count UInt64 COMMENT 'Prints'
)
AS
SELECT
    stream, session_date, symbol, source,
    toStartOfInterval(toDateTime(assumeNotNull(ts_event), 'UTC'), INTERVAL 5 SECOND) AS ts_begin,
    if(max(mended), argMin(price, place), argMin(price, seq)) AS open, max(price) AS high, min(price) AS low,
    if(max(mended), argMax(price, place), argMax(price, seq)) AS close,
    sum(size) AS volume, if(max(mended), argMax(day_volume, place), argMax(day_volume, seq)) AS total_volume, count() AS trade_count
FROM {database}.bar_prints
WHERE basis IN ('last', 'extended') AND ts_event IS NOT NULL
GROUP BY stream, session_date, symbol, source, ts_begin
COMMENT 'Five-second bars of every print once, by IQFeed\'s own rule (C and E prints), labelled by their begin';

CREATE OR REPLACE VIEW {database}.bars_1m
(
    stream LowCardinality(String) COMMENT 'Capture that the prints come from; its repaired gaps are in it',
    session_date Date COMMENT 'Session of the prints',
    symbol LowCardinality(String) COMMENT 'Instrument as the feed names it',
    source LowCardinality(String) COMMENT 'live, import or history: that of the stream',
    ts_begin DateTime('UTC') COMMENT 'Begin of the minute, UTC',
    open Decimal(18, 9) COMMENT 'First price, exact, currency units',
    high Decimal(18, 9) COMMENT 'Greatest price',
    low Decimal(18, 9) COMMENT 'Least price',
    close Decimal(18, 9) COMMENT 'Last price',
    volume Int64 COMMENT 'Sum of the sizes, shares or contracts',
    trade_count UInt64 COMMENT 'Prints'
)
AS
SELECT
    stream, session_date, symbol, source,
    toStartOfMinute(assumeNotNull(ts_event)) AS ts_begin,
    if(max(mended), argMin(price, place), argMin(price, seq)) AS open, max(price) AS high, min(price) AS low,
    if(max(mended), argMax(price, place), argMax(price, seq)) AS close,
    sum(size) AS volume, count() AS trade_count
FROM {database}.bar_prints
WHERE basis IN ('last', 'extended') AND ts_event IS NOT NULL
GROUP BY stream, session_date, symbol, source, ts_begin
COMMENT 'Minute bars of every print once, by IQFeed\'s own rule (C and E prints), labelled by their begin';

CREATE OR REPLACE VIEW {database}.bars_daily
(
    stream LowCardinality(String) COMMENT 'Capture that the prints come from; its repaired gaps are in it',
    session_date Date COMMENT 'Session of the prints',
    symbol LowCardinality(String) COMMENT 'Instrument as the feed names it',
    source LowCardinality(String) COMMENT 'live, import or history: that of the stream',
    trade_date Date COMMENT 'Exchange date (New York)',
    open Decimal(18, 9) COMMENT 'First price of the C prints, exact, currency units',
    high Decimal(18, 9) COMMENT 'Greatest price of the C prints',
    low Decimal(18, 9) COMMENT 'Least price of the C prints',
    close Decimal(18, 9) COMMENT 'Last price of the C prints',
    volume Int64 COMMENT 'Sum of the sizes of C, E and O prints, shares or contracts',
    trade_count UInt64 COMMENT 'C, E and O prints'
)
AS
SELECT
    stream, session_date, symbol, source,
    trade_date,
    if(max(mended), argMinIf(price, place, basis = 'last'), argMinIf(price, seq, basis = 'last')) AS open,
    maxIf(price, basis = 'last') AS high, minIf(price, basis = 'last') AS low,
    if(max(mended), argMaxIf(price, place, basis = 'last'), argMaxIf(price, seq, basis = 'last')) AS close,
    sum(size) AS volume, count() AS trade_count
FROM {database}.bar_prints
WHERE basis IN ('last', 'extended', 'other')
GROUP BY stream, session_date, symbol, source, trade_date
HAVING countIf(basis = 'last') > 0
COMMENT 'Daily bars of every print once, by IQFeed\'s own rule: prices of C prints, volume of C, E and O prints';
