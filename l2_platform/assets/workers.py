"""The processes as assets: one external asset per collector, delivery and service, with its `alive` check.

They run outside Dagster, under the process manager; sensor `collector_supervisor` reports for them. What does not belong here: the
rules of the checks (`liveness.py`), starting and stopping (`jobs.py`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import dagster as dg

from l2_platform.assets.liveness import Verdict
from l2_platform.settings import Settings

OWNER: Final = "team:market-data"
MANAGER_KEY: Final = dg.AssetKey(["services", "process_manager"])
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
    """Reads a feed."""
    follows: bool = False
    """Obeys a desired state by itself: stopping it means standby."""


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


def build_manager_spec(settings: Settings) -> dg.AssetSpec:
    """The process manager: no worker, but what keeps them alive."""
    return dg.AssetSpec(
        MANAGER_KEY, group_name=RECORD, owners=[OWNER], kinds={"python"},
        description=(
            "The process manager (supervisord): starts every process of this instance again when it ends. When red: what runs goes "
            "on, but nothing that dies comes back; run `l2 up`. Log logs/supervisord.log (under L2_HOME)."
        ),
        metadata={"log": dg.MetadataValue.path(settings.log_dir / "supervisord.log")},
    )  # fmt: skip


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


def check_metadata(worker: str, verdict: Verdict) -> dict[str, dg.MetadataValue]:
    """What a check shows beside its message."""
    return {"state": dg.MetadataValue.text(verdict.state), "worker": dg.MetadataValue.text(worker)}


def severity_of(verdict: Verdict) -> dg.AssetCheckSeverity:
    """ERROR turns the asset red; a warning does not."""
    return dg.AssetCheckSeverity.ERROR if verdict.serious or verdict.passed else dg.AssetCheckSeverity.WARN


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
        f"When red: read the message of check alive and the log; restart with job control_collector (l2 status shows all). {red}"
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
    return Worker(name, key, _description(what, name, red), COLLECT, frozenset({"iqfeed", "tcp"}), feed, True, True)


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
    return Worker(name, key, _description(what, name, red), RECORD, kinds, (dg.AssetKey("journal"),), follows=True)


def _warehouse() -> Worker:
    what = "The embedded ClickHouse engine, served on ClickHouse's HTTP interface (data in warehouse/)."
    red = "Recording goes on in the journal; the tables catch up afterwards."
    key = dg.AssetKey("warehouse")
    deps = (dg.AssetKey(["deliveries", "clickhouse"]),)
    return Worker("warehouse", key, _description(what, "warehouse", red), RECORD, frozenset({"clickhouse"}), deps)
