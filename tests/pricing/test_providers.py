"""The provider of a client is found by its URL, its class or its SDK."""

from __future__ import annotations

from pathlib import Path

import pytest

import llm_exporter
from llm_exporter.pricing.providers import Providers
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
