"""The SDK's models of messages: hundreds, of which a conversation uses only a few."""

from importlib import import_module
from importlib.util import find_spec

_BASE_MODULE = "mcp_types._wire_base"
"""Contains the base class of the SDK's models, of which each message and revision has one."""


def build_when_used() -> None:
    """Let the SDK build each of these models when a message first needs it.

    Building all of them is a tenth of the work of a program that imports the SDK (ours). Call this
    before the SDK is imported. The base class is not part of the SDK's documented surface: if it
    is missing, all models are built at once, as usual.

    Raises:
        ImportError: the SDK is missing or damaged.
    """
    if find_spec(_BASE_MODULE) is not None:
        import_module(_BASE_MODULE).WireModel.model_config["defer_build"] = True
