"""Jobs: `control_collector` (start, stop, restart …; every intervention is a run that can be read later) and `measure_day`."""

import difflib
from collections.abc import Sequence
from typing import Final

import dagster as dg
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition
from pydantic import Field

from l2_platform.assets.workers import Worker
from l2_platform.errors import ConfigError, L2Error
from l2_platform.resources.process_manager import ProcessManagerResource
from l2_platform.resources.worker_control import Action

CONTROL: Final = "control_collector"
"""Name of the job that people and supervision use."""
CONTROL_POOL: Final = "worker_control"
"""One intervention at a time."""
RUN_S_MAX: Final = 120
"""A control run that takes longer is ended, s."""
MEASURE_RUN_S_MAX: Final = 1800
"""A measuring run that takes longer is ended, s."""


class ControlConfig(dg.Config):
    """What to do with which workers."""

    workers: list[str] = Field(
        description="Names of workers, as in the heartbeat files, or `all-collectors`, `all-deliveries`."
    )
    action: Action = Field(
        description=(
            "start: run and work. stop: a collector or delivery stands by, other processes end; it stays so until a start. "
            "restart: a fresh process. clear: end a crash loop. roll: take over the desired state, live if it can."
        )
    )
    generation: int | None = Field(
        default=None,
        description="Leave it out. Set by supervision: do nothing when the desired state is not this one any more.",
    )


def choose_workers(wanted: list[str], workers: list[Worker]) -> list[Worker]:
    """The workers of these names, in the order of the flow; ConfigError names the nearest valid name."""
    by_name = {worker.name: worker for worker in workers}
    groups = {
        "all-collectors": [worker.name for worker in workers if worker.is_collector],
        "all-deliveries": [worker.name for worker in workers if worker.name.startswith("deliver-")],
    }
    names: set[str] = set()
    for name in wanted:
        if name not in by_name and name not in groups:
            near = difflib.get_close_matches(name, [*by_name, *groups], n=1, cutoff=0.3)
            hint = f"; did you mean {near[0]}?" if near else "."
            raise ConfigError(f"there is no worker {name!r}{hint} Workers: {', '.join([*by_name, *groups])}")
        names.update(groups.get(name, [name]))
    if not names:
        raise ConfigError(f"name at least one worker: {', '.join([*by_name, *groups])}")
    return [worker for worker in workers if worker.name in names]


def build_control_job(workers: list[Worker]) -> dg.JobDefinition:
    """Job `control_collector`: succeeds only after it saw the heartbeat reach the wanted state."""
    names = ", ".join(worker.name for worker in workers)

    @dg.op(
        name="control",
        description=f"Acts through the process manager and waits for the heartbeat. Workers: {names}.",
        pool=CONTROL_POOL,
    )
    def control(context: dg.OpExecutionContext, config: ControlConfig, process_manager: ProcessManagerResource) -> None:
        try:
            chosen = choose_workers(config.workers, workers)
            hand = process_manager.control()
            for worker in chosen:
                context.log.info("%s: %s; before: %s", worker.name, config.action.value, hand.look(worker.name))
                supervised = config.generation is not None
                if config.generation is not None and hand.is_stale(worker.name, config.generation):
                    context.log.info("%s: its desired state changed meanwhile; nothing was done", worker.name)
                    continue
                seen = hand.act(worker.name, config.action, follows=worker.follows, supervised=supervised)
                context.log.info("%s: %s seen: %s", worker.name, config.action.value, seen)
        except L2Error as error:
            # tried again by itself an intervention would only repeat; a person reads what was seen
            raise dg.Failure(error.message, allow_retries=False) from error

    @dg.job(
        name=CONTROL,
        description="Start, stop, restart, clear or roll any worker. Ends well only when the worker's own heartbeat shows it.",
        executor_def=dg.in_process_executor,
        # what the launchpad shows first: names to edit, and an action that harms nobody
        config=dg.RunConfig(ops={"control": ControlConfig(workers=[workers[0].name], action=Action.start)}),
        tags={"dagster/max_runtime": str(RUN_S_MAX), "dagster/priority": "10", "dagster/max_retries": "0"},
    )
    def control_collector() -> None:
        control()

    return control_collector


def build_measure_job(
    assets: list[dg.AssetsDefinition], but: Sequence[dg.AssetChecksDefinition]
) -> UnresolvedAssetJobDefinition:
    """Job `measure_day`: the journal, then every table, of one session date; `but`: checks that only a date that is over can keep."""
    chosen: dg.AssetSelection = dg.AssetSelection.assets(*assets)
    return dg.define_asset_job(
        "measure_day",
        selection=chosen - dg.AssetSelection.checks(*but) if but else chosen,
        description="Measures and checks the journal and every table of one session date; changes nothing.",
        executor_def=dg.in_process_executor,
        tags={"dagster/max_runtime": str(MEASURE_RUN_S_MAX)},
    )  # fmt: skip
