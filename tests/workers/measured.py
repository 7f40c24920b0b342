"""What test_alone.py serves: `/metrics` of a worker, over ASGI and WSGI."""

from __future__ import annotations

import llm_exporter

llm_exporter.instrument()
over_asgi = llm_exporter.make_asgi_app()
over_wsgi = llm_exporter.make_wsgi_app()
