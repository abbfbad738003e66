"""`l2 …`: parse, build, call one service. The edge where errors become one line and an exit code.

Every module of this folder has `register(app)`; importing it must stay cheap (heavy imports live inside the functions), so that
`l2 --help` answers at once.
"""

import errno
import os
import sys
import traceback
from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer
from typer.exceptions import TyperException

from l2_platform import __version__
from l2_platform.clock import SystemClock
from l2_platform.errors import ConfigError, L2Error

EXIT_CODES = (
    "Exit codes: 0 done or healthy · 1 failed, or not everything is healthy · 2 wrong input or settings · "
    "3 the platform is not running · 75 another process owns this worker · 130 interrupted. "
    "Environment: every setting is a variable L2_… (`l2 settings`); L2_HOME is where all data lives."
)
MODULES = (
    "operate", "metrics", "notify", "book", "sql", "gaps", "audit", "quarantine",
    "importing",
    "rebuild",
    "reconcile", "complete", "report",
    "replay",
    "archive", "backfill",
    "journal", "collect", "deliver", "simulate",
    "warehouse", "probe",
)  # fmt: skip
"""In the order of `l2 --help`: what a newcomer needs first."""

MACHINE_ADVICE = {
    errno.EACCES: "change its owner or mode, or choose another L2_HOME",
    errno.EPERM: "change its owner or mode, or choose another L2_HOME",
    errno.EROFS: "choose an L2_HOME that can be written",
    errno.ENOSPC: "free some space, or move L2_HOME (`l2 doctor`)",
    errno.EDQUOT: "free some space, or move L2_HOME (`l2 doctor`)",
    errno.EMFILE: "raise the limit of open files (`ulimit -n`, `l2 doctor`)",
    errno.ENFILE: "raise the limit of open files (`l2 doctor`)",
}
"""What a person does about a refusal of the operating system: no defect of ours."""

app = typer.Typer(
    name="l2",
    help="Records Level 2, Level 1 and trade data, rebuilds order books, and proves that nothing is missing.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def _root(
    _version: Annotated[
        bool,
        typer.Option(
            "--version",
            help="Show the version and end.",
            is_eager=True,
            callback=lambda shown: _show_version(shown=shown),
        ),
    ] = False,
) -> None:
    """Root of the command line."""


def _show_version(*, shown: bool) -> None:
    if shown:
        sys.stdout.write(f"l2-platform {__version__}\n")
        raise typer.Exit


for _module in MODULES:
    import_module(f"{__name__}.{_module}").register(app)


def main() -> None:
    """Entry point of the `l2` command."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run one command line; every error becomes one line on stderr, and the exit code tells its kind."""
    try:
        code = app(arguments, prog_name="l2", standalone_mode=False)
        sys.stdout.flush()
    except L2Error as error:
        return _fail(error.message, error.exit_code)
    except TyperException as error:
        return _refuse(error)
    except (KeyboardInterrupt, typer.Abort):
        return 130
    except BrokenPipeError:
        # The reader of our output has gone (`l2 sql … | head`): nothing to say, and nothing left to flush.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        said = _machine_says(error)
        return _fail(said or f"{type(error).__name__}: {error} (a defect; traceback: {_crash_log()})", 1)
    except Exception as error:  # noqa: BLE001 - the process edge: one line for the person, the traceback in a file
        return _fail(f"{type(error).__name__}: {error} (a defect; traceback: {_crash_log()})", 1)
    return code if isinstance(code, int) else 0


def _machine_says(error: OSError) -> str:
    """One line for what the machine refuses (a read-only or full disk, too many open files); empty for everything else."""
    where = f"{error.filename}: " if isinstance(error.filename, str) and error.filename else ""
    advice = MACHINE_ADVICE.get(error.errno or 0, "")
    home = os.environ.get("L2_HOME", "")
    if not advice and home and isinstance(error, FileNotFoundError | NotADirectoryError | FileExistsError):
        # a folder of ours that cannot be made: `L2_HOME` is below something that is no ordinary folder
        inside = str(error.filename).startswith(str(Path(home).absolute()))
        advice = "L2_HOME cannot be made there; choose another L2_HOME" if inside and not Path(home).is_dir() else ""
    return f"{where}{(error.strerror or str(error)).lower()}; {advice}" if advice else ""


def _fail(message: str, code: int) -> int:
    red, plain = ("\033[31m", "\033[0m") if sys.stderr.isatty() else ("", "")
    sys.stderr.write(f"{red}error:{plain} {message}\n")
    return code


def _refuse(error: TyperException) -> int:
    """A command line that typer does not accept, in one line with the way to its help; a bare group shows its help instead."""
    context = getattr(error, "ctx", None)
    message = error.format_message().strip()
    if "\n" in message or not message:
        sys.stdout.write(f"{message}\n")
        return 2
    path = context.command_path if context is not None else "l2"
    return _fail(f"{message.rstrip('.')} (see `{path} --help`)", 2)


def _crash_log() -> str:
    from l2_platform.settings import load_settings

    try:
        folder = load_settings().log_dir
    except ConfigError:
        folder = Path.cwd()
    path = folder / f"crash-{SystemClock().now_ns()}.log"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        path.write_text(traceback.format_exc(), encoding="utf-8")
    except OSError:
        sys.stderr.write(traceback.format_exc())
        return "above"
    return str(path)
