"""Files and directories that only this user may use, and files opened without following links."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import IO, Final

from .log import log

_PRIVATE_FILE: Final = 0o600
_PRIVATE_DIRECTORY: Final = 0o700
_OTHERS: Final = 0o077
_SAFELY: Final = sum(getattr(os, name, 0) for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC", "O_BINARY"))
"""Windows lacks some of these flags, and has another one."""


def create_private(path: Path) -> IO[bytes]:
    """Create a file to append to, unbuffered, that only this user may use, whatever the umask.

    Raises:
        OSError: if it cannot be created, or exists.
    """
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL
    descriptor = os.open(path, flags | _SAFELY, _PRIVATE_FILE)
    # An umask can deny even the owner. The path may be gone: others take files that are not locked yet.
    os.chmod(descriptor if os.chmod in os.supports_fd else path, _PRIVATE_FILE)
    return open(descriptor, "ab", buffering=0)


def open_regular(path: Path, flags: int = os.O_RDONLY) -> int:
    """Open a file and return its descriptor. It neither follows a link nor waits for the end of a FIFO.

    Raises:
        OSError: if it cannot be opened, or is not a regular file.
    """
    descriptor = os.open(path, flags | _SAFELY, _PRIVATE_FILE)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return descriptor


def names_in(directory: Path) -> list[str]:
    """Return the names in a directory.

    Raises:
        OSError: if there is no directory, or it is a link.
    """
    if directory.is_symlink():
        raise OSError(errno.ELOOP, "is a symbolic link", str(directory))
    return os.listdir(directory)


def make_private_directory(directory: Path) -> None:
    """Make a directory that only this user may use, whatever the umask, and its parents.

    One that exists and that others may use is changed, and this is logged.

    Raises:
        OSError: if it cannot be made, is a link, or belongs to another user.
    """
    for missing in reversed([each for each in (directory, *directory.parents) if not each.exists()]):
        try:
            missing.mkdir(_PRIVATE_DIRECTORY)
        except FileExistsError:
            continue  # another process was faster, or it is a link to nothing
        missing.chmod(_PRIVATE_DIRECTORY)
    if os.name == "nt":
        return  # a user's directories are private there
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        found = os.fstat(descriptor)
        if os.geteuid() not in (0, found.st_uid):
            raise PermissionError(errno.EPERM, "belongs to another user", str(directory))
        if found.st_mode & _OTHERS:
            os.fchmod(descriptor, _PRIVATE_DIRECTORY)
            mode = stat.S_IMODE(found.st_mode)
            log.warning(
                "llm-exporter: %s was open to other users (mode %04o), and is private now", directory, mode
            )
    finally:
        os.close(descriptor)
