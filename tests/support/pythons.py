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
    on_path = shutil.which(f"python{version}")
    for candidate in [
        *([on_path] if on_path else []),
        *map(str, sorted(pyenv.glob(f"{version}.*/bin/python"))),
    ]:
        # One that pyenv has, but has not selected, is on PATH and fails.
        if not subprocess.run([candidate, "-c", ""], capture_output=True, check=False).returncode:
            return candidate
    pytest.skip(f"there is no Python {version}")
