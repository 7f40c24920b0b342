"""The stand-in for a provider's API that the SDKs' own tests call."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from openai.types import Completion
from openai.types.chat import ChatCompletion

from sdks.stand_in import StandIn, sample
from support.awaiting import DEADLINE

API = """
- <code title="post /chat/completions">client.chat.completions.<a href="./src/openai/x.py">create</a>(**params) -> <a href="./src/openai/types/chat/chat_completion.py">ChatCompletion</a></code>
- <code title="get /chat/completions/{completion_id}">client.chat.completions.<a href="./src/openai/x.py">retrieve</a>(id) -> <a href="./src/openai/types/chat/chat_completion.py">ChatCompletion</a></code>
- <code title="delete /files/{id}?beta=true">client.files.<a href="./src/openai/x.py">delete</a>(id) -> None</code>
"""  # noqa: E501
MODELS_API = """
- <code title="get /models">client.models.<a href="./src/openai/x.py">list</a>() -> <a href="./src/openai/types/model.py">SyncPage[Model]</a></code>
"""  # noqa: E501


@pytest.fixture
def api(tmp_path: Path) -> StandIn:
    (tmp_path / "api.md").write_text(API)
    (tmp_path / "models").mkdir()
    (tmp_path / "models/api.md").write_text(MODELS_API)
    return StandIn("openai", tmp_path)


def _request(api: StandIn, method: str, path: str, body: bytes | None = None) -> tuple[str, bytes]:
    request = urllib.request.Request(f"http://{api.address}{path}", body, method=method)
    with urllib.request.urlopen(request, timeout=DEADLINE) as response:
        return response.headers["Content-Type"], response.read()


@pytest.mark.parametrize("model", [Completion, ChatCompletion])
def test_a_sample_is_valid_and_has_optional_fields(model: type[Completion | ChatCompletion]) -> None:
    completion = model.model_validate(sample(model))
    assert completion.usage is not None
    assert completion.choices


def test_each_route_responds_with_its_type(api: StandIn) -> None:
    with api:
        for method, path in (("POST", "/chat/completions"), ("GET", "/chat/completions/abc?limit=1")):
            content_type, body = _request(api, method, path, b"{}" if method == "POST" else None)
            assert content_type == "application/json"
            assert ChatCompletion.model_validate_json(body, strict=True).object == "chat.completion"
        assert json.loads(_request(api, "GET", "/models")[1])["data"][0]["object"] == "model"
        assert _request(api, "DELETE", "/files/abc?beta=true")[1] == b""


def test_a_streaming_request_gets_one_event(api: StandIn) -> None:
    with api:
        content_type, body = _request(api, "POST", "/chat/completions", b'{"stream": true}')
    assert content_type == "text/event-stream"
    assert body.startswith(b'data: {"id": "text"')
    assert body.endswith(b"}\n\n")


@pytest.mark.parametrize(("method", "path"), [("GET", "/elsewhere"), ("DELETE", "/files/abc")])
def test_an_unknown_route_is_not_found(api: StandIn, method: str, path: str) -> None:
    with api, pytest.raises(urllib.error.HTTPError, match="404"):
        _request(api, method, path)
