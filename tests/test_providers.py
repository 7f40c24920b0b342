"""Which provider a client talks to."""

from __future__ import annotations

import pytest

from llm_exporter.providers import provider_of


@pytest.mark.parametrize(
    ("base_url", "provider"),
    [
        ("https://api.openai.com/v1/", "openai"),
        ("https://t.openai.azure.com/openai/deployments/d/", "azure"),
        ("https://t.services.ai.azure.com/anthropic/", "azure"),
        ("https://t.cognitiveservices.azure.com/openai/v1/", "azure"),
        ("https://api.anthropic.com", "anthropic"),
        ("https://bedrock-runtime.eu-central-1.amazonaws.com", "aws"),
        ("https://generativelanguage.googleapis.com/v1beta/openai/", "google"),
        ("https://aiplatform.googleapis.com/v1", "google"),
        ("https://us-east5-aiplatform.googleapis.com/v1/", "google"),
        ("https://aiplatform.eu.rep.googleapis.com/v1", "google"),
        ("https://api.deepseek.com", "deepseek"),
        ("https://api.groq.com/openai/v1/", "groq"),
        ("https://api.x.ai/v1", "x-ai"),
        ("https://api.mistral.ai/v1", "mistral"),
        ("https://openrouter.ai/api/v1", "openrouter"),
        ("https://api.together.xyz/v1", "together"),
        ("https://api.fireworks.ai/inference/v1", "fireworks"),
        ("https://api.perplexity.ai", "perplexity"),
        ("https://api.cerebras.ai/v1", "cerebras"),
        ("https://api.cohere.ai/compatibility/v1", "cohere"),
        ("https://api.moonshot.cn/v1", "moonshotai"),
    ],
)
@pytest.mark.parametrize("client", ["OpenAI", "AsyncOpenAI"])
def test_url_of_a_provider_tells_it(base_url: str, provider: str, client: str) -> None:
    """Whichever SDK is used to talk to it."""
    assert provider_of(base_url, client, "openai") == provider


@pytest.mark.parametrize(
    "base_url",
    [
        "http://127.0.0.1:8000/v1/",
        "http://localhost:11434/v1",
        "https://llm-gateway.acme.example/openai/v1",
        "https://not-a-provider.example/?to=https://api.mistral.ai",
        "https://xapi.x.ai.acme.example/v1",
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
        ("AnthropicAWS", "anthropic", "aws"),
        ("AnthropicVertex", "anthropic", "google"),
        ("AsyncAnthropicVertex", "anthropic", "google"),
        ("AnthropicFoundry", "anthropic", "azure"),
        ("Client", "google", "google"),
    ],
)
def test_url_of_no_provider_is_a_gateway_to_the_one_the_client_is_made_for(
    base_url: str, client: str, sdk: str, provider: str
) -> None:
    """The client's class tells the platform, else the SDK tells the provider."""
    assert provider_of(base_url, client, sdk) == provider


def test_url_goes_before_the_name_of_the_client() -> None:
    """A client made for Azure may be pointed at OpenAI itself."""
    assert provider_of("https://api.openai.com/v1", "AzureOpenAI", "openai") == "openai"


@pytest.mark.parametrize(
    ("base_url", "client", "sdk"),
    [
        ("https://bedrock-mantle.us-west-9.api.aws/anthropic", "AnthropicBedrockMantle", "anthropic"),
        ("https://bedrock-mantle.us-west-9.api.aws/openai/v1", "BedrockOpenAI", "openai"),
        ("https://aws-external-anthropic.us-west-9.api.aws", "AnthropicAWS", "anthropic"),
    ],
)
def test_newer_endpoints_of_aws_are_known_by_their_client(base_url: str, client: str, sdk: str) -> None:
    """No URL pattern has them yet."""
    assert provider_of(base_url, client, sdk) == "aws"
