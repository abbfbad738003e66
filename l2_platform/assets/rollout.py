"""Job `roll_symbols`: which symbols are recorded, changed from the UI in steps that are judged; a bad step takes itself back.

What does not belong here: the steps and their gate (`operations/rollout.py`).
"""

from typing import Final

import dagster as dg
from pydantic import Field

from l2_platform.assets.plots import markdown_table
from l2_platform.errors import L2Error
from l2_platform.operations.rollout import Change, Gate, StepResult
from l2_platform.resources.process_manager import ProcessManagerResource

ROLL_POOL: Final = "roll_symbols"
"""One rollout at a time."""
ROLL_RUN_S_MAX: Final = 3600
"""A rollout that takes longer is ended, and taken back, s."""


class RollSymbolsConfig(dg.Config):
    """What to change, and how careful to be."""

    group: str = Field(default="", description="Group that the added symbols go to; made when it is new.")
    add: list[str] = Field(default_factory=list, description="Symbols to record, as the feed names them (AAPL, @ESZ25).")
    remove: list[str] = Field(default_factory=list, description="Symbols to record no more, whichever group has them.")
    enable_groups: list[str] = Field(default_factory=list, description="Groups to record, all their symbols at once.")
    disable_groups: list[str] = Field(default_factory=list, description="Groups to record no more; they stay in the file.")
    steps: list[int] = Field(
        default_factory=lambda: [10, 100, 1000],
        description="So many of the added symbols are recorded after step 1, 2, 3; the rest follows in a last step.",
    )
    gate_enabled: bool = Field(default=True, description="Look at the health after each step; false: change without looking.")
    gate_wait_s: float = Field(default=60.0, gt=0, le=1800, description="A step that is not good within this is taken back, s.")
    gate_steady_s: float = Field(default=5.0, ge=0, le=600, description="A step must be good for so long, s.")
    lag_s_max: float = Field(default=30.0, gt=0, le=3600, description="Deliveries may be so far behind the journal, s.")
    open_gaps_max: int = Field(default=0, ge=0, le=100, description="Streams that may have an open gap.")


def build_roll_job() -> dg.JobDefinition:
    """The job; fails with what was wrong after it took back what it did."""

    @dg.op(
        name="roll",
        description="Edits the symbols file step by step and looks at collectors and deliveries in between.",
        pool=ROLL_POOL,
    )
    def roll(context: dg.OpExecutionContext, config: RollSymbolsConfig, process_manager: ProcessManagerResource) -> None:
        change = Change(
            config.group, tuple(config.add), tuple(config.remove), tuple(config.enable_groups), tuple(config.disable_groups),
            tuple(config.steps),
        )  # fmt: skip
        gate = Gate(
            config.gate_enabled, config.gate_wait_s, config.gate_steady_s, config.lag_s_max, config.open_gaps_max
        )
        try:
            done = process_manager.rollout().run(change, gate, context.log.info)
        except L2Error as error:
            # tried again by itself a change would only fail again; a person reads what was seen
            raise dg.Failure(error.message, allow_retries=False) from error
        context.add_output_metadata(_metadata(done))

    @dg.job(
        name="roll_symbols",
        description=(
            "Add, remove or switch recorded symbols in steps (10, 100, 1000, all), each judged before the next. A step that is not "
            "good is taken back and the run fails."
        ),
        executor_def=dg.in_process_executor,
        config=dg.RunConfig(ops={"roll": RollSymbolsConfig(group="demo", add=["SYM050", "SYM051"])}),
        tags={"dagster/max_runtime": str(ROLL_RUN_S_MAX), "dagster/priority": "5", "dagster/max_retries": "0"},
    )
    def roll_symbols() -> None:
        roll()

    return roll_symbols


def _metadata(done: list[StepResult]) -> dict[str, dg.MetadataValue]:
    rows = [(step.number, str(step.version), step.symbols, step.waited_s) for step in done]
    table = markdown_table(("step", "version", "symbols", "good after, s"), rows)
    last = done[-1]
    return {
        "steps": dg.MetadataValue.md(table),
        "version": dg.MetadataValue.int(last.version),
        "symbols": dg.MetadataValue.int(last.symbols),
    }
