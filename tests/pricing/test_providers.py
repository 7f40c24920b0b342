"""The provider of a client is found by its URL, its class or its SDK."""

from __future__ import annotations

import logging
from pathlib import Path

import openai
import pytest

import llm_exporter
from llm_exporter.pricing.endpoint import REPORT_USD
from llm_exporter.pricing.providers import Providers
from support import payloads
from support.metered import Metered
from support.operations import OPERATIONS, Operation
from support.scripted import Server


def provider_of(base_url: str, client: str = "OpenAI", sdk: str = "openai") -> str:
    return Providers().of(base_url, client, sdk).provider


@pytest.mark.parametrize(
    ("base_url", "provider"),
    [
        ("https://api.openai.com/v1/", "openai"),
        ("https://t.openai.azure.com/openai/deployments/d/", "azure"),
        ("https://t.services.ai.azure.com/anthropic/", "azure"),
        ("https://t.cognitiveservices.azure.com/openai/v1/", "azure"),
        ("https://t.openai.azure.us/openai/v1/", "azure"),
        ("https://t.openai.azure.cn/openai/v1/", "azure"),
        ("https://api.anthropic.com", "anthropic"),
        ("https://bedrock-runtime.eu-central-1.amazonaws.com", "aws"),
        ("https://bedrock-runtime-fips.us-gov-west-1.amazonaws.com", "aws"),
        ("https://bedrock-runtime.cn-north-1.amazonaws.com.cn", "aws"),
        ("https://vpce-0a-1b.bedrock-runtime.us-east-1.vpce.amazonaws.com", "aws"),
        ("https://bedrock-mantle.us-west-9.api.aws/openai/v1", "aws"),
        ("https://aws-external-anthropic.us-west-9.api.aws", "anthropic"),
        ("https://generativelanguage.googleapis.com/v1beta/openai/", "google"),
        ("https://aiplatform.googleapis.com/v1", "google"),
        ("https://us-east5-aiplatform.googleapis.com/v1/", "google"),
        ("https://aiplatform.eu.rep.googleapis.com/v1", "google"),
        ("https://api.deepseek.com", "deepseek"),
        ("https://api.groq.com/openai/v1/", "groq"),
        ("https://api.x.ai/v1", "x-ai"),
        ("https://us-east-1.api.x.ai/v1", "x-ai"),
        ("https://eu-west-1.api.x.ai/v1", "x-ai"),
        ("https://api.mistral.ai/v1", "mistral"),
        ("https://codestral.mistral.ai/v1", "mistral"),
        ("https://openrouter.ai/api/v1", "openrouter"),
        ("https://api.together.xyz/v1", "together"),
        ("https://api.together.ai/v1", "together"),
        ("https://api.fireworks.ai/inference/v1", "fireworks"),
        ("https://api.perplexity.ai", "perplexity"),
        ("https://api.cerebras.ai/v1", "cerebras"),
        ("https://api.cohere.ai/compatibility/v1", "cohere"),
        ("https://api.moonshot.cn/v1", "moonshotai"),
        ("http://localhost:11434/v1", "ollama"),
        ("http://host.docker.internal:11434/v1/", "ollama"),
        ("http://ollama:11434/v1", "ollama"),
        ("http://[::1]:11434", "ollama"),
    ],
)
@pytest.mark.parametrize("client", ["OpenAI", "AsyncOpenAI"])
def test_the_url_determines_the_provider(base_url: str, provider: str, client: str) -> None:
    """Regardless of the SDK."""
    assert provider_of(base_url, client, "openai") == provider


@pytest.mark.parametrize(
    "base_url",
    [
        "http://127.0.0.1:8000/v1/",
        "http://localhost:11434x/v1",
        "http://vllm:8000/v1",
        "https://t.execute-api.eu-central-1.amazonaws.com/openai/v1",
        "https://llm-gateway.acme.example/openai/v1",
        "https://not-a-provider.example/?to=https://api.mistral.ai",
        "https://xapi.x.ai.acme.example/v1",
        "https://us-east-1.api.x.ai.acme.example/v1",
        "https://us-east-1xapi.x.ai/v1",
        "",
    ],
)
@pytest.mark.parametrize(
    ("client", "sdk", "provider"),
    [
        ("OpenAI", "openai", "openai"),
        ("AsyncOpenAI", "openai", "openai"),
        ("AzureOpenAI", "openai", "azure"),
        ("AsyncAzureOpenAI", "openai", "azure"),
        ("BedrockOpenAI", "openai", "aws"),
        ("AsyncBedrockOpenAI", "openai", "aws"),
        ("Anthropic", "anthropic", "anthropic"),
        ("AsyncAnthropic", "anthropic", "anthropic"),
        ("AnthropicBedrock", "anthropic", "aws"),
        ("AsyncAnthropicBedrock", "anthropic", "aws"),
        ("AnthropicBedrockMantle", "anthropic", "aws"),
        ("AnthropicAWS", "anthropic", "anthropic"),
        ("AnthropicVertex", "anthropic", "google"),
        ("AsyncAnthropicVertex", "anthropic", "google"),
        ("AnthropicFoundry", "anthropic", "azure"),
        ("Client", "google", "google"),
    ],
)
def test_an_unknown_url_is_a_gateway_to_the_provider_of_the_client(
    base_url: str, client: str, sdk: str, provider: str
) -> None:
    """The client's class determines the platform, else the SDK determines the provider."""
    assert provider_of(base_url, client, sdk) == provider


def test_the_url_takes_precedence_over_the_class_of_the_client() -> None:
    """A client made for Azure may be pointed at OpenAI itself."""
    assert provider_of("https://api.openai.com/v1", "AzureOpenAI", "openai") == "openai"


@pytest.mark.parametrize(
    ("base_url", "provider", "region"),
    [
        ("https://api.openai.com/v1", "openai", ""),
        ("https://us.api.openai.com/v1", "openai", "us"),
        ("https://eu.api.openai.com/v1", "openai", "eu"),
        ("https://us.api.x.ai/v1", "x-ai", "us"),
        ("https://eu-west-1.api.x.ai/v1", "x-ai", "eu-west-1"),
        ("https://us-central1-aiplatform.googleapis.com/", "google", "us-central1"),
        ("https://aiplatform.googleapis.com/v1", "google", "global"),
        ("https://aiplatform.eu.rep.googleapis.com/v1", "google", "eu"),
        (
            "https://aiplatform.googleapis.com/v1/projects/p/locations/us-east5/endpoints/openapi",
            "google",
            "us-east5",
        ),
        ("https://aiplatform.googleapis.com/v1/projects/p/locations/global", "google", "global"),
        ("https://generativelanguage.googleapis.com/v1beta/openai/", "google", ""),
        ("https://bedrock-runtime.eu-central-1.amazonaws.com", "aws", "eu-central-1"),
        ("https://bedrock-mantle.us-east-1.api.aws/openai/v1", "aws", "us-east-1"),
        ("https://bedrock-runtime-fips.us-gov-west-1.amazonaws.com", "aws", "us-gov-west-1"),
        ("https://vpce-0a-1b.bedrock-runtime.us-east-1.vpce.amazonaws.com", "aws", "us-east-1"),
        ("https://aws-external-anthropic.us-west-2.api.aws", "anthropic", ""),
        ("https://api.eu.mistral.ai/v1", "mistral", "eu"),
        ("https://us-api.together.ai/v1", "together", "us"),
        ("https://ai-gateway.vercel.sh/v1", "vercel", ""),
        ("https://t.openai.azure.com/openai/v1/", "azure", ""),
        ("https://t.openai.azure.us/openai/v1/", "azure", "us"),
    ],
)
def test_the_host_or_the_path_shows_the_region(base_url: str, provider: str, region: str) -> None:
    endpoint = Providers().of(base_url, "OpenAI", "openai")
    assert (endpoint.provider, endpoint.region, endpoint.is_known) == (provider, region, True)


def test_configuring_the_provider_of_a_known_host_keeps_its_region() -> None:
    providers = Providers({"eu.api.openai.com": "openai"})
    assert providers.of("https://eu.api.openai.com/v1", "OpenAI", "openai").region == "eu"


@pytest.mark.parametrize(
    ("base_url", "is_local"),
    [
        ("http://localhost:8000/v1", True),
        ("http://127.0.0.1:8000/v1", True),
        ("http://[::1]:8000/v1", True),
        ("http://10.1.2.3/v1", True),
        ("http://172.16.0.9/v1", True),
        ("http://192.168.1.7:1234/v1", True),
        ("http://[fd00::1]/v1", True),
        ("http://gpu-7:8000/v1", True),
        ("http://gpu.local:8000/v1", True),
        ("http://host.docker.internal:8000/v1", True),
        ("https://llm.acme.example/v1", False),
        ("https://8.8.8.8/v1", False),
        ("https://localhost.acme.example/v1", False),
        ("https://api.openai.com/v1", False),
        ("", False),
    ],
)
def test_loopback_and_private_addresses_are_local(base_url: str, is_local: bool) -> None:
    assert Providers().of(base_url, "OpenAI", "openai").is_local == is_local


LOCAL_URL = "http://localhost:8000/v1"
"""An address that nobody configured."""


@pytest.mark.parametrize(
    "model",
    [
        "gpt-oss:20b",
        "openai/gpt-oss-120b",
        "llama3.2",
        "meta-llama/Llama-3.3-70B-Instruct",
        "Qwen/Qwen3-32B",
        "mistral",
        "mistral:7b",
        "mistralai/Mistral-7B-Instruct-v0.3",
        "mixtral:8x7b",
        "gemma3:27b",
        "deepseek-r1:8b",
        "phi4",
        "nomic-embed-text",
    ],
)
def test_a_model_with_open_weights_at_a_local_address_runs_locally(model: str) -> None:
    assert Providers().of(LOCAL_URL, "OpenAI", "openai").runs_locally(model)
    assert not Providers().of("https://llm.acme.example/v1", "OpenAI", "openai").runs_locally(model)
    assert not Providers().of("https://api.groq.com/openai/v1", "OpenAI", "openai").runs_locally(model)


@pytest.mark.parametrize(
    "model",
    [
        "gpt-4o",
        "gpt-5",
        "o3",
        "claude-opus-5",
        "gemini-2.5-pro",
        "mistral-large-latest",
        "grok-4.6",
        "",
        "gpt-oss:120b-cloud",
        "text-embedding-3-small",
    ],
)
def test_another_model_at_a_local_address_is_a_gateways(model: str) -> None:
    endpoint = Providers().of(LOCAL_URL, "OpenAI", "openai")
    assert not endpoint.runs_locally(model)
    assert endpoint.provider == "openai"


@pytest.mark.parametrize(
    ("configured", "base_url", "is_own"),
    [
        ("vllm", LOCAL_URL, True),
        ("vllm", "https://vllm.acme.example/v1", True),
        ("our-gpus", LOCAL_URL, True),
        ("our-gpus", "https://gpus.acme.example/v1", False),
        ("openai", LOCAL_URL, False),
        ("openrouter", LOCAL_URL, False),
        ("litellm", LOCAL_URL, False),
        ("vercel", LOCAL_URL, False),
    ],
)
def test_a_configured_server_runs_all_models_locally(configured: str, base_url: str, is_own: bool) -> None:
    providers = Providers({base_url.partition("://")[2].removesuffix("/v1"): configured})
    endpoint = providers.of(base_url, "OpenAI", "openai")
    assert endpoint.runs_locally("gpt-4o") == is_own
    assert endpoint.runs_locally("llama3.2") == is_own


def test_ollama_runs_models_locally_but_not_those_of_its_cloud() -> None:
    endpoint = Providers().of("http://ollama:11434/v1", "OpenAI", "openai")
    assert endpoint.runs_locally("a-model-of-mine")
    assert not endpoint.runs_locally("gpt-oss:120b-cloud")


def test_the_log_says_once_what_is_assumed_of_a_local_address(caplog: pytest.LogCaptureFixture) -> None:
    endpoint = Providers().of(LOCAL_URL, "OpenAI", "openai")
    with caplog.at_level(logging.INFO, "llm_exporter"):
        for model in ("llama-for-the-log", "gpt-for-the-log") * 2:
            endpoint.runs_locally(model)
    free, paid = (record.getMessage() for record in caplog.records)
    assert "'llama-for-the-log' at a local address costs nothing" in free
    assert "'gpt-for-the-log' at a local address has the prices of provider 'openai'" in paid


@pytest.mark.parametrize(
    ("configured", "base_url", "believed"),
    [
        ({}, "https://openrouter.ai/api/v1", True),
        ({}, "https://api.x.ai/v1", True),
        ({}, "https://api.perplexity.ai", True),
        ({}, "https://ai-gateway.vercel.sh/v1", True),
        ({}, "https://api.openai.com/v1", False),
        ({}, "https://credits.acme.example/v1", False),
        ({"credits.acme.example": "openrouter"}, "https://credits.acme.example/v1", True),
        ({"credits.acme.example": "litellm"}, "https://credits.acme.example/v1", True),
        ({"credits.acme.example": "house"}, "https://credits.acme.example/v1", False),
    ],
)
def test_a_reported_cost_is_believed_from_those_that_report_usd(
    configured: dict[str, str], base_url: str, believed: bool
) -> None:
    assert Providers(configured).of(base_url, "OpenAI", "openai").reports_usd() == believed


def test_providers_that_report_usd_name_a_page() -> None:
    assert all(page.startswith("https://") for page in REPORT_USD.values())


def test_an_endpoint_has_its_host_only_if_a_factor_names_it() -> None:
    providers = Providers(priced=["gw.example", "other.example:8443"])
    assert providers.of("https://gw.example/v1", "OpenAI", "openai").host == "gw.example"
    assert providers.of("https://other.example:8443/v1", "OpenAI", "openai").host == "other.example:8443"
    assert providers.of("https://other.example/v1", "OpenAI", "openai").host == ""


def chat(server: Server, model: str) -> None:
    usage = {"prompt_tokens": 1000, "completion_tokens": 100, "total_tokens": 1100, "cost": 3211}
    server.respond_with("/chat/completions", payloads.chat(usage, model=model))
    with llm_exporter.instrument(openai.OpenAI(base_url=server.url, api_key="k")) as client:
        client.chat.completions.create(model=model, messages=[])


def test_credits_that_a_gateway_reports_are_no_dollars(server: Server, metered: Metered) -> None:
    """A thousand input and a hundred output tokens of gpt-4o cost $0.0035."""
    chat(server, "gpt-4o")
    assert metered.call.total_cost == pytest.approx(0.0035)
    assert (metered.call.cost_source, metered.call.reported_cost) == ("list", None)


@pytest.mark.parametrize("cost", [{"cost": {"usd": 0.02}}, {"cost_in_usd_ticks": 200_000_000}], ids=str)
def test_a_cost_that_names_usd_is_believed_from_any_gateway(
    cost: dict[str, object], server: Server, metered: Metered
) -> None:
    usage = {"prompt_tokens": 1000, "completion_tokens": 100, "total_tokens": 1100, **cost}
    server.respond_with("/chat/completions", payloads.chat(usage, model="gpt-4o"))
    with llm_exporter.instrument(openai.OpenAI(base_url=server.url, api_key="k")) as client:
        client.chat.completions.create(model="gpt-4o", messages=[])
    assert metered.call.total_cost == pytest.approx(0.02)
    assert metered.call.cost_source == "provider"


def test_a_local_model_that_nobody_configured_costs_nothing(server: Server, metered: Metered) -> None:
    chat(server, "llama3.2")
    assert metered.call.cost == {"input": 0.0, "output": 0.0}
    assert (metered.call.cost_source, metered.call.unpriced_tokens) == ("local", 0)


def test_a_factor_applies_by_host(server: Server, metered: Metered, tmp_path: Path) -> None:
    config = tmp_path / "llm-exporter.yml"
    address = server.url.removeprefix("http://")
    config.write_text(f"prices: {{factors: [{{host: '{address}', factor: 2}}]}}\n")
    llm_exporter.configure(config)
    chat(server, "gpt-4o")
    assert metered.call.total_cost == pytest.approx(0.007)
    assert metered.call.host == address


CONFIGURED = {
    "localhost:8000": "vllm",
    "gpu-7": "vllm",
    "[::1]:8080": "llama.cpp",
    "llm-gateway.acme.example": "azure",
    "llm-gateway.acme.example:8443": "anthropic",
    "api.openai.com": "house",
    "127.0.0.1:11434": "openai",
}


@pytest.mark.parametrize(
    ("base_url", "provider"),
    [
        pytest.param("http://localhost:8000/v1", "vllm", id="host and port"),
        pytest.param("http://LocalHost:8000/v1", "vllm", id="case-insensitive"),
        pytest.param("http://localhost:8001/v1", "openai", id="another port"),
        pytest.param("http://127.0.0.1:8000/v1", "openai", id="another name of the host"),
        pytest.param("http://gpu-7:8000/v1", "vllm", id="host with any port"),
        pytest.param("http://gpu-7/v1", "vllm", id="host without a port"),
        pytest.param("http://gpu-70:8000/v1", "openai", id="host with the same prefix"),
        pytest.param("http://[::1]:8080/v1", "llama.cpp", id="IPv6"),
        pytest.param("https://llm-gateway.acme.example/openai/v1", "azure", id="gateway"),
        pytest.param("https://llm-gateway.acme.example:8443/v1", "anthropic", id="host and port before host"),
        pytest.param("https://key@llm-gateway.acme.example/v1", "azure", id="with a user"),
        pytest.param("https://api.openai.com/v1", "house", id="known host"),
        pytest.param("http://127.0.0.1:11434/v1", "openai", id="known port"),
        pytest.param("http://localhost:11434/v1", "ollama", id="not configured"),
    ],
)
def test_configured_providers_take_precedence(base_url: str, provider: str) -> None:
    assert Providers(CONFIGURED).of(base_url, "OpenAI", "openai").provider == provider


def test_a_url_without_a_port_matches_the_default_port() -> None:
    configured = Providers({"gw.example:443": "azure", "gw.example:80": "vllm"})
    assert configured.of("https://gw.example/v1", "OpenAI", "openai").provider == "azure"
    assert configured.of("http://gw.example/v1", "OpenAI", "openai").provider == "vllm"


@pytest.mark.parametrize("operation", OPERATIONS, ids=str)
def test_a_configured_local_model_costs_nothing(
    operation: Operation, server: Server, metered: Metered, tmp_path: Path
) -> None:
    """Even if a price table has a model of the same name, and unknown models have a price."""
    config = tmp_path / "llm-exporter.yml"
    config.write_text(
        f"providers: {{'{server.url.removeprefix('http://')}': vllm}}\nprices: {{fallback: {{input: 10}}}}\n"
    )
    llm_exporter.configure(config)
    server.respond_with(operation.path, operation.response())
    operation.run(llm_exporter.instrument(operation.client(server.url)))

    call = metered.call
    assert (call.provider, call.model) == ("vllm", operation.wire.model)
    assert call.cost == dict.fromkeys(operation.wire.tokens, 0.0)
    assert (call.cost_source, call.unpriced_tokens, call.approximated) == ("local", 0, {})
    assert call.total_tokens == sum(operation.wire.tokens.values())
