import pytest

from l2_platform.warehouse.errors import QueryFailed, failure_of
from l2_platform.warehouse.statement import parse_statement, takes_body


@pytest.mark.parametrize(
    ("text", "verb", "form"),
    [
        ("SELECT 1", "SELECT", None),
        ("select 1 format JSON", "SELECT", "JSON"),
        ("SELECT 1 FORMAT CSV SETTINGS max_threads = 1", "SELECT", "CSV"),
        ("SELECT 1 AS format FROM t", "SELECT", None),
        ("SELECT ' FORMAT CSV'", "SELECT", None),
        ("-- FORMAT CSV\n/* FORMAT CSV */ (SELECT 1)", "SELECT", None),
        ("SELECT format('{}', 1)", "SELECT", None),
        ("WITH 1 AS x SELECT x;", "WITH", None),
        ("CREATE TABLE t (a Int8) ENGINE = Memory", "CREATE", None),
    ],
)
def test_parse_statement_finds_verb_and_format(text: str, verb: str, form: str | None) -> None:
    statement = parse_statement(text.encode())
    assert (statement.verb, statement.format) == (verb, form)
    assert statement.data is None


@pytest.mark.parametrize(
    ("raw", "head", "form", "data"),
    [
        (b"INSERT INTO t FORMAT Native\n\x01\x00FORMAT CSV", b"INSERT INTO t ", "Native", b"\x01\x00FORMAT CSV"),
        (b"insert into t (a, `format`) format CSV\r\n1\n", b"insert into t (a, `format`) ", "CSV", b"1\n"),
        (b"INSERT INTO t FORMAT TSV 1\n", b"INSERT INTO t ", "TSV", b"1\n"),
        (b"INSERT INTO t FORMAT Native\n\n\n", b"INSERT INTO t ", "Native", b"\n\n"),
        (b"INSERT INTO t SETTINGS a = 'FORMAT X' FORMAT JSONEachRow", b"INSERT INTO t SETTINGS a = 'FORMAT X' ", "JSONEachRow", b""),
    ],
)
def test_parse_statement_of_insert_cuts_off_the_data(raw: bytes, head: bytes, form: str, data: bytes) -> None:
    statement = parse_statement(raw)
    assert (statement.sql, statement.format) == (head, form)
    assert statement.data is not None
    assert bytes(statement.data) == data


@pytest.mark.parametrize("text", ["INSERT INTO t VALUES (1)", "INSERT INTO t SELECT 1 FORMAT CSV", "INSERT INTO t FORMAT Values (1)"])
def test_parse_statement_leaves_other_inserts_to_the_engine(text: str) -> None:
    statement = parse_statement(text.encode())
    assert (statement.sql, statement.data) == (text.encode(), None)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", 62), (" -- nothing", 62), ("SELECT 1; SELECT 2", 62), ("SELECT 1 INTO OUTFILE 'x'", 48),
        ("INSERT INTO t FROM INFILE '/etc/passwd' FORMAT CSV", 48), ("INSERT INTO t FORMAT", 62),
    ],
)  # fmt: skip
def test_parse_statement_refuses_files_and_batches(text: str, code: int) -> None:
    with pytest.raises(QueryFailed) as caught:
        parse_statement(text.encode())
    assert caught.value.code == code


def test_parse_statement_of_kill_names_the_requests_own_id() -> None:
    assert b"log_comment" in parse_statement(b"KILL QUERY WHERE query_id = 'x'").sql


def test_failure_of_keeps_code_text_and_status() -> None:
    failure = failure_of("Streaming: Code: 60. DB::Exception: Table x does not exist. (UNKNOWN_TABLE)")
    assert (failure.code, failure.status) == (60, 404)
    assert failure.message == "Code: 60. DB::Exception: Table x does not exist. (UNKNOWN_TABLE)"
    assert failure_of("boom").code == 1002


@pytest.mark.parametrize(
    ("query", "is_so"),
    [
        (b"INSERT INTO t FORMAT Native", True), (b" insert into t (a) SETTINGS x = 1 FORMAT CSV ;\n", True),
        (b"INSERT INTO t FORMAT CSV 1,2", False), (b"INSERT INTO t VALUES", False), (b"INSERT INTO t SELECT 1", False),
        (b"INSERT INTO t FORMAT", False), (b"SELECT 1 FORMAT Native", False), (b"", False),
    ],
)  # fmt: skip
def test_takes_body_knows_inserts_whose_data_is_the_whole_body(query: bytes, is_so: bool) -> None:
    assert takes_body(query) is is_so
