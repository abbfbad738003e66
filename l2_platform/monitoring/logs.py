"""Logs of a process: structlog and standard-library records through one renderer, to stderr.

An event is a short snake_case fact (`batch_written`), details are fields. Never one line per market event: counters,
plus one line per batch or minute. The process manager keeps and rotates what is written here
(`home/logs/<process>.log`). What does not belong here: logging in the pure layers (they return facts) and in the
collector (plain lines, no structlog).
"""

import logging
import sys
from typing import TYPE_CHECKING

import structlog

from l2_platform.settings import LogSettings

if TYPE_CHECKING:
    from structlog.typing import Processor


def configure_logging(process: str, settings: LogSettings) -> None:
    """Set up logging once, at the edge of a process; `process` is bound to every line."""
    on_terminal = sys.stderr.isatty()
    as_json = settings.format == "json" or (settings.format == "auto" and not on_terminal)
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="ts"),
        structlog.processors.StackInfoRenderer(),
    ]
    renderer: list[Processor] = (
        [_exceptions_without_locals(), structlog.processors.JSONRenderer()]
        if as_json
        else [structlog.dev.ConsoleRenderer(colors=on_terminal)]
    )
    structlog.configure(
        processors=[structlog.stdlib.filter_by_level, *shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.level)
    structlog.contextvars.bind_contextvars(process=process)


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    """A logger whose lines carry `logger: name`; use after `configure_logging`."""
    logger: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(name)
    return logger


def _exceptions_without_locals() -> "Processor":
    # local variables may hold a password
    return structlog.processors.ExceptionRenderer(structlog.tracebacks.ExceptionDictTransformer(show_locals=False))
