"""Find the files for Grafana and Prometheus that come with the package."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

_PACKAGE = Path(__file__).parents[1]


def bundle(name: Literal["docs", "grafana", "prometheus"]) -> Path:
    """Return the directory of our `docs`, `grafana` or `prometheus` files; treat it as read-only.

    A wheel has them in `llm_exporter/bundle_data/`, a source tree at its top level.

    Raises:
        FileNotFoundError: The package was installed without these files.
    """
    candidates = (_PACKAGE / "bundle_data" / name, _PACKAGE.parents[1] / name)
    for directory in candidates:
        if directory.is_dir():
            return directory
    raise FileNotFoundError(f"no {name} files at {' or '.join(map(str, candidates))}")
