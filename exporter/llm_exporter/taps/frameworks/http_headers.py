"""HTTP: the headers of the request that is served here, if the application has `LabelsMiddleware`."""

from __future__ import annotations

from typing import Final

from ...client.inferred_labels import of_request
from .observing import Framework

FRAMEWORK: Final = Framework("llm_exporter.client.header_labels", of_request.get)
