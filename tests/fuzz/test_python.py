"""Fuzzing of everything in plain Python that takes bytes from outside, guided by the lines that a case reaches.

Injected: mutations of valid inputs, with right and wrong checksums. Checked: no error but those of the contract, no hang (5 s of CPU
time a case), the process grows by no more than 256 MiB. Scale: quick 8 × 300 cases, ci 8 × 5,000, full 8 × 60,000, from seeds that
`FUZZ_SEED` moves, after the stored corpus; `FUZZ_KEEP=folder` writes what reached new lines. The input of a finding is in the note of
its error.
"""

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.faults.scale import scaled
from tests.fuzz.engine import GROWTH_BYTES_MAX, explore, minimised, stored
from tests.fuzz.targets import (
    Fuzzed,
    client_target,
    control_target,
    journal_target,
    protocol_target,
    recogniser_target,
    request_target,
    simulated_market,
    small_files_target,
)

CORPUS = Path(__file__).parent / "corpus"
CASES = scaled(300, 5_000, 60_000)
SEED = int(os.environ.get("FUZZ_SEED", "1"))
KEEP = Path(os.environ["FUZZ_KEEP"]) if "FUZZ_KEEP" in os.environ else None
"""Where inputs that reached something new are written, smallest first: for the stored corpus."""
MAKERS: dict[str, Callable[[Path, ExitStack], Fuzzed]] = {
    "raw": lambda home, _: journal_target(home, packed=False),
    "sealed": lambda home, _: journal_target(home, packed=True),
    "small_files": lambda home, _: small_files_target(home),
    "protocol": lambda _, __: protocol_target(),
    "recogniser": lambda _, __: recogniser_target(),
    "control": lambda _, stack: control_target(stack.enter_context(simulated_market())),
    "client": lambda _, stack: client_target(stack.enter_context(simulated_market())),
    "request": lambda _, __: request_target(),
}


@pytest.fixture
def target(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Fuzzed]:
    with ExitStack() as stack:
        yield MAKERS[request.param](tmp_path, stack)


@pytest.mark.parametrize("target", MAKERS, indirect=True)
def test_the_stored_corpus_and_its_mutations_do_no_harm(
    target: Fuzzed, record_property: Callable[[str, object], None]
) -> None:
    corpus = [*target.seeds, *stored(CORPUS / target.name)]
    done = explore(target.run, corpus, target.files, cases=CASES, seed=SEED, words=target.words)
    assert done.cases >= CASES
    assert done.grown_bytes <= GROWTH_BYTES_MAX
    record_property("fuzz", f"{target.name}: {done.cases} cases, {len(done.edges)} edges, {len(done.kept)} inputs kept")
    if KEEP is not None:
        folder = KEEP / target.name
        folder.mkdir(parents=True, exist_ok=True)
        for data in minimised([*stored(CORPUS / target.name), *done.kept], target.run, target.files):
            (folder / f"{hashlib.sha256(data).hexdigest()[:16]}.bin").write_bytes(data)
