"""A lock for imports that may run while another thread forks.

A process that is forked while one of its threads imports a module inherits that module's import lock, held by
a thread that does not exist in the child: an import of the module there would wait forever. So what is
imported late is imported under this lock, and `fork` waits for it.
"""

from __future__ import annotations

import os
from typing import Final

from .threads import RLock

late_import: Final = RLock()
"""Hold it while importing a module after start-up, or while making what all threads share."""

if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=late_import.acquire, after_in_parent=late_import.release, after_in_child=late_import.release
    )
