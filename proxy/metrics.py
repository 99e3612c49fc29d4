"""The page that Prometheus reads. The only importer of prometheus_client.

What lives here: making one page of all workers' tallies. What must never live here: recording
(``proxy/recorder.py``), names and buckets (``proxy/families.py``), rendering on the event loop.
"""

from __future__ import annotations

import asyncio
import math
import platform
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.utils import floatToGoString

from proxy import __version__, tally
from proxy import families as f
from proxy.blocks import BLOCKS
from proxy.recorder import Recorder
from proxy.tally import Row, Snapshot


class Metrics(Recorder):
    """One worker's metrics, and the page of all workers'. ``page`` may be asked for by any number at once."""

    def __init__(
        self,
        directory: Path | None = None,
        worker: int = 0,
        *,
        models: Iterable[str] = (),
        max_models: int = 100,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """As Recorder; clock: seconds, for the page's age."""
        super().__init__(directory, worker, models=models, max_models=max_models)
        self._clock = clock
        self._pages: dict[str, tuple[float, bytes]] = {}
        self._busy = asyncio.Lock()

    def snapshots(self) -> list[Snapshot]:
        """Every process's numbers: this one's, or all that share the directory."""
        return [self._tally.snapshot()] if self.directory is None else tally.read_all(self.directory)

    async def page(self, accept: str | None = None) -> tuple[bytes, str]:
        """The metrics of all workers: body and Content-Type, by the Accept field. At most a second old."""
        _, kind = choose_encoder(accept or "")
        async with self._busy:
            made, body = self._pages.get(kind, (float("-inf"), b""))
            if self._clock() - made >= 1.0:
                body, kind = await asyncio.to_thread(self.exposition, accept)
                if len(self._pages) > 8:  # the Accept field is the client's
                    self._pages.clear()
                self._pages[kind] = (self._clock(), body)
            return body, kind

    def exposition(self, accept: str | None = None) -> tuple[bytes, str]:
        """The same, made at once; takes tens of milliseconds."""
        encoder, kind = choose_encoder(accept or "")
        registry = CollectorRegistry()
        registry.register(_Page(self.snapshots(), self._tally.lost))
        return encoder(registry), kind


class _Page:
    """All metrics at one moment, in the form that prometheus_client renders."""

    def __init__(self, snapshots: list[Snapshot], lost: int) -> None:
        self._snapshots, self._lost = snapshots, lost
        self._rows: dict[str, list[Row]] = defaultdict(list)
        for snapshot in snapshots:
            for row in snapshot.rows:
                block = BLOCKS.get(row.block)
                if block is None or (len(row.values), len(row.labels)) != (block.size, len(block.labels)):
                    continue  # written by another version
                if not block.gauge or (snapshot.alive and not math.isnan(row.values[0])):
                    self._rows[row.block].append(row)

    def collect(self) -> Iterator[Metric]:
        for family in f.FAMILIES:
            metric = Metric(family.name.removesuffix("_total"), family.text, family.kind)
            for source in family.sources:
                self._fill(metric, family, source)
            for labels, value in self._made(family.name):
                metric.add_sample(family.name, labels, value)
            yield metric
        yield from self._processes()

    def _fill(self, metric: Metric, family: f.Family, source: f.Source) -> None:
        part, bounds = source.block.at(source.part), source.block.bounds(source.part)
        width = len(bounds) + 2 if bounds else 1
        groups: dict[tuple[str, ...], list[tuple[float, ...]]] = defaultdict(list)
        for row in self._rows[source.block.name]:
            given = dict(zip(source.block.labels, row.labels, strict=True))
            if any(given[label] not in values for label, values in source.only):
                continue
            key = tuple(_status_class(given) if k == "status_class" else given[k] for k in family.labels)
            groups[key].append(row.values[part : part + width])
        for key, rows in sorted(groups.items()):
            labels = dict(zip(family.shown_labels, (*key, *(v for _, v in source.labels)), strict=True))
            if source.join != "sum":
                total = [(min if source.join == "min" else max)(row[0] for row in rows)]
            else:
                total = [sum(column) for column in zip(*rows, strict=True)]
            if family.kind == "histogram":
                _histogram(metric, labels, bounds, total)
            else:
                metric.add_sample(family.name, labels, total[-1] if source.total else sum(total[: len(bounds) + 1]))

    def _made(self, name: str) -> Iterator[tuple[dict[str, str], float]]:
        workers = [s for s in self._snapshots if s.name.isdigit()]
        if name == "headgate_worker_up":
            yield from (({"worker": s.name}, float(s.alive)) for s in workers)
        elif name == "headgate_metrics_rows_lost_total":
            yield {}, float(self._lost)
        elif name == "headgate_config_info":
            yield from (({"hash": digest}, 1.0) for digest in sorted({s.info for s in workers if s.alive and s.info}))
        elif name == "headgate_build_info":
            yield {"version": __version__, "python": platform.python_version()}, 1.0

    def _processes(self) -> Iterator[Metric]:
        """prometheus_client's ``process_*`` metrics (Linux), for each live process."""
        merged: dict[str, Metric] = {}
        for snapshot in self._snapshots:
            if not snapshot.alive:
                continue
            for metric in ProcessCollector(pid=lambda s=snapshot: s.pid, registry=None).collect():  # type: ignore[misc]
                into = merged.setdefault(metric.name, Metric(metric.name, metric.documentation, metric.type))
                for sample in metric.samples:
                    into.add_sample(sample.name, {"worker": snapshot.name}, sample.value)
        yield from merged.values()


def _status_class(labels: dict[str, str]) -> str:
    status = labels["status"]
    return status if status == "none" else f"{status[0]}xx"


def _histogram(metric: Metric, labels: dict[str, str], bounds: tuple[float, ...], values: list[float]) -> None:
    seen = 0.0
    for bound, count in zip((*bounds, float("inf")), values, strict=False):
        seen += count
        edge = floatToGoString(bound)  # type: ignore[no-untyped-call]
        metric.add_sample(f"{metric.name}_bucket", labels | {"le": edge}, seen)
    metric.add_sample(f"{metric.name}_count", labels, seen)
    metric.add_sample(f"{metric.name}_sum", labels, values[-1])
