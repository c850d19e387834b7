"""A model that follows a script, for the frameworks: OpenAI's two interfaces on this computer.

It reads a conversation and answers as a good model would: it starts the job that the user asks for,
waits until the video is there, and then gives its link. So the examples run as they are.
"""

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from typing import Any

Json = dict[str, Any]
Call = tuple[str, Json]

_numbers = count(1)


def next_step(task: str, results: list[str]) -> Call | str:
    """A tool with its arguments, or the last words of the conversation.

    Args:
        task: what the user has asked for; the image is named before the video.
        results: what the tools have answered, as the framework shows it to a model.
    """
    ids = re.findall(r"\b(?:job|sub)_[0-9a-z]{8,}", results[-1]) if results else []
    if not ids:  # nothing is asked yet, or the answer says to ask again
        assert not results or re.search(r"retry_safe\W+true", results[-1]), results[-1]
        image, video = (link.rstrip(",.") for link in re.findall(r"https?://\S+", task))
        inputs = {"video": video, "character_image": image, "video_duration": 3}
        return "replace_character", inputs
    job = min(ids)  # a job of PixelDojo, or on a busy machine the submission that starts it
    links = re.findall(rf"http://[^\s\"'\\]+/{job}\.mp4", results[-1])
    return f"Here is your video: {links[0]}" if links else ("wait_for_job", {"job_id": job})


def chat_completion(request: Json) -> Json:
    """The answer to `chat/completions`."""
    messages = request["messages"]
    (task, *_) = [_text(each["content"]) for each in messages if each["role"] == "user"]
    results = [_text(each["content"]) for each in messages if each["role"] == "tool"]
    step = next_step(task, results)
    message: Json = {"role": "assistant", "content": None if isinstance(step, tuple) else step}
    if isinstance(step, tuple):
        message["tool_calls"] = [
            {"id": _id("call"), "type": "function", "function": _function(step)},
        ]
    reason = "tool_calls" if isinstance(step, tuple) else "stop"
    return {
        "id": _id("chatcmpl"),
        "object": "chat.completion",
        "created": 0,
        "model": request["model"],
        "choices": [{"index": 0, "message": message, "finish_reason": reason}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
    }


def response(request: Json) -> Json:
    """The answer to `responses`."""
    given = request["input"]
    items = [{"role": "user", "content": given}] if isinstance(given, str) else given
    (task, *_) = [_text(each["content"]) for each in items if each.get("role") == "user"]
    outputs = [each for each in items if each.get("type") == "function_call_output"]
    step = next_step(task, [_text(each["output"]) for each in outputs])
    if isinstance(step, tuple):
        call = {"type": "function_call", "call_id": _id("call"), **_function(step)}
        item: Json = {"id": _id("fc"), "status": "completed", **call}
    else:
        words = {"type": "output_text", "text": step, "annotations": [], "logprobs": []}
        item = {"type": "message", "role": "assistant", "content": [words]}
        item |= {"id": _id("msg"), "status": "completed"}
    details: Json = {"input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0}}
    details["output_tokens_details"] = {"reasoning_tokens": 0}
    return {
        "id": _id("resp"),
        "object": "response",
        "created_at": 0,
        "status": "completed",
        "model": request["model"],
        "output": [item],
        "parallel_tool_calls": False,
        "tool_choice": "auto",
        "tools": [],
        "usage": {"input_tokens": 1, "output_tokens": 1, "total_tokens": 2, **details},
    }


@contextmanager
def scripted_model() -> Iterator[str]:
    """Serve the model; gives the base of its address, as OpenAI's clients want it."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        answer = response if self.path.endswith("/responses") else chat_completion
        body = json.dumps(answer(request)).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing is logged."""


def _text(content: Any) -> str:
    return content if isinstance(content, str) else json.dumps(content)


def _function(call: Call) -> Json:
    return {"name": call[0], "arguments": json.dumps(call[1])}


def _id(kind: str) -> str:
    return f"{kind}_{next(_numbers)}"
