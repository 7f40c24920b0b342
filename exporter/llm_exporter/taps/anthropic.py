"""The tap on the anthropic SDK, which is like that on any Stainless SDK."""

from __future__ import annotations

from typing import Final

from .stainless import StainlessTap, stainless_names

PRIVATE_NAMES: Final = stainless_names("anthropic")
"""See `taps.private_names`."""


class AnthropicTap(StainlessTap):
    """The tap on anthropic."""

    package = "anthropic"
