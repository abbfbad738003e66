"""Our errors as Dagster failures: the one place that decides whether a step is tried again."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import dagster as dg
from clickhouse_connect.driver.exceptions import ClickHouseError, DatabaseError, OperationalError
from urllib3.exceptions import HTTPError

from l2_platform.errors import L2Error, WarehouseError

TRANSIENT_RETRY: Final = dg.RetryPolicy(
    max_retries=3, delay=5, backoff=dg.Backoff.EXPONENTIAL, jitter=dg.Jitter.PLUS_MINUS
)
"""5, 10, 20 s: a warehouse that restarts is back before the last attempt."""

NOT_MADE_YET: Final = ("UNKNOWN_TABLE", "UNKNOWN_DATABASE")
"""ClickHouse's names for a table and a database that do not exist."""
REFUSED: Final = "DB::Exception"
"""In whatever the warehouse itself says of a query."""
PASSING: Final = ("TOO_MANY_SIMULTANEOUS_QUERIES", "MEMORY_LIMIT_EXCEEDED", "TIMEOUT_EXCEEDED", "QUERY_WAS_CANCELLED")
"""ClickHouse's names for refusals that may pass."""


@contextmanager
def explained_failures(what: str) -> Iterator[None]:
    """Turn errors of the platform and of the warehouse inside the block into `dg.Failure` with what to do; retryable ones are retried.

    A run that is terminated ends: a retry policy counts for interrupts too, so that a step would begin again. The end of a process that
    nobody asked to cancel its run stays an interrupt.
    """
    try:
        yield
    except dg.DagsterExecutionInterruptedError as error:
        if not _is_cancelled():
            raise
        raise dg.Failure(f"{what}: the run was terminated; materialize it again to do what is left", allow_retries=False) from error
    except WarehouseError as error:
        raise _warehouse_failure(what, error.message) from error
    except DatabaseError as error:
        # the client makes a connection that was lost a kind of it
        is_lost = isinstance(error, OperationalError) and REFUSED not in str(error)
        raise (_warehouse_failure(what, first_line(error)) if is_lost else _query_failure(what, error)) from error
    except (ClickHouseError, HTTPError, ConnectionError) as error:
        raise _warehouse_failure(what, first_line(error)) from error
    except L2Error as error:
        metadata = {name: dg.MetadataValue.text(str(value)) for name, value in error.facts.items()}
        raise dg.Failure(f"{what}: {error.message}", metadata=metadata, allow_retries=error.retryable) from error


def first_line(error: BaseException) -> str:
    """What an error says first; its kind when it says nothing."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)[:500]


def _is_cancelled() -> bool:
    """Somebody terminated the run that this code belongs to."""
    context = dg.OpExecutionContext.get()
    run = context.instance.get_run_by_id(context.run_id)
    return run is not None and run.status in {dg.DagsterRunStatus.CANCELING, dg.DagsterRunStatus.CANCELED}


def _query_failure(what: str, error: DatabaseError) -> dg.Failure:
    text, message = str(error), first_line(error)
    if any(word in text for word in NOT_MADE_YET):
        return dg.Failure(
            f"{what}: the tables do not exist yet; deliver-clickhouse makes them at its first start. ({message})",
            allow_retries=False,
        )
    return dg.Failure(
        f"{what}: the warehouse refused the query: {message}. Nothing was changed; log: logs/warehouse.log",
        allow_retries=any(word in text for word in PASSING),
    )


def _warehouse_failure(what: str, message: str) -> dg.Failure:
    todo = (
        "Nothing was changed. Look at asset warehouse and its check alive; restart it with job control_collector "
        "(worker warehouse, action restart), then run this again."
    )
    return dg.Failure(
        f"{what}: the warehouse did not answer: {message}. {todo}", metadata={"what_to_do": dg.MetadataValue.text(todo)}
    )
