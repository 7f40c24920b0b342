"""Routes of unread requests have no ids, because they become labels of a metric."""

from __future__ import annotations

import pytest

from llm_exporter.wire.unread import route_of


@pytest.mark.parametrize(
    ("method", "url", "route"),
    [
        (
            "POST",
            "https://api.openai.com/v1/vector_stores/vs_6/search?limit=2",
            "POST /v1/vector_stores/{id}/search",
        ),
        ("post", "/v1/things", "POST /v1/things"),
        (
            "POST",
            "/v1beta1/projects/acme/locations/global/voices",
            "POST /v1beta1/projects/{id}/locations/{id}/voices",
        ),
        ("POST", "/v1/tunedModels/mine:embedThings", "POST /v1/tunedModels/{id}:embedThings"),
        ("POST", "/v1/models/gemini-2.5-pro:predict", "POST /v1/models/{id}:predict"),
        ("POST", "/openai/deployments/chatbot/things", "POST /openai/deployments/{id}/things"),
        ("POST", "/v1/models", "POST /v1/models"),
        ("POST", "/v1/things/" + "deeper/" * 50, "POST /v1/things" + "/deeper" * 10),
        ("POST", "https://api.openai.com", "POST /"),
    ],
)
def test_a_route_has_no_ids(method: str, url: str, route: str) -> None:
    assert route_of(method, url) == route
