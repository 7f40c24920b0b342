"""Requests that are calls, and cost nothing."""

from __future__ import annotations

from typing import ClassVar

from .reader import Reader


class _FreeReader(Reader):
    """Reads nothing: what such an answer counts is not what was used."""

    is_free: ClassVar[bool] = True

    def may_carry_usage(self, data: bytes) -> bool:
        """See `Reader.may_carry_usage`."""
        return False

    def read_body(self, data: bytes) -> None:
        """Let the answer go."""

    def read_event(self, data: bytes) -> None:
        """Let the event go."""


class ModerationReader(_FreeReader):
    """OpenAI's moderations: https://platform.openai.com/docs/guides/moderation."""

    operation: ClassVar[str] = "moderation"


class CountTokensReader(_FreeReader):
    """Counts of tokens before they are sent, which all three providers give for free."""

    operation: ClassVar[str] = "count_tokens"
