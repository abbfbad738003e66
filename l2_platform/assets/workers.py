"""The processes as assets: one external asset per collector, delivery and service, with its `alive` check.

They run outside Dagster, under the process manager; sensor `worker_health` reports for them. What does not belong here: the rule
what alive means (`liveness.py`), starting and stopping (`jobs.py`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import dagster as dg

from l2_platform.assets.liveness import Verdict, judge, pulse_of
from l2_platform.clock import Clock
from l2_platform.monitoring.heartbeat import read_heartbeat
from l2_platform.settings import Settings

ALIVE: Final = "alive"
OWNER: Final = "team:market-data"
COLLECT, RECORD, TABLES = "collect", "record", "tables"
"""Groups, in the order of the flow."""


@dataclass(frozen=True, slots=True)
class Worker:
    """One process and its place in the catalog."""

    name: str
    """Name of the process, its heartbeat and its log."""
    asset_key: dg.AssetKey
    description: str
    group: str
    kinds: frozenset[str]
    deps: tuple[dg.AssetKey, ...] = ()
    is_collector: bool = False
    """Obeys a desired state: stopping it means standby."""


def list_workers(settings: Settings) -> list[Worker]:
    """Every worker of these settings, in the order of the flow."""
    workers = [_simulator()] if settings.feed.kind == "simulated" else []
    feed = tuple(worker.asset_key for worker in workers)
    workers += [_collector(stream, settings, feed) for stream in settings.streams]
    workers.append(_sealer())
    if settings.clickhouse.enabled:
        workers.append(_delivery("clickhouse", "tables in ClickHouse (database " + settings.clickhouse.database + ")"))
    if settings.jsonl.enabled:
        workers.append(_delivery("jsonl", "JSONL files under jsonl/live/YYYYMMDD/"))
    if settings.clickhouse.enabled and settings.clickhouse.embedded:
        workers.append(_warehouse())
    return workers


def build_worker_specs(workers: list[Worker], settings: Settings) -> list[dg.AssetSpec]:
    """The external assets."""
    return [
        dg.AssetSpec(
            worker.asset_key, description=worker.description, group_name=worker.group, owners=[OWNER], kinds=set(worker.kinds),
            deps=list(worker.deps), tags={"l2/worker": worker.name},
            metadata={
                "log": dg.MetadataValue.path(settings.log_dir / f"{worker.name}.log"),
                "heartbeat": dg.MetadataValue.path(settings.run_dir / "heartbeats" / f"{worker.name}.json"),
            },
        )
        for worker in workers
    ]  # fmt: skip


def build_alive_checks(workers: list[Worker], settings: Settings, clock: Clock) -> list[dg.AssetChecksDefinition]:
    """One check each; the sensor reports it, its button in the UI evaluates it at once."""
    return [_alive_check(worker, settings, clock) for worker in workers]


def _alive_check(worker: Worker, settings: Settings, clock: Clock) -> dg.AssetChecksDefinition:
    @dg.asset_check(
        asset=worker.asset_key,
        name=ALIVE,
        description=f"Process {worker.name} exists, beats (≤ {settings.supervision.hung_s:g} s) and can do its work.",
    )
    def alive() -> dg.AssetCheckResult:
        record = read_heartbeat(settings.run_dir / "heartbeats" / f"{worker.name}.json")
        verdict = judge(worker.name, pulse_of(record, clock.now_ns()), settings.supervision.hung_s)
        return dg.AssetCheckResult(
            passed=verdict.passed, description=verdict.message, metadata=check_metadata(worker, verdict),
            severity=dg.AssetCheckSeverity.ERROR if verdict.serious or verdict.passed else dg.AssetCheckSeverity.WARN,
        )  # fmt: skip

    return alive


def check_metadata(worker: Worker, verdict: Verdict) -> dict[str, dg.MetadataValue]:
    """What a check shows beside its message."""
    return {"state": dg.MetadataValue.text(verdict.state), "worker": dg.MetadataValue.text(worker.name)}


def number_metadata(numbers: Mapping[str, int | float]) -> dict[str, dg.MetadataValue]:
    """Numbers as metadata that the UI plots over time."""
    return {
        name: dg.MetadataValue.float(value) if isinstance(value, float) else dg.MetadataValue.int(value)
        for name, value in numbers.items()
    }


def _description(what: str, name: str, red: str = "") -> str:
    # Plain text: the catalog's list shows a description unrendered.
    return (
        f"{what} Process {name}; log logs/{name}.log, heartbeat run/heartbeats/{name}.json (under L2_HOME). "
        f"When red: read the message of check alive and the log; restart with job control_workers (l2 status shows all). {red}"
    ).strip()


def _simulator() -> Worker:
    what = "The simulated market: an IQConnect look-alike that the collectors connect to."
    red = "While it is down the collectors reconnect and record a gap."
    key = dg.AssetKey(["feeds", "simulator"])
    return Worker("simulator", key, _description(what, "simulator", red), COLLECT, frozenset({"tcp", "python"}))


def _collector(stream: str, settings: Settings, feed: tuple[dg.AssetKey, ...]) -> Worker:
    name = f"collector-{stream}"
    origin = "the simulated market" if settings.feed.kind == "simulated" else f"IQConnect at {settings.feed.host}"
    what = f"Writes every byte of {stream} from {origin} to the journal (journal/{stream}/YYYYMMDD/)."
    red = "Bytes that are not received while it is down are a recorded gap."
    key = dg.AssetKey(["collectors", stream])
    return Worker(name, key, _description(what, name, red), COLLECT, frozenset({"iqfeed", "tcp"}), feed, True)


def _sealer() -> Worker:
    what = "Compresses closed journal segments, checks them and chains their hashes (manifest.jsonl)."
    red = "Nothing is lost while it is down; the journal only takes more room."
    key = dg.AssetKey(["services", "sealer"])
    return Worker(
        "sealer", key, _description(what, "sealer", red), RECORD, frozenset({"python"}), (dg.AssetKey("journal"),)
    )


def _delivery(sink: str, where: str) -> Worker:
    name = f"deliver-{sink}"
    what = f"Decodes the journal, rebuilds the books and writes {where}."
    red = "Nothing is lost while it is down: it goes on where it stopped."
    kinds = frozenset({"clickhouse" if sink == "clickhouse" else "json", "python"})
    key = dg.AssetKey(["deliveries", sink])
    return Worker(name, key, _description(what, name, red), RECORD, kinds, (dg.AssetKey("journal"),))


def _warehouse() -> Worker:
    what = "The embedded ClickHouse engine, served on ClickHouse's HTTP interface (data in warehouse/)."
    red = "Recording goes on in the journal; the tables catch up afterwards."
    key = dg.AssetKey("warehouse")
    deps = (dg.AssetKey(["deliveries", "clickhouse"]),)
    return Worker("warehouse", key, _description(what, "warehouse", red), RECORD, frozenset({"clickhouse"}), deps)
