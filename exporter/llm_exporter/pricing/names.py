"""Model names: how providers compare them, and under which names price tables list them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

_RESOURCE: Final = re.compile(r"^(?:projects/[^/]+/locations/[^/]+/)?(?:publishers/[^/]+/)?models/")
"""The path before a model's name in Google's APIs: https://ai.google.dev/api/models."""
_HIDDEN: Final = re.compile(r"^arn:[^:]*:bedrock:.*:(application-inference-profile|provisioned-model)/")
"""Bedrock ARNs that do not name their model:
https://docs.aws.amazon.com/bedrock/latest/userguide/inference-profiles-create.html."""
_ROUTES: Final = re.compile(r":(?:nitro|floor|exacto|online|free|extended|thinking)$")
"""OpenRouter's suffixes: https://openrouter.ai/docs/guides/routing/model-variants."""
_VENDORS: Final = {
    "openai": "openai",
    "anthropic": "anthropic",
    "google": "google",
    "xai": "x-ai",
    "x-ai": "x-ai",
    "mistral": "mistral",
    "mistralai": "mistral",
    "deepseek": "deepseek",
    "cohere": "cohere",
    "perplexity": "perplexity",
    "moonshotai": "moonshotai",
    "zai": "zai",
    "minimax": "minimax",
    "groq": "groq",
}
"""Provider ids by the vendor in a name such as `xai/grok-4`."""
_GATEWAYS: Final = frozenset({"vercel", "litellm", "openai", "anthropic", "google"})
"""Providers under which a name such as `anthropic/claude-opus-5` belongs to the vendor, at its list price.

Vercel charges no markup (https://vercel.com/docs/ai-gateway/pricing). The three SDKs' providers stand for
unknown gateways. Other providers have prices of their own for the models of a vendor.
"""
_DOTLESS: Final = frozenset({"anthropic", "x-ai"})
"""Providers whose own names have dashes where gateways write dots: `claude-opus-4.5`, `grok-4.1-fast`."""


def canonical(provider: str, model: str) -> str:
    """Return a model name in the form in which names are compared.

    Lower-cases it and drops what does not select another model: `models/`, the resource path, the ARN and the
    provider's own prefix.
    """
    name = model.strip().lower()
    if name.startswith("arn:"):
        name = name.rpartition("/")[2]
    name = _RESOURCE.sub("", name)
    return name.removeprefix(f"{provider}/").removesuffix("@default")


def hidden_model(model: str) -> str:
    """Return the type of a Bedrock ARN that does not tell its model and profile; "" for other names."""
    hidden = _HIDDEN.match(model.strip().lower())
    return hidden[1] if hidden else ""


def is_free(provider: str, model: str) -> bool:
    """Return whether the provider serves the model free of charge, by its name."""
    return provider == "openrouter" and model.lower().endswith(":free")


def searches_web(provider: str, model: str) -> bool:
    """Return whether the provider searches the web for each request, by the model's name, and bills that."""
    return provider == "openrouter" and model.lower().endswith(":online")


def listed_names(provider: str, model: str) -> Iterator[tuple[str, str]]:
    """Yield the provider ids and names under which a price table may list a model, the best first."""
    name = canonical(provider, model)
    if not name:
        return
    if (full := model.strip().lower()) == f"{provider}/{name}":
        yield provider, full  # Perplexity's `perplexity/sonar` is another model than `sonar`
    yield provider, name
    if provider == "openrouter" and (plain := _ROUTES.sub("", name)) != name:
        yield provider, plain
    if provider in _DOTLESS and "." in name:
        yield provider, name.replace(".", "-")
    if provider == "aws" and "gpt-oss" in name:
        yield provider, f"{name}-1:0"  # Bedrock's newer endpoints leave the version out
    vendor, slash, rest = name.partition("/")
    if slash and provider in _GATEWAYS and (owner := _VENDORS.get(vendor)):
        yield owner, rest
        if owner in _DOTLESS and "." in rest:
            yield owner, rest.replace(".", "-")


_LOCAL_SERVERS: Final = frozenset(
    {
        "gpt4all",
        "jan",
        "koboldcpp",
        "llama-cpp",
        "llama.cpp",
        "llamacpp",
        "llamafile",
        "lm-studio",
        "lmstudio",
        "local",
        "localai",
        "mlx",
        "mlx-lm",
        "ollama",
        "sglang",
        "tgi",
        "triton",
        "vllm",
        "xinference",
    }
)
"""Servers that run models on the user's own hardware, as people name them under `providers`."""
_OPEN_WEIGHTS: Final = re.compile(
    r"^(?:[\w.-]+/)*(?:gpt-oss|(?:meta-)?llama|code-?llama|tinyllama|qwen|qwq|open-?mistral|open-?mixtral"
    r"|mistral-(?:7b|nemo|small)|mixtral|ministral|devstral|magistral-small|voxtral|pixtral-12b|codestral-22b"
    r"|gemma|codegemma|deepseek|phi|granite|falcon|olmo|smol|starcoder|nemotron|command-r|aya|yi-|vicuna|wizard"
    r"|hermes|nous-hermes|dolphin|kimi-k2|glm-4|bge-|nomic-embed|mxbai|all-minilm|e5-|jina-|whisper-large)"
)
"""Models whose weights are published, by the beginning of the name."""
_CLOUD: Final = re.compile(r"[:-]cloud$")
"""Ollama's suffix of models that run in its cloud: https://docs.ollama.com/cloud."""


def is_local_server(provider: str) -> bool:
    """Return whether a provider's name is that of a server for the user's own hardware."""
    return provider.lower() in _LOCAL_SERVERS


def has_open_weights(model: str) -> bool:
    """Return whether anyone may run the model, by its name."""
    name = canonical("", model)
    return (bool(_OPEN_WEIGHTS.match(name)) or name.partition(":")[0] == "mistral") and not runs_in_cloud(
        name
    )


def runs_in_cloud(model: str) -> bool:
    """Return whether a local server passes the model's calls on to its vendor's cloud."""
    return bool(_CLOUD.search(model.lower()))
