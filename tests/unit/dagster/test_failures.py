"""Which failure of a step an error becomes, whatever the error says."""

import dagster as dg
import pytest
from clickhouse_connect.driver.exceptions import DatabaseError, OperationalError
from urllib3.exceptions import ProtocolError

from l2_platform.assets.failures import explained_failures

REFUSED = "Received ClickHouse exception, code: 241, server response: Code: 241. DB::Exception: {}\nand more"


@pytest.mark.parametrize(
    ("error", "told", "again"),
    [
        (ConnectionResetError(), "did not answer: ConnectionResetError.", True),
        (ProtocolError(), "did not answer: ProtocolError.", True),
        (OperationalError("Connection refused\nby whom"), "did not answer: Connection refused.", True),
        (OperationalError(""), "did not answer: OperationalError.", True),
        (DatabaseError(""), "refused the query: DatabaseError.", False),
        (OperationalError(REFUSED.format("MEMORY_LIMIT_EXCEEDED")), "refused the query: Received ClickHouse", True),
        (DatabaseError(REFUSED.format("SYNTAX_ERROR")), "refused the query: Received ClickHouse", False),
    ],
    ids=["reset", "protocol", "lost", "lost_silently", "refused_silently", "refused_for_now", "refused"],
)
def test_an_error_of_the_warehouse_is_told_and_tried_again_when_it_may_pass(error: Exception, told: str, *, again: bool) -> None:
    with pytest.raises(dg.Failure) as caught, explained_failures("trades 2026-03-05"):
        raise error
    assert told in (caught.value.description or "")
    assert caught.value.allow_retries is again
