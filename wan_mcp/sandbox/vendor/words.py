"""The vendor's JSON: how a job is told in each of its answers."""

from typing import Any

from wan_mcp.sandbox.vendor.books import Job, Refusal, Vendor
from wan_mcp.sandbox.vendor.schema import MODEL, number
from wan_mcp.sandbox.vendor.terms import Terms


def accepted(vendor: Vendor, job: Job) -> dict[str, Any]:
    """The answer to a submit (documented), less what the terms leave out."""
    told = {
        "jobId": job.id,
        "status": "pending",
        "statusUrl": f"{vendor.origin}/api/v1/jobs/{job.id}",
        "creditCost": number(job.cost),
        "creditsRemaining": number(vendor.credits()[job.key]),
        "expiresAt": vendor.expires_at(job),
    }
    return _told(told, vendor.terms.submit_omits)


def job_page(vendor: Vendor, job: Job) -> dict[str, Any]:
    """The answer to a poll (documented); `output` is absent until there is one (assumed)."""
    status = vendor.status(job)
    told: dict[str, Any] = {"jobId": job.id, "status": status}
    if status == "completed":
        told |= _output(f"{vendor.origin}/media/results/{job.id}.mp4", vendor.terms)
    if status == "failed":
        told["error"] = vendor.error(job)
    told |= {"creditCost": number(job.cost), "expiresAt": vendor.expires_at(job)}
    return _told(told, vendor.terms.job_omits)


def job_list(vendor: Vendor, jobs: list[Job]) -> Any:
    """The answer to `GET /jobs`; the vendor names the call and shows no reply (assumed)."""
    told = [_list_entry(vendor, job) for job in jobs]
    field = vendor.terms.list_field
    return told if field is None else {field: told}


def _list_entry(vendor: Vendor, job: Job) -> dict[str, Any]:
    entry = {**job_page(vendor, job), "apiId": MODEL}
    if vendor.terms.list_echoes_input:
        entry["input"] = dict(job.body)
    return entry


def refusal(no: Refusal, terms: Terms) -> dict[str, Any]:
    """An error body in the shape the terms ask for."""
    shapes: dict[str, dict[str, Any]] = {
        "object": {"error": {"code": no.code, "message": no.message, "status": no.status}},
        "text": {"error": no.message},
        "text-message": {"error": no.code, "message": no.message},
    }
    return shapes[terms.error_shape]


def _output(url: str, terms: Terms) -> dict[str, Any]:
    if terms.output == "assets":
        return {"assets": [{"url": url}]}
    many = terms.output in ("videos", "images")
    return {"output": {terms.output: [url] if many else url}}


def _told(told: dict[str, Any], omitted: frozenset[str]) -> dict[str, Any]:
    return {
        name: value
        for name, value in told.items()
        if value is not None and (name == "jobId" or name not in omitted)
    }
