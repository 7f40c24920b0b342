"""A hook of MkDocs: pages of the website link files outside of docs/ in the repository."""

from __future__ import annotations

import re
from typing import Any, Final

_OUTSIDE: Final = re.compile(r"\[([^\]]+)\]\(\.\./([^)]+)\)")


def on_page_markdown(markdown: str, *, config: Any, **_: object) -> str:
    """Return a page whose links to other files of the repository lead to its website, or are plain text."""
    repository = config.repo_url
    link = rf"[\1]({repository.rstrip('/')}/blob/main/\2)" if repository else r"\1"
    return _OUTSIDE.sub(link, markdown)
