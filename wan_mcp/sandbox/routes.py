"""The routes of the vendor's API and of its storage: which method and path gets which reply."""

import re
from collections.abc import Callable
from dataclasses import replace

from wan_mcp.sandbox.http.message import Reply, Request, json_reply
from wan_mcp.sandbox.vendor import replies, schema
from wan_mcp.sandbox.vendor.vendor import Refusal, Vendor
from wan_mcp.sandbox.videos import samples

API = "/api/v1"

View = Callable[[Vendor, Request, str], Reply]
"""Takes the vendor, the request and the variable part of its path ('' when there is none)."""
PrivateView = Callable[[Vendor, Request, str, str], Reply]
"""The same, with the caller's API key as the last argument."""


def answer(vendor: Vendor, request: Request) -> Reply:
    """The vendor's true reply to any request; a refusal is a reply too."""
    try:
        return _dispatch(vendor, request)
    except Refusal as exc:
        return json_reply(replies.refusal(exc, vendor.terms), exc.status, exc.headers)


def _dispatch(vendor: Vendor, request: Request) -> Reply:
    method = "GET" if request.method == "HEAD" else request.method
    allowed = []
    for route_method, pattern, view in _ROUTES:
        if match := re.fullmatch(pattern, request.path):
            if route_method == method:
                return view(vendor, request, *match.groups(default="") or [""])
            allowed.append(route_method)
    if allowed:
        headers = {"Allow": ", ".join(allowed)}
        raise Refusal(405, "method_not_allowed", "Method not allowed", headers)
    raise Refusal(404, "not_found", "No such page")


def _with_key(view: PrivateView) -> View:
    """A view that needs an API key; its rate limit is enforced here."""

    def guarded(vendor: Vendor, request: Request, part: str) -> Reply:
        scheme, _, key = request.headers.get("authorization", "").partition(" ")
        limit_headers = vendor.admit(key if scheme.lower() == "bearer" else None)
        try:
            reply = view(vendor, request, part, key)
        except Refusal as exc:
            exc.headers |= limit_headers
            raise
        return replace(reply, headers={**reply.headers, **limit_headers})

    return guarded


def _run(vendor: Vendor, request: Request, api_id: str, key: str) -> Reply:
    _require_model(api_id)
    try:
        body = request.json()
    except ValueError as exc:
        raise Refusal(400, "invalid_request", "The body is not JSON") from exc
    return json_reply(replies.accepted(vendor, vendor.run(key, body)), 202)


def _job(vendor: Vendor, request: Request, job_id: str, key: str) -> Reply:
    return json_reply(replies.job_page(vendor, vendor.job(key, job_id)))


def _jobs(vendor: Vendor, request: Request, _: str, key: str) -> Reply:
    if not vendor.terms.list_exists:
        raise Refusal(404, "not_found", "No such page")
    number = re.fullmatch(r"\d{1,9}", request.query.get("limit", ""))
    limit = int(number.group()) if number else vendor.terms.list_cap
    return json_reply(replies.job_list(vendor, vendor.recent_jobs(key, limit)))


def _models(vendor: Vendor, request: Request, _: str) -> Reply:
    return json_reply(schema.model_list(vendor.terms))


def _model(vendor: Vendor, request: Request, api_id: str) -> Reply:
    _require_model(api_id)
    return json_reply(schema.model_page(vendor.terms))


def _schema(vendor: Vendor, request: Request, api_id: str) -> Reply:
    _require_model(api_id)
    return json_reply({"schema": schema.body_schema(vendor.terms)})


def _require_model(api_id: str) -> None:
    if api_id != schema.MODEL:
        raise Refusal(404, "model_not_found", "No such model")


def _sample(vendor: Vendor, request: Request, _: str) -> Reply:
    return samples.sample(request)


_PART = r"([^/]+)"
_ROUTES: tuple[tuple[str, str, View], ...] = (
    ("POST", rf"{API}/models/{_PART}/run", _with_key(_run)),
    ("GET", rf"{API}/jobs/{_PART}", _with_key(_job)),
    ("GET", rf"{API}/jobs", _with_key(_jobs)),
    ("GET", rf"{API}/models", _models),
    ("GET", rf"{API}/models/{_PART}", _model),
    ("GET", rf"{API}/models/{_PART}/schema", _schema),
    ("GET", rf"/media/results/{_PART}\.mp4", samples.result),
    ("GET", r"/media/[^/]+", _sample),
)
