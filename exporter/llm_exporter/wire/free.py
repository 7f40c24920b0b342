"""Calls that providers do not bill."""

from __future__ import annotations

from typing_extensions import override

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


class ModerationReader(_FreeReader):
    """OpenAI's moderations: https://platform.openai.com/docs/guides/moderation."""

    operation = "moderation"


class CountTokensReader(_FreeReader):
    """Token counts of a prompt, which all three providers return for free."""

    operation = "count_tokens"
