"""Every method of the SDKs' newest releases is metered, free or counted as unread, or sends no request.

Each `methods/*.txt` has a line for every method of a client: its kind, its path, and the route of its first
request. The kinds are

- `metered`: a reader takes the response;
- `unread`: the request may be billed, but no reader takes its response, so it is counted as unread;
- `free`: the provider does not bill the request, or bills it where its result is retrieved;
- `local`: the method sends no request;
- `unsupported`: it sends none with this client;
- `missed`: it opens a WebSocket that is neither metered nor counted.

If this fails for a new release, decide for each new method which kind it should be: read its response if that
says what was used, and name its route in `_FREE_PATHS` only if the provider bills nothing.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

import anthropic
import openai
import pytest
from google import genai
from google.genai import types
from google.oauth2.credentials import Credentials

import llm_exporter
from llm_exporter.client.pipeline import Pipeline
from support.every_method import ID, Transport, Walk
from support.sockets import SocketServer

try:
    import httpx2 as httpx
except ImportError:
    import httpx  # type: ignore[no-redef]

TABLES: Final = Path(__file__).parent / "methods"
FILE: Final = TABLES / "openai.txt"
"""Any file."""
SECRET: Final = base64.b64encode(b"secret").decode()


SIGNED_AT: Final = int(time.time())


def signed(payload: str) -> dict[str, str]:
    """Return the headers of a webhook whose signature is valid."""
    now = str(SIGNED_AT)
    signature = hmac.digest(b"secret", f"{ID}.{now}.{payload}".encode(), hashlib.sha256)
    return {
        "webhook-id": ID,
        "webhook-timestamp": now,
        "webhook-signature": f"v1,{base64.b64encode(signature).decode()}",
    }


JOB: Final = "projects/p/locations/us-central1/batchPredictionJobs/7"
OPERATION: Final = "projects/p/locations/us-central1/publishers/google/models/m/operations/7"
ARGUMENTS: Final[dict[str, dict[str, dict[str, Any]]]] = {
    "openai": {
        "audio.voices.create": {"name": ID, "audio_sample": FILE, "consent": ID},
        "beta.agents.environments.files.prepare_directory": {
            "root": TABLES,
            "destination": "/workspace",
            "include": ["openai.txt"],
        },
        "beta.agents.environments.files.upload": {"path": "/workspace/a", "file": FILE},
        "beta.agents.sessions.artifacts.for_result": {"result": SimpleNamespace(session_id=ID, turn_id=ID)},
        "responses.stream": {"model": ID, "input": ID},
        "uploads.upload_file_chunked": {"file": FILE},
        "webhooks.unwrap": {"payload": "{}", "headers": signed("{}")},
        "webhooks.verify_signature": {"payload": "{}", "headers": signed("{}")},
    },
    "anthropic": {"beta.webhooks.parse_unverified": {"payload": "{}"}},
    "google-genai": {
        "batches.create": {"src": [{"contents": ID}]},
        "batches.create_embeddings": {"src": {"inlined_requests": {"contents": [ID]}}},
        **{f"batches.{verb}": {"name": f"batches/{ID}"} for verb in ("cancel", "delete", "get")},
        "credentials.create": {"type": "bearer_token", "id": ID, "token": ID},
        "credentials.update": {"id": ID, "type": "bearer_token", "token": ID},
        "decisions.create": {"model": ID, "input": ID, "questions": {}},
        "file_search_stores.download_media": {"media_id": f"fileSearchStores/{ID}/media/{ID}"},
        "file_search_stores.upload_to_file_search_store": {"file": str(FILE)},
        "files.download": {"file": f"files/{ID}"},
        "files.register_files": {"auth": Credentials(token=ID), "uris": [ID]},  # type: ignore[no-untyped-call]
        "files.upload": {"file": str(FILE)},
        "interactions.create": {"model": ID, "input": ID},
        "models.generate_videos": {"prompt": ID},
        "operations.get": {
            "operation": types.GenerateVideosOperation.model_validate({"name": f"operations/{ID}"})
        },
        "triggers.create": {"interaction": {"agent": ID, "input": ID}, "schedule": ID, "time_zone": ID},
        "voices.create": {"voice": {"type": "prompted", "prompted_voice": {"input": ID}}},
        "webhooks.create": {"subscribed_events": [], "uri": ID},
    },
    "google-genai on Vertex AI": {
        "batches.create": {"src": f"gs://{ID}"},
        **{f"batches.{verb}": {"name": JOB} for verb in ("cancel", "delete", "get")},
        "operations.get": {"operation": types.GenerateVideosOperation.model_validate({"name": OPERATION})},
    },
}


def openai_client(cls: Any, http: Any) -> Callable[[Any, SocketServer], Any]:
    return lambda transport, sockets: cls(
        api_key="k",
        admin_api_key="k",
        webhook_secret=f"whsec_{SECRET}",
        websocket_base_url=sockets.url.replace("http", "ws"),
        http_client=http(transport=transport),
    )


def google_client(side: Callable[[genai.Client], Any], **options: Any) -> Callable[[Any, SocketServer], Any]:
    def make(transport: Any, sockets: SocketServer) -> Any:
        http = types.HttpOptions(
            httpx_client=httpx.Client(transport=transport),
            httpx_async_client=httpx.AsyncClient(transport=transport),
        )
        client = genai.Client(http_options=http, **options)
        client._api_client._websocket_base_url = lambda *_: sockets.url.replace("http", "ws")  # type: ignore[method-assign]
        client._api_client._websocket_ssl_ctx = {}  # connect without TLS
        return side(client)

    return make


VERTEX: Final = {
    "vertexai": True,
    "project": "p",
    "location": "us-central1",
    "credentials": Credentials(token="t"),  # type: ignore[no-untyped-call]
}
CLIENTS: Final = {
    "openai": [
        openai_client(openai.OpenAI, httpx.Client),
        openai_client(openai.AsyncOpenAI, httpx.AsyncClient),
    ],
    "anthropic": [
        lambda transport, _: anthropic.Anthropic(api_key="k", http_client=httpx.Client(transport=transport)),
        lambda transport, _: anthropic.AsyncAnthropic(
            api_key="k", http_client=httpx.AsyncClient(transport=transport)
        ),
    ],
    "google-genai": [
        google_client(lambda client: client, api_key="k"),
        google_client(lambda client: client.aio, api_key="k"),
    ],
    "google-genai on Vertex AI": [
        google_client(lambda client: client, **VERTEX),
        google_client(lambda client: client.aio, **VERTEX),
    ],
}
"""The sync and the async client by table."""


def walk(table: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Yield the lines of the sync and the async client."""
    sdk = table.partition(" ")[0]
    arguments = {**ARGUMENTS[sdk], **ARGUMENTS.get(table, {})}
    for make in CLIENTS[table]:
        transport = Transport()
        with SocketServer() as sockets:
            yield from Walk(transport, sockets, arguments).lines(make(transport, sockets), monkeypatch)


def numbers(release: str) -> list[int]:
    """Return the numbers of a release, to compare it with others."""
    return [int(number) for number in release.split(".") if number.isdecimal()]


@pytest.mark.filterwarnings("ignore")  # the SDKs warn of deprecated and experimental methods
@pytest.mark.parametrize("table", CLIENTS)
def test_every_method_is_metered_or_free_or_unread(
    table: str, pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A method that is new, gone, or of another kind than in the table is named."""
    sdk = table.partition(" ")[0]
    release, *expected = (TABLES / f"{table.replace(' ', '-')}.txt").read_text().splitlines()
    if numbers(version(sdk)) < numbers(release):
        pytest.skip(f"the table is for release {release}")
    if sdk == "openai":  # its webhooks expire after five minutes
        monkeypatch.setattr("openai.lib._webhooks.time", SimpleNamespace(time=lambda: SIGNED_AT))
    llm_exporter.instrument()

    walked = set(walk(table, monkeypatch))

    assert {"new or changed": sorted(walked - {*expected}), "gone": sorted({*expected} - walked)} == {
        "new or changed": [],
        "gone": [],
    }
