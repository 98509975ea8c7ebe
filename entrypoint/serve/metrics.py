"""What Prometheus reads at /metrics."""

from __future__ import annotations

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.exposition import CONTENT_TYPE_LATEST

MEDIA_TYPE = CONTENT_TYPE_LATEST
SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)

MOMENTS = (0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 1)
LENGTHS = (16, 64, 256, 1024, 2048, 4096, 8192, 16_384, 32_768, 131_072)

disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series, which nobody reads
registry = CollectorRegistry()

requests = Counter("llmdeploy_requests", "HTTP requests", ["endpoint", "status"], registry=registry)
duration = Histogram(
    "llmdeploy_request_seconds", "Seconds from request to the end of its answer", ["endpoint"],
    buckets=SECONDS, registry=registry,
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
errors = Counter("llmdeploy_errors", "Requests refused or failed", ["code"], registry=registry)


def page() -> bytes:
    """Return all of them in Prometheus's text format."""
    return generate_latest(registry)
