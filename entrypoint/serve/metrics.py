"""What Prometheus reads at /metrics."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Metric,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector

MEDIA_TYPE = CONTENT_TYPE_LATEST
SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)

MOMENTS = (0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 1)
LENGTHS = (16, 64, 256, 1024, 2048, 4096, 8192, 16_384, 32_768, 131_072)

disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series, which nobody reads
registry = CollectorRegistry()

requests = Counter(
    "llmdeploy_requests", "HTTP requests", ["endpoint", "status", "model"], registry=registry
)
duration = Histogram(
    "llmdeploy_request_seconds", "Seconds from request to the end of its answer",
    ["endpoint", "model"], buckets=SECONDS, registry=registry,
)  # fmt: skip
running = Gauge("llmdeploy_running", "Answers being computed", ["model"], registry=registry)
waiting = Gauge("llmdeploy_queue", "Requests that wait", ["model"], registry=registry)
ready = Gauge("llmdeploy_ready", "Whether the model is loaded", ["model"], registry=registry)
loads = Counter("llmdeploy_engine_loads", "Loads of the engine", ["model"], registry=registry)
tokens = Counter(
    "llmdeploy_tokens", "Tokens by kind: prompt, cached (of the prompt), completion",
    ["model", "kind"], registry=registry,
)  # fmt: skip
first_token = Histogram(
    "llmdeploy_first_token_seconds", "Seconds from request to first piece, waiting included",
    ["model"], buckets=SECONDS, registry=registry,
)  # fmt: skip
queued = Histogram(
    "llmdeploy_queue_seconds", "Seconds that a request waited for its turn",
    ["model"], buckets=SECONDS, registry=registry,
)  # fmt: skip
token_time = Histogram(
    "llmdeploy_token_seconds", "Seconds for each token after the first, by answer",
    ["model"], buckets=MOMENTS, registry=registry,
)  # fmt: skip
lengths = Histogram(
    "llmdeploy_length_tokens", "Tokens of an answer by kind: prompt, completion",
    ["model", "kind"], buckets=LENGTHS, registry=registry,
)  # fmt: skip
errors = Counter(
    "llmdeploy_errors", "Requests refused or failed", ["code", "model"], registry=registry
)


# By vLLM's name: ours, and what of it. Routers and dashboards made for vLLM read these.
VLLM: Final[Mapping[str, tuple[str, Mapping[str, str]]]] = {
    "vllm:num_requests_running": ("llmdeploy_running", {}),
    "vllm:num_requests_waiting": ("llmdeploy_queue", {}),
    "vllm:prompt_tokens": ("llmdeploy_tokens", {"kind": "prompt"}),
    "vllm:generation_tokens": ("llmdeploy_tokens", {"kind": "completion"}),
    "vllm:prefix_cache_queries": ("llmdeploy_tokens", {"kind": "prompt"}),
    "vllm:prefix_cache_hits": ("llmdeploy_tokens", {"kind": "cached"}),
    "vllm:request_prompt_tokens": ("llmdeploy_length_tokens", {"kind": "prompt"}),
    "vllm:request_generation_tokens": ("llmdeploy_length_tokens", {"kind": "completion"}),
    "vllm:time_to_first_token_seconds": ("llmdeploy_first_token_seconds", {}),
    "vllm:request_time_per_output_token_seconds": ("llmdeploy_token_seconds", {}),
    "vllm:request_queue_time_seconds": ("llmdeploy_queue_seconds", {}),
    "vllm:e2e_request_latency_seconds": ("llmdeploy_request_seconds", {}),
}
ALIASES: Final = {"vllm": VLLM}


class Aliases(Collector):
    """The same figures under the names of another server; `model` is `model_name` there."""

    def __init__(self, names: Mapping[str, tuple[str, Mapping[str, str]]]) -> None:
        self._names = names

    def collect(self) -> Iterator[Metric]:
        """Yield them as they are now."""
        families = {family.name: family for family in registry.collect()}
        for name, (own, part) in self._names.items():
            family = families[own]
            alias = Metric(name, family.documentation, family.type)
            for sample in family.samples:
                if sample.labels["model"] and part.items() <= sample.labels.items():
                    labels = {key: sample.labels[key] for key in sample.labels if key not in part}
                    labels["model_name"] = labels.pop("model")
                    alias_name = name + sample.name.removeprefix(own)
                    alias.samples.append(sample._replace(name=alias_name, labels=labels))
            yield alias


def page(aliases: str = "") -> bytes:
    """Return all of them in Prometheus's text format, under the names of `aliases` too."""
    own = generate_latest(registry)
    return own + generate_latest(Aliases(ALIASES[aliases])) if aliases else own
