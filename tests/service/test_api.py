"""The REST API conforms to its description for any request."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.request import Request, urlopen

import msgspec
import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.specs.openapi.checks import positive_data_acceptance

from llm_exporter.service.openapi import description
from support.calls import a_call
from support.served import Served

JSON = {"content-type": "application/json"}

described = schemathesis.openapi.from_dict(description())
finite = described.exclude(path="/api/v1/events")  # an endless stream


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with Served(tmp_path_factory.mktemp("api")) as served:
        body = msgspec.json.encode([a_call(labels={"session": "0"})])
        with urlopen(Request(f"{served.url}/api/v1/calls", body, JSON)) as response:
            assert response.status == 200
        yield served.url


@finite.parametrize()
@settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
def test_every_response_conforms_to_the_description(case: Any, url: str) -> None:
    # OpenAPI cannot express mutually exclusive parameters, or which texts are durations.
    case.call_and_validate(base_url=url, excluded_checks=[positive_data_acceptance])
