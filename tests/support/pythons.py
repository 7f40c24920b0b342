"""Find other versions of Python, which children of a metered program may be."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest


def python(version: str) -> str:
    """Return the path of a Python of a version such as `2.7`; skip the test if there is none."""
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv", "versions")
    candidates = [shutil.which(f"python{version}"), *sorted(pyenv.glob(f"{version}.*/bin/python"))]
    for candidate in filter(None, candidates):
        # One that pyenv has, but has not selected, is on PATH and fails.
        if not subprocess.run([candidate, "-c", ""], capture_output=True, check=False).returncode:
            return str(candidate)
    pytest.skip(f"there is no Python {version}")
