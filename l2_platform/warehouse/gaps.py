"""The ledger of gaps, for one session date."""

from datetime import date

from clickhouse_connect.driver.client import Client


def gaps_of(client: Client, database: str, session_date: date, now_ns: int) -> list[tuple[str, bool, float, str]]:
    """(stream, still open, seconds, cause) of each unexplained gap in which something was lost, oldest first.

    An open one lasts until `now_ns`.
    """
    sql = f"""
        SELECT stream, state = 'open', toUnixTimestamp64Nano(ts_from),
               if(ts_to IS NULL, NULL, toUnixTimestamp64Nano(assumeNotNull(ts_to))), cause
        FROM {database}.gaps WHERE session_date = {{day:Date}} AND state != 'withdrawn' AND explanation = '' ORDER BY ts_from"""  # noqa: S608 - name is ours
    rows = client.query(sql, parameters={"day": session_date}).result_rows
    return [
        (str(stream), bool(is_open), max(0.0, ((now_ns if end is None else int(end)) - int(begin)) / 1e9), str(cause))
        for stream, is_open, begin, end, cause in rows
    ]
