"""`SpoolFile`: a file of this process in the spool."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Final

from ..file_lock import lock
from ..private_files import create_private

MAX_BYTES: Final = 256 * 2**20
"""The largest size of one process's file: some hundred thousand calls."""


class SpoolFile:
    """A new file of lines, which other processes leave alone once it is locked and until it is closed.

    Raises:
        OSError: if it cannot be created.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = create_private(path)
        self._size = 0

    def lock(self) -> bool:
        """Lock it; return False if another process has taken it already.

        Raises:
            OSError: if the file system has no locks.
        """
        return lock(self._file) and self.exists

    @property
    def exists(self) -> bool:
        """Whether nobody has deleted it."""
        return os.fstat(self._file.fileno()).st_nlink > 0

    def append(self, lines: Iterable[bytes]) -> None:
        """Write lines with one system call. They survive this process, but maybe not a power failure.

        Raises:
            OSError: if they cannot be written. Then none of them is in the file.
        """
        data = b"\n".join((*lines, b""))
        if self._size + len(data) > MAX_BYTES:
            raise OSError(errno.EFBIG, f"would exceed its maximum of {MAX_BYTES} bytes", str(self.path))
        try:
            _write_all(self._file, data)
        except OSError:
            self._file.truncate(self._size)
            raise
        self._size += len(data)

    def empty(self) -> None:
        """Remove all lines."""
        self._file.truncate(0)
        self._size = 0

    def close(self) -> None:
        """Leave it to whoever finds it."""
        self._file.close()

    def remove(self) -> None:
        """Delete and close it."""
        self.path.unlink(missing_ok=True)
        self._file.close()


def _write_all(file: IO[bytes], data: bytes) -> None:
    if file.write(data) < len(data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), file.name)
