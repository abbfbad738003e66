"""A change of what is compiled starts a new cache of kernels, wherever it is."""

import ast
from pathlib import Path

import l2_platform
from l2_platform.monitoring.runtime import _kernel_sources

PACKAGE = Path(l2_platform.__file__).parent
COMPILED = "l2_platform.market.compiled"


def imports_of(path: Path) -> set[str]:
    """Modules that a module imports."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{name.name}" for name in node.names)}
        elif isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
    return found


def test_every_module_with_kernels_is_looked_at() -> None:
    sources = {str(path.relative_to(PACKAGE)) for path in _kernel_sources()}
    kernels = {path for path in PACKAGE.rglob("*.py") if {COMPILED, "numba"} & imports_of(path)} - {PACKAGE / "monitoring" / "runtime.py"}
    names = {str(path.relative_to(PACKAGE)) for path in kernels}
    assert {"replay/state_kernels.py", "delivery/gap_kernels.py", "quality/file_kernels.py", "sinks/jsonl_kernels.py"} <= names
    assert names <= sources
