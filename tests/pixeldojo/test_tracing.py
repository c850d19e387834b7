"""What OpenTelemetry sees of the requests to PixelDojo."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from mcp import Client
from opentelemetry import trace

pytest.importorskip("opentelemetry.sdk", reason="collects spans")

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from wan_mcp.sandbox import Sandbox, Terms
from wan_mcp.sandbox.http import faults
from wan_mcp.server import build_server
from wan_mcp.settings import Settings

pytestmark = pytest.mark.anyio


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemorySpanExporter]:
    """All spans, the SDK's and ours."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", provider)
    yield exporter
    provider.shutdown()


async def one_job(tmp_path: Path, *, status: int = 200) -> str:
    """Submit a job and read its status, which is answered with `status` once; the job's id."""
    async with Sandbox(Terms(pending_seconds=0, processing_seconds=0)) as sandbox:
        if status != 200:
            sandbox.fault("GET", "/api/v1/jobs/*", faults.status(status, ""))
        given = {
            "PIXELDOJO_API_KEY": sandbox.key,
            "PIXELDOJO_API_BASE": sandbox.api_base,
            "WAN_MCP_DATA_DIR": str(tmp_path / "data"),
        }
        async with Client(build_server(Settings.read(given, tmp_path))) as client:
            media = {
                "video": f"{sandbox.source_video_url}?sig=canary",
                "character_image": sandbox.image_url,
            }
            answer = await client.call_tool("replace_character", media)
            assert answer.structured_content
            job_id: str = answer.structured_content["job_id"]
            await client.call_tool("get_job_status", {"job_id": job_id})
            return job_id


def ours(spans: InMemorySpanExporter) -> dict[str, ReadableSpan]:
    requests = [span for span in spans.get_finished_spans() if span.kind is SpanKind.CLIENT]
    return {span.name: span for span in requests if span.instrumentation_scope is not None}


async def test_each_request_has_a_span_below_its_tools(
    spans: InMemorySpanExporter, tmp_path: Path
) -> None:
    """Method, route, status and our submission id (ours)."""
    job_id = await one_job(tmp_path)
    tools = {span.name: span for span in spans.get_finished_spans()}
    submit = ours(spans)["POST /models/{model}/run"]
    look = ours(spans)["GET /jobs/{job_id}"]

    assert submit.attributes is not None
    assert submit.attributes["http.response.status_code"] == 202
    assert str(submit.attributes["wan_mcp.submission_id"]).startswith("sub_")
    assert submit.parent
    assert submit.parent.span_id == tools["tools/call replace_character"].context.span_id
    assert look.attributes is not None
    assert look.attributes["wan_mcp.job_id"] == job_id
    assert look.parent
    assert look.parent.span_id == tools["tools/call get_job_status"].context.span_id


async def test_no_key_and_no_query_is_in_a_span(
    spans: InMemorySpanExporter, tmp_path: Path
) -> None:
    """Traces go to other companies (ours)."""
    await one_job(tmp_path)
    text = "".join(span.to_json() for span in spans.get_finished_spans())

    assert "pd_sandbox" not in text
    assert "canary" not in text


async def test_a_refused_request_is_an_error_with_its_status(
    spans: InMemorySpanExporter, tmp_path: Path
) -> None:
    """4xx and 5xx are errors for a client's span (OpenTelemetry)."""
    await one_job(tmp_path, status=403)
    look = ours(spans)["GET /jobs/{job_id}"]

    assert look.status.status_code is StatusCode.ERROR
    assert look.attributes is not None
    assert look.attributes["error.type"] == "403"
