"""The sandbox's own pages, for people and for other processes.

====== ================== ==================================================================
GET    /                  a page for people
GET    /sandbox/state     its state: charges, jobs, credits, requests, connections
POST   /sandbox/faults    ``{"method", "path", "faults": [{"fault": "hung", "work": true}, ...],
                          "times": 1}``; names and arguments are those of `http.faults`
DELETE /sandbox/faults    removes all faults
DELETE /sandbox/          ends a sandbox that `serve` runs
====== ================== ==================================================================
"""

from html import escape
from typing import Any

from wan_mcp.sandbox.http.faults import from_json
from wan_mcp.sandbox.http.message import Reply, Request, json_reply, text_reply
from wan_mcp.sandbox.state import SandboxState
from wan_mcp.sandbox.vendor.vendor import ENDLESS, FAILING
from wan_mcp.sandbox.videos.render_queue import renders_videos


def owns(path: str) -> bool:
    """Whether a path is one of these pages. Their requests are not recorded and never fail."""
    return path == "/" or path.startswith("/sandbox/")


def answer(state: SandboxState, request: Request, connections: int) -> Reply:
    """The reply to a request for one of these pages.

    Args:
        state: what the pages show and change.
        request: with its body.
        connections: TCP connections accepted so far.
    """
    match (request.method, request.path):
        case ("GET" | "HEAD", "/"):
            return text_reply(_front_page(state))
        case ("GET", "/sandbox/state"):
            return json_reply({**_state_page(state), "connections": connections})
        case ("POST", "/sandbox/faults"):
            return _add_faults(state, request)
        case ("DELETE", "/sandbox/faults"):
            state.clear_faults()
            return Reply(204)
        case ("DELETE", "/sandbox/"):
            state.stopped.set()
            return Reply(204)
    return text_reply("No such page", 404)


def _state_page(state: SandboxState) -> dict[str, Any]:
    vendor = state.vendor
    return {
        "apiBase": state.api_base,
        "key": state.key,
        "charges": [
            {"key": charge.key, "jobId": charge.job_id, "amount": charge.amount}
            for charge in vendor.charges
        ],
        "jobs": [
            {"jobId": job.id, "status": vendor.status(job), "input": dict(job.body)}
            for job in vendor.jobs.values()
        ],
        "credits": vendor.credits(),
        "requests": [
            {"method": request.method, "target": request.target} for request in state.requests
        ],
    }


def _add_faults(state: SandboxState, request: Request) -> Reply:
    # Before a browser sends this type to another origin, it asks for permission and gets none.
    if request.headers.get("content-type", "").partition(";")[0] != "application/json":
        return text_reply("Send application/json", 415)
    try:
        _add_script(state, request.json())
    except (ValueError, TypeError, KeyError, AttributeError) as exc:
        return json_reply({"error": f"{type(exc).__name__}: {exc}"}, 400)
    return Reply(204)


def _add_script(state: SandboxState, script: dict[str, Any]) -> None:
    faults = [from_json(fault) for fault in script["faults"]]
    method, path, times = script.get("method", "*"), script["path"], script.get("times", 1)
    if not (isinstance(method, str) and isinstance(path, str)):
        raise TypeError("method and path must be strings")
    state.fault(method, path, *faults, times=times)


def _front_page(state: SandboxState) -> str:
    outcomes = {
        state.source_video_url: "a finished video after a few seconds",
        state.origin + FAILING: "a failed job (its credits stay spent)",
        state.origin + ENDLESS: "a job that never ends",
    }
    rows = "".join(
        f'<tr><td><a href="{escape(url)}">{escape(url)}</a></td><td>{escape(outcome)}</td></tr>'
        for url, outcome in outcomes.items()
    )
    result, other_inputs = _OWN_VIDEOS if renders_videos(state.terms) else _SAMPLE_VIDEO
    return _TEMPLATE.format(
        api_base=escape(state.api_base),
        key=escape(state.key),
        image=escape(state.image_url),
        rows=rows,
        result=result,
        other_inputs=other_inputs,
        credits=f"{state.vendor.credits()[state.key]:g}",
        charges=len(state.charges),
    )


_OWN_VIDEOS = (
    "a finished job returns its own source video, cut and scaled as requested, with the character "
    "image in a corner and marked SANDBOX.",
    "Any other video is fetched from its URL, and so is the image.",
)
_SAMPLE_VIDEO = (
    "it renders nothing and sends nothing anywhere, and every finished job returns the same short "
    "video, marked SANDBOX.",
    "Any other video URL gives a finished video too; it is never fetched.",
)
_TEMPLATE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>wan-mcp sandbox</title>
<style>
 body {{ font: 16px/1.5 system-ui, sans-serif; }}
 body {{ max-width: 46rem; margin: 2rem auto; padding: 0 1rem; }}
 td {{ padding: .2rem 1rem .2rem 0; vertical-align: top; }}
 code {{ overflow-wrap: anywhere; }}
</style>
<h1>wan-mcp sandbox</h1>
<p>A simulated PixelDojo on this machine. It costs nothing: {result}</p>
<table>
<tr><td>API base</td><td><code>{api_base}</code></td></tr>
<tr><td>API key</td><td><code>{key}</code> ({credits} simulated credits left)</td></tr>
<tr><td>Charges so far</td><td>{charges} (<a href="/sandbox/state">details</a>)</td></tr>
</table>
<h2>Sample inputs</h2>
<p>Character image: <a href="{image}">{image}</a></p>
<table>
<tr><th align="left">video</th><th align="left">how the job ends</th></tr>
{rows}
</table>
<p>{other_inputs}</p>
</html>
"""
