"""An OpenTelemetry span around each request to PixelDojo; without OpenTelemetry it costs nothing.

It is a child of the span of the tool call. It never contains the key or a URL: the route is our own
template, and of a failure it has only the type.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from opentelemetry import trace
from opentelemetry.trace import Span, SpanKind, Status, StatusCode


@contextmanager
def request_span(method: str, route: str, ids: Mapping[str, str]) -> Iterator[Span]:
    """The span of one request.

    Args:
        route: the path, with names in the place of its variable parts.
        ids: our `submission_id` and PixelDojo's `job_id`; empty ones are left out.
    """
    attributes = {f"wan_mcp.{name}": id for name, id in ids.items() if id}
    tracer = trace.get_tracer("wan_mcp")
    with tracer.start_as_current_span(
        f"{method} {route}",
        kind=SpanKind.CLIENT,
        attributes={"http.request.method": method, "url.template": route, **attributes},
        record_exception=False,  # its text may contain what was sent
        set_status_on_exception=False,
    ) as span:
        try:
            yield span
        except BaseException as exc:
            span.set_attribute("error.type", type(exc).__name__)
            span.set_status(Status(StatusCode.ERROR))
            raise


def answered(span: Span, status: int) -> None:
    """Record the HTTP status; 4xx and 5xx are errors of a client's span (OpenTelemetry)."""
    span.set_attribute("http.response.status_code", status)
    if status >= 400:
        span.set_attribute("error.type", str(status))
        span.set_status(Status(StatusCode.ERROR))
