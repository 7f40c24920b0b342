"""The tap on the anthropic SDK, which is like that on any Stainless SDK."""

from __future__ import annotations

from typing import Final

from .stainless import StainlessTap, stainless_names

PRIVATE_NAMES: Final = stainless_names("anthropic")
"""The private names of anthropic that the tap relies on; see `taps/private_names.py`."""


class AnthropicTap(StainlessTap):
    """The tap on anthropic."""

    package = "anthropic"
