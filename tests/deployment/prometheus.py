"""A real Prometheus, for what only it can judge: the queries of the dashboard and of the alerts."""

import json
import shutil
import socket
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from ruamel.yaml import YAML

from tests.ledger.stores import HANG_SECONDS
from tests.postgres.needs import missing
from tests.replicas.processes import Output

DASHBOARD = Path(__file__).parents[2] / "docs" / "deploy" / "grafana-dashboard.json"
ADDRESS = "127.0.0.42"
"""Prometheus cannot take over a socket. At this address nobody else takes its port meanwhile."""


class Prometheus:
    """One that runs.

    Args:
        url: where it answers.
    """

    def __init__(self, url: str) -> None:
        self._url = url

    def at(self, query: str, moment: float) -> list[dict[str, Any]]:
        """Each series of a query's result, with its `value` at a moment in Unix time."""
        return self._result("query", query=query, time=moment)

    def between(
        self, query: str, begin: float, end: float, step: float = 5
    ) -> list[dict[str, Any]]:
        """Each series of a query's result, with its `values` from one moment to another."""
        return self._result("query_range", query=query, start=begin, end=end, step=step)

    def _result(self, path: str, **params: Any) -> list[dict[str, Any]]:
        with httpx.Client(trust_env=False, timeout=HANG_SECONDS) as client:
            answer = client.get(f"{self._url}/api/v1/{path}", params=params).json()
        assert answer["status"] == "success", answer
        result: list[dict[str, Any]] = answer["data"]["result"]
        return result


def panels() -> list[dict[str, Any]]:
    """The panels of the dashboard, whose queries are about all replicas."""
    text = DASHBOARD.read_text("utf-8").replace("$instance", ".*")
    found: list[dict[str, Any]] = json.loads(text)["panels"]
    return found


def program(name: str) -> str:
    """`prometheus` or `promtool`; without it the test is skipped."""
    return shutil.which(name) or missing("prometheus", f"{name}: apt-get install prometheus")


@contextmanager
def prometheus(folder: Path, targets: Mapping[str, int] | None = None) -> Iterator[Prometheus]:
    """Start it on loopback.

    Args:
        folder: for its data, which may be there already.
        targets: the port of each instance whose metrics it reads every five seconds.
    """
    with socket.create_server((ADDRESS, 0)) as free:
        port = free.getsockname()[1]
    read = [
        {"targets": [f"127.0.0.1:{target}"], "labels": {"instance": name}}
        for name, target in (targets or {}).items()
    ]
    every = {"scrape_interval": "5s", "scrape_timeout": "4s"}
    jobs = [{"job_name": "wan-mcp", "static_configs": read}]
    YAML().dump({"global": every, "scrape_configs": jobs}, folder / "prometheus.yml")
    command = [program("prometheus"), f"--config.file={folder / 'prometheus.yml'}"]
    command += [f"--storage.tsdb.path={folder}", f"--web.listen-address={ADDRESS}:{port}"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            Output(process).wait_for("Server is ready to receive web requests")
            yield Prometheus(f"http://{ADDRESS}:{port}")
        finally:
            process.terminate()
            process.wait(HANG_SECONDS)


def store(folder: Path, scrapes: Sequence[tuple[float, str]]) -> None:
    """Put into its data what it would have read.

    Args:
        scrapes: the moment of each in Unix time, and the text that was read.
    """
    from prometheus_client.parser import text_string_to_metric_families

    lines = [
        f"{_series(sample.name, {'instance': 'one', **sample.labels})} {sample.value} {moment}"
        for moment, text in scrapes
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    ]
    past = folder / "past.txt"
    past.write_text("\n".join([*lines, "# EOF", ""]), "utf-8")
    command = [program("promtool"), "tsdb", "create-blocks-from", "openmetrics"]
    done = subprocess.run([*command, past, folder], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def _series(name: str, labels: Mapping[str, str]) -> str:
    return name + "{" + ",".join(f'{key}="{value}"' for key, value in labels.items()) + "}"
