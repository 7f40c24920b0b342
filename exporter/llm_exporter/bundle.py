"""Where the dashboards, scrape config and rules are: in the installed wheel, or in the source tree."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

_PACKAGE = Path(__file__).parent


def bundle(name: Literal["grafana", "prometheus"]) -> Path:
    """Return the directory of our `grafana` or `prometheus` files, to be read and never written to.

    They are in `llm_exporter/bundle_data/` when installed from a wheel, at the repository's top level
    otherwise. Raises FileNotFoundError when the package was installed without them.
    """
    candidates = (_PACKAGE / "bundle_data" / name, _PACKAGE.parents[1] / name)
    for directory in candidates:
        if directory.is_dir():
            return directory
    raise FileNotFoundError(f"no {name} files at {' or '.join(map(str, candidates))}")
