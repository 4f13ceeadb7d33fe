"""What a server counts, for Prometheus."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

CONTENT_TYPE = CONTENT_TYPE_LATEST
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_TEXTS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Metrics:
    """Counters of one server.

    Attributes:
        texts: Texts that were classified.
        batches: Texts per batch.
        waiting: Texts that wait for the model.
        seconds: Time of the answers to ``/predict``, including refusals.
    """

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        self._requests = Counter(
            "dlnotes_requests", "Requests that were answered.", ["path", "status"],
            registry=registry,
        )  # fmt: skip
        self.texts = Counter("dlnotes_texts", "Texts that were classified.", registry=registry)
        self.batches = Histogram(
            "dlnotes_batch_texts", "Texts per batch.", buckets=_TEXTS, registry=registry
        )
        self.waiting = Gauge(
            "dlnotes_waiting_texts", "Texts that wait for the model.", registry=registry
        )
        self.seconds = Histogram(
            "dlnotes_predict_seconds", "Time from the headers of a request to its answer.",
            buckets=_SECONDS, registry=registry,
        )  # fmt: skip
        self._by: dict[tuple[str, int], Counter] = {}

    def count(self, path: str, status: int) -> None:
        """Count a request; `path` must be one of a few."""
        counter = self._by.get((path, status))
        if counter is None:
            counter = self._by[path, status] = self._requests.labels(path, str(status))
        counter.inc()

    def text(self) -> bytes:
        """All metrics in the format of Prometheus."""
        return generate_latest(self._registry)
