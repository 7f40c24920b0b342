"""The log of llm-exporter. Logging never raises: a broken filter or handler must stop nothing of ours."""

from __future__ import annotations

import logging
import sys
from contextlib import suppress
from typing import Any, Final

from typing_extensions import override

from .harmless import one_line


class _Log(logging.LoggerAdapter[logging.Logger]):
    @override
    def log(self, level: int, msg: object, *args: object, **kwargs: Any) -> None:
        # One frame is ours: the record names the code that logs.
        kwargs["stacklevel"] = kwargs.get("stacklevel", 1) + 1
        try:
            # Texts from outside must not look like lines of the log.
            args = tuple(one_line(str(arg)) if isinstance(arg, str | Exception) else arg for arg in args)
            super().log(level, msg, *args, **kwargs)
        except Exception as error:
            if logging.raiseExceptions and sys.stderr is not None:
                with suppress(Exception):
                    sys.stderr.write(f"llm-exporter: cannot log {msg!r}: {error!r}\n")


class HarmlessTracebacks(logging.Filter):
    """Indents and escapes tracebacks: the text of an exception must not look like lines of the log."""

    @override
    def filter(self, record: logging.LogRecord) -> bool:
        if record.exc_info and not record.exc_text:
            with suppress(Exception):
                traceback = _FORMATTER.formatException(record.exc_info)
                record.exc_text = "\n".join(f"    {one_line(line)}" for line in traceback.splitlines())
        return True


_FORMATTER: Final = logging.Formatter()

log: Final = _Log(logging.getLogger("llm_exporter"))
log.logger.addFilter(HarmlessTracebacks())
