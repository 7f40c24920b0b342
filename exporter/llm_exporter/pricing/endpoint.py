"""`Endpoint`: what the address of a client says about its calls."""

from __future__ import annotations

import logging
from types import MappingProxyType
from typing import Final, NamedTuple

from ..log import log
from .names import has_open_weights, runs_in_cloud

REPORT_USD: Final = MappingProxyType(
    {
        "anthropic": "https://platform.claude.com/docs/en/api/beta/sessions",  # `usage.list_cost`
        "openrouter": "https://openrouter.ai/docs/use-cases/usage-accounting",
        "x-ai": "https://docs.x.ai/developers/advanced-api-usage/cost-tracking",
        "perplexity": "https://docs.perplexity.ai/guides/pricing",
        "vercel": "https://vercel.com/docs/ai-gateway",
        "litellm": "https://docs.litellm.ai/docs/proxy/cost_tracking",
    }
)
"""Providers whose responses report their cost in USD, with the page that says so."""

_logged: Final[set[tuple[str, str]]] = set()
"""The providers and subjects that a message was logged for."""
_MAX_LOGGED: Final = 1000


class Endpoint(NamedTuple):
    """What the address of a client says about its calls."""

    provider: str
    """The provider's id."""
    region: str = ""
    """The region or data zone of the address, if it has one."""
    is_known: bool = False
    """Whether the address is known to be the provider's, or configured. If not, it is taken for a gateway."""
    is_local: bool = False
    """Whether the address is a loopback or private one."""
    is_own: bool = False
    """Whether the address is known or configured as a server on the user's own hardware."""
    host: str = ""
    """The address, if a factor of `prices.factors` names it."""

    def reports_usd(self) -> bool:
        """Return whether a cost that a response reports is in USD. If not, the log says once to ignore it."""
        if self.is_known and self.provider in REPORT_USD:
            return True
        if self._is_new("cost"):
            log.warning(
                "llm-exporter: responses of provider %r report a cost, which is ignored: only %s are known "
                "to report USD; if this address belongs to one of them, name it under providers",
                self.provider,
                ", ".join(REPORT_USD),
            )
        return False

    def runs_locally(self, model: str) -> bool:
        """Return whether the user's own hardware runs the model, so that a call costs nothing.

        A local address that is not configured may be a gateway. There, models with published weights are
        taken for local ones, and all others for models of the SDK's provider. The log says which, once for
        each model.
        """
        if not (self.is_own or self.is_local) or runs_in_cloud(model):
            return False
        if self.is_known or not self.is_local:
            return self.is_own
        is_open = has_open_weights(model)
        if model and self._is_new(model):
            log.log(
                logging.WARNING if is_open else logging.INFO,
                "llm-exporter: model %r at a local address %s; if this is wrong, name the address under "
                "providers",
                model,
                "costs nothing" if is_open else f"has the prices of provider {self.provider!r}",
            )
        return is_open

    def _is_new(self, subject: str) -> bool:
        """Return whether this is the first message about a subject. Remembers a bounded number."""
        key = self.provider, subject
        if key in _logged or len(_logged) >= _MAX_LOGGED:
            return False
        _logged.add(key)
        return True
