"""Python imports this first under `llm-exporter run`: it meters the program and leaves no trace.

`run` puts this directory first on PYTHONPATH, so that child Pythons of the program are metered too.
"""

from __future__ import annotations

import os
import sys
from importlib.machinery import PathFinder
from importlib.util import module_from_spec

_HERE = os.path.realpath(os.path.dirname(__file__))


def _run_shadowed_sitecustomize() -> None:
    """Run the `sitecustomize` that this one shadows."""
    sys.path[:] = [path for path in sys.path if os.path.realpath(path) != _HERE]
    spec = PathFinder.find_spec("sitecustomize", sys.path)
    if spec is not None and spec.loader is not None:
        module = sys.modules["sitecustomize"] = module_from_spec(spec)
        spec.loader.exec_module(module)


def _meter() -> None:
    try:
        import llm_exporter  # noqa: PLC0415  # this may be another Python, without the package

        llm_exporter.configure()
        llm_exporter.instrument()
    except Exception as error:
        sys.stderr.write(f"llm-exporter: {sys.executable} is not metered: {error}\n")


try:
    _run_shadowed_sitecustomize()
finally:
    _meter()
