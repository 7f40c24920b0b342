"""Whether this process is one of several workers of a server, of which any may answer a scrape.

No server tells an application. But two of them leave traces that are there only if there are several workers,
so what is said here is true. Nothing is said of other servers.
"""

from __future__ import annotations

import sys
from typing import Any


def is_one_of_several() -> bool:
    """Return whether uvicorn or gunicorn is known to run this process as one of several workers."""
    return _is_uvicorns() or _is_gunicorns()


def _is_uvicorns() -> bool:
    """Uvicorn runs each worker as a child of `multiprocessing`, and gives it the configuration.

    With `--reload` there is one child, whatever the number of workers in the configuration.
    """
    # Its children have imported it. Importing it here would make every start slower.
    child: Any = getattr(sys.modules.get("multiprocessing"), "current_process", lambda: None)()
    if not str(getattr(getattr(child, "_target", None), "__module__", "")).startswith("uvicorn."):
        return False
    config = child._kwargs.get("config")  # noqa: SLF001  # multiprocessing has no other way to ask
    return getattr(config, "workers", 1) > 1 and not getattr(config, "reload", False)


def _is_gunicorns() -> bool:
    """Gunicorn forks its workers one after the other, so that each inherits the list of those before it.

    The first one has nobody in its list. One that takes the place of the only worker has that one in it.
    """
    arbiter = getattr(sys.modules.get("gunicorn.arbiter"), "Arbiter", None)
    return any(worker.cfg.workers > 1 for worker in getattr(arbiter, "WORKERS", {}).values())
