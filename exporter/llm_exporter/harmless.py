"""Text from outside as it may be shown: in a terminal, in a log line, in a spreadsheet."""

from __future__ import annotations

from typing import Final

_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")
"""What begins a formula in spreadsheets: https://owasp.org/www-community/attacks/CSV_Injection."""


def one_line(text: str) -> str:
    """Return a text with control characters, line ends and changes of direction escaped."""
    if text.isprintable():
        return text
    return "".join(
        character
        if character.isprintable()
        else character.encode("unicode_escape", "surrogatepass").decode("ascii")
        for character in text
    )


def csv_cell(text: str) -> str:
    """Return a text with an apostrophe before it if a spreadsheet would take it for a formula."""
    return f"'{text}" if text.startswith(_FORMULA) else text
