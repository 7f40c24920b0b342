"""Calls that providers do not bill."""

from __future__ import annotations

from typing import Any, Final

import msgspec
from typing_extensions import override

from .fields import decoder, text
from .reader import Reader


class _FreeReader(Reader):
    """Reads nothing: the token counts in these responses are not usage."""

    is_free = True

    @override
    def may_carry_usage(self, data: bytes) -> bool:
        return False

    @override
    def read_body(self, data: bytes) -> None:
        pass

    @override
    def read_event(self, data: bytes) -> None:
        pass


class _Moderation(msgspec.Struct):
    model: Any = None


_decode_moderation: Final = decoder(_Moderation)


class ModerationReader(_FreeReader):
    """OpenAI's moderations: https://platform.openai.com/docs/guides/moderation.

    A request need not name the model.
    """

    operation = "moderation"

    @override
    def read_body(self, data: bytes) -> None:
        self.reading.model = text(_decode_moderation(data).model) or self.reading.model


class CountTokensReader(_FreeReader):
    """Token counts of a prompt, which all three providers return for free."""

    operation = "count_tokens"
