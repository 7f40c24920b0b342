"""Model names compare as providers compare them, and are found under the names of price tables."""

from __future__ import annotations

import pytest

from llm_exporter.pricing.names import canonical, hidden_model, is_free, listed_names


@pytest.mark.parametrize(
    ("provider", "model", "name"),
    [
        ("openai", "GPT-4o", "gpt-4o"),
        ("openai", "openai/gpt-4o", "gpt-4o"),
        ("groq", "openai/gpt-oss-120b", "openai/gpt-oss-120b"),
        ("google", "models/gemini-2.5-pro", "gemini-2.5-pro"),
        ("google", "google/gemini-2.5-pro", "gemini-2.5-pro"),
        ("google", "publishers/anthropic/models/claude-opus-5@default", "claude-opus-5"),
        ("google", "projects/p/locations/global/publishers/google/models/gemini-2.5-pro", "gemini-2.5-pro"),
        ("aws", "us.anthropic.claude-opus-4-7-v1:0", "us.anthropic.claude-opus-4-7-v1:0"),
        (
            "aws",
            "arn:aws:bedrock:eu-west-1:1:inference-profile/eu.anthropic.claude-opus-4-7-v1:0",
            "eu.anthropic.claude-opus-4-7-v1:0",
        ),
        (
            "aws",
            "arn:aws:bedrock:us-east-1::foundation-model/amazon.nova-pro-v1:0",
            "amazon.nova-pro-v1:0",
        ),
        ("openai", " ", ""),
    ],
)
def test_names_are_compared_without_case_path_and_prefix(provider: str, model: str, name: str) -> None:
    assert canonical(provider, model) == name


@pytest.mark.parametrize(
    ("provider", "model", "names"),
    [
        ("openai", "gpt-4o", [("openai", "gpt-4o")]),
        (
            "openrouter",
            "openai/gpt-4o:nitro",
            [("openrouter", "openai/gpt-4o:nitro"), ("openrouter", "openai/gpt-4o")],
        ),
        ("x-ai", "grok-4.1-fast", [("x-ai", "grok-4.1-fast"), ("x-ai", "grok-4-1-fast")]),
        (
            "vercel",
            "xai/grok-4.1-fast",
            [("vercel", "xai/grok-4.1-fast"), ("x-ai", "grok-4.1-fast"), ("x-ai", "grok-4-1-fast")],
        ),
        ("together", "deepseek/deepseek-v4", [("together", "deepseek/deepseek-v4")]),
        ("vercel", "house/model", [("vercel", "house/model")]),
        ("openai", "", []),
    ],
)
def test_a_model_is_looked_up_under_these_names(
    provider: str, model: str, names: list[tuple[str, str]]
) -> None:
    """The models of a vendor have its prices at gateways that charge no markup, and not at resellers."""
    assert list(listed_names(provider, model)) == names


def test_only_openrouter_marks_free_models_by_name() -> None:
    assert is_free("openrouter", "deepseek/deepseek-r1:free")
    assert not is_free("openrouter", "deepseek/deepseek-r1")
    assert not is_free("house", "deepseek-r1:free")


@pytest.mark.parametrize(
    ("model", "hidden"),
    [
        ("arn:aws:bedrock:us-east-1:1:application-inference-profile/a1", "application-inference-profile"),
        ("arn:aws-us-gov:bedrock:us-gov-west-1:1:provisioned-model/a1", "provisioned-model"),
        ("arn:aws:bedrock:us-east-1:1:inference-profile/us.amazon.nova-pro-v1:0", ""),
        ("amazon.nova-pro-v1:0", ""),
    ],
)
def test_some_bedrock_arns_hide_the_model(model: str, hidden: str) -> None:
    assert hidden_model(model) == hidden
