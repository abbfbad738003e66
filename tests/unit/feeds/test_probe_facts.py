"""What the probe concludes from lines."""

from l2_platform.feeds.iqfeed.probe_facts import NOT_SEEN, ClockFacts, Level1Facts, Level2Facts

NAMES = ("Symbol", "Message Contents", "TickID", "Most Recent Trade Market Center", "Most Recent Trade Date")
SECOND = 1_000_000_000


def answers(facts) -> dict[str, str]:
    return {finding.fact: finding.answer for finding in facts.findings()}


def level1(*lines: str) -> dict[str, str]:
    facts = Level1Facts()
    facts.names = NAMES
    for line in lines:
        facts.see(line)
    return answers(facts)


def test_tick_id_rule_per_market_center():
    found = level1(*(f"Q,A,C,{n},{c},07/16/2025," for n in range(1, 9) for c in (11, 19)))
    assert found["TickID rule"] == "per_market_center"
    assert found["trade dates on Level 1"] == "MM/DD/YYYY"
    assert found["trailing comma on Level 1"] == "always"


def test_tick_id_rule_per_symbol():
    assert level1(*(f"Q,A,O,{n},{n % 2},," for n in range(1, 9)))["TickID rule"] == "per_symbol"


def test_tick_id_rule_neither_and_quotes_are_no_trades():
    assert level1("Q,A,C,5,1,,", "Q,A,C,9,1,,", "Q,A,ba,10,1,,")["TickID rule"] == "none"
    assert level1("Q,A,ba,5,1,,", "Q,A,ba,6,1,,")["TickID rule"] == NOT_SEEN


def test_correction_layouts_are_told_apart():
    assert (
        level1("C,SPY,I,O,07/16/2025,,619.0500,15000,859256116,198944,24,")["layout of trade corrections"]
        == "with trade type"
    )
    assert level1("C,SPY,X,,,,619.0500,15000,1296380724,,19,")["layout of trade corrections"] == "with trade type"
    two = level1("C,AAPL,I,03/30/2021,19:59:14.503633,183.3600,13,101123,8801,17", "C,X")
    assert two["layout of trade corrections"] == "without trade type, unknown"


def level2(*lines: str) -> Level2Facts:
    facts = Level2Facts()
    for number, line in enumerate(lines):
        facts.see(line, number * SECOND)
    return facts


def test_shapes_of_depth():
    facts = level2(
        "6,@ES,649948133402,,B,4536.25,3,12440218202,2,20:32:47.333543,2021-10-24,",
        "6,QQQ,,AMEX,A,408.8400,100,,4,17:52:38.059128,2022-04-01,",
        "7,@NQ,B,2938.25,65,11,2,20:31:04.876740,2019-04-23,",
        "q,NONE",
        "Z,OLD,MD01,2982.25,2982.5,99,238,12:49:52.696621,2019-10-18,52,12:49:52.541104,T,T,F,",
    )
    shapes = {symbol: facts.shape(symbol) for symbol in ("@ES", "QQQ", "@NQ", "NONE", "OLD", "?")}
    assert shapes == {"@ES": "orders", "QQQ": "venues", "@NQ": "levels", "NONE": "none", "OLD": "legacy", "?": NOT_SEEN}


def test_end_of_snapshot_by_update_or_clock():
    row = "6,{},,AMEX,A,1,100,,4,17:52:38.059128,2022-04-01,"
    facts = level2(
        row.format("A"), "4,A,,AMEX,A,2,100,,4,,2022-04-01,", row.format("B"), "T,20220401 17:52:39", row.format("A")
    )
    found = answers(facts)
    assert found["end of a depth snapshot"] == "update: 1, clock line: 1"
    assert found["rows sent again as snapshot"] == "1"


def test_deletes_with_venue_are_counted():
    found = answers(level2("5,TSLA,,CHXE,B,,2022-04-01,", "5,@ESZ21,648907593934,,A,20:32:47.333543,2021-10-24,"))
    assert found["venue in order deletes"] == "1 of 2 carry a venue"


def test_clock_rate_and_skew():
    facts = ClockFacts()
    for second in range(5):
        facts.see(f"20191018 12:49:5{second}", (1_571_417_390 + second) * SECOND + SECOND // 4)
    found = {finding.fact: finding.answer for finding in facts.findings("Level 1")}
    assert found == {"clock lines on Level 1": "1.00 a second", "clock skew on Level 1": "ours is ahead by 0.25 s"}
