"""What Python runs first under `llm-exporter run`: it meters the program, then leaves things as they were.

`run` puts this directory at the front of PYTHONPATH, so that a Python that the program starts is metered too.
"""

from __future__ import annotations

import os
import sys
from importlib.machinery import PathFinder
from importlib.util import module_from_spec

_HERE = os.path.realpath(os.path.dirname(__file__))


def _run_the_other_one() -> None:
    """Run the `sitecustomize` that would have been run without this one."""
    sys.path[:] = [path for path in sys.path if os.path.realpath(path) != _HERE]
    spec = PathFinder.find_spec("sitecustomize", sys.path)
    if spec is not None and spec.loader is not None:
        module = sys.modules["sitecustomize"] = module_from_spec(spec)
        spec.loader.exec_module(module)


def _meter() -> None:
    try:
        import llm_exporter  # noqa: PLC0415  # this Python may be another one's, without it

        llm_exporter.configure()
        llm_exporter.instrument()
    except Exception as error:
        sys.stderr.write(f"llm-exporter: {sys.executable} is not metered: {error}\n")


try:
    _run_the_other_one()
finally:
    _meter()
