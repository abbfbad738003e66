"""Job `replay_day`: a stored day played again, to IQFeed clients or to a Kafka topic."""

from enum import StrEnum
from typing import Any, Final

import dagster as dg
from pydantic import Field

from l2_platform.assets.failures import explained_failures
from l2_platform.replay.child import ReplayWish, run_child
from l2_platform.resources.journal import JournalResource

RUN_S_MAX: Final = 86_400
"""A replay that takes longer is ended, s."""


class ReplayTarget(StrEnum):
    """Who gets the lines."""

    iqfeed = "iqfeed"
    kafka = "kafka"


class ReplayConfig(dg.Config):
    """What to play, how fast, to whom."""

    date: str = Field(description="Session date, e.g. 2026-11-20.")
    symbols: list[str] = Field(default=[], description="Only these; none named: all.")
    streams: list[str] = Field(default=[], description="Only these streams; none named: every live depth and Level 1 stream of the date.")
    speed: str = Field(default="1", description="Times the original pace, 0.01 to 100,000, or max.")
    begin: str = Field(default="", description="From this time on: 10:30:00 New York time, or a whole instant. Empty: the beginning.")
    end: str = Field(default="", description="Up to this time, written as `begin`. Empty: the end.")
    target: ReplayTarget = Field(
        default=ReplayTarget.iqfeed, description="iqfeed: IQConnect's ports on 127.0.0.1. kafka: JSON records to `topic`."
    )
    port_base: int = Field(
        default=21_000, ge=0, le=65_000, description="iqfeed: Level 1 on this + 9, Level 2 + 20, admin + 30, commands + 39."
    )
    clients: int = Field(default=1, ge=0, le=1000, description="iqfeed: begin when so many clients watch something; 0: at once.")
    topic: str = Field(default="", description="kafka: the topic; brokers are in the settings (kafka.bootstrap).")


def build_replay_job() -> dg.JobDefinition:
    """The job; one run is one child process, which ends with the run."""

    @dg.op(
        name="replay", description="Runs l2 replay as a child process. Cancel the run to stop it; it says how far it came each 5 s.",
        out=dg.Out(dg.Nothing), pool="replay",
    )  # fmt: skip
    def replay(context: dg.OpExecutionContext, config: ReplayConfig, journal: JournalResource) -> None:
        wish = ReplayWish(
            config.date, config.target.value, tuple(config.symbols), tuple(config.streams), config.speed, config.begin, config.end,
            config.port_base, config.clients, config.topic,
        )  # fmt: skip
        with explained_failures(f"replay of {config.date}"):
            result = run_child(journal.settings, wish, context.log.info)
        context.add_output_metadata(replay_metadata(result))

    @dg.job(
        name="replay_day",
        description=(
            "Plays a stored day again at its own pace: over IQFeed's protocol on ports of its own (backtests, other IQFeed clients), or "
            "to a Kafka topic. Deterministic: the digests equal those of `l2 journal digest`."
        ),
        executor_def=dg.in_process_executor,
        config=dg.RunConfig(ops={"replay": ReplayConfig(date="2026-01-02", speed="10")}),
        tags={"dagster/max_runtime": str(RUN_S_MAX), "dagster/max_retries": "0"},
    )
    def replay_day() -> None:
        replay()

    return replay_day


def replay_metadata(result: dict[str, Any]) -> dict[str, dg.MetadataValue]:
    """What a run shows: lines, digests, lateness, clients, damage."""
    late = result["late"]
    rows = [
        dg.TableRecord({"stream": name, "market lines": row["lines"], "left out": row["talk"] + row["torn"], "sha256": row["sha256"]})
        for name, row in result["streams"].items()
    ]  # fmt: skip
    found: dict[str, dg.MetadataValue] = {
        "lines": dg.MetadataValue.int(result["lines"]), "clients": dg.MetadataValue.int(result["clients"]),
        "clients_cut": dg.MetadataValue.int(result["cut"]), "seconds": dg.MetadataValue.float(float(result["seconds"])),
        "late_p50_ms": dg.MetadataValue.float(float(late["p50_ms"])), "late_p99_ms": dg.MetadataValue.float(float(late["p99_ms"])),
        "late_max_ms": dg.MetadataValue.float(float(late["max_ms"])), "damaged_places": dg.MetadataValue.int(result["damaged"]),
        "digests": dg.MetadataValue.table(rows), "check_with": dg.MetadataValue.md("`l2 journal digest STREAM --date DATE`"),
    }  # fmt: skip
    if "records" in result:
        found["records"] = dg.MetadataValue.int(result["records"])
    if result["damage"]:
        found["damage"] = dg.MetadataValue.text("\n".join(result["damage"]))
    return found
