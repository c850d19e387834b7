"""The types of the values that settings take, with plain words for what is wrong."""

from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    BeforeValidator,
    Field,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)

from wan_mcp.storage.data_folder import listed_folders
from wan_mcp.storage.storage_url import folder_or_url


def on_or_off(value: object) -> bool:
    word = str(value).lower()
    if word not in ("on", "off", "true", "false", "1", "0"):
        raise ValueError("must be on or off")
    return word in ("on", "true", "1")


def must_be(allowed: str) -> WrapValidator:
    """Says what is allowed, in plain words instead of pydantic's."""

    def read(value: Any, handler: ValidatorFunctionWrapHandler) -> Any:
        try:
            return handler(value)
        except ValidationError:
            raise ValueError(f"must be {allowed}") from None

    return WrapValidator(read)


Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Limit = Annotated[Amount, must_be("a number, 0 or more (for no limit leave it out)")]
# Never None: a limit that a typing error could remove would not be a limit.
DayLimit = Annotated[
    Amount, must_be("a number, 0 or more (a high one, as 100000, lifts the limit)")
]
Count = Annotated[int, Field(ge=0), must_be("a whole number, 0 or more")]
Size = Annotated[Amount, must_be("a number of MB, 0 or more")]
Port = Annotated[int, Field(ge=1, le=65_535), must_be("a port from 1 to 65535")]
Folders = Annotated[tuple[str, ...], BeforeValidator(listed_folders)]
Switch = Annotated[bool, BeforeValidator(on_or_off)]
FolderOrURL = Annotated[Path | str, BeforeValidator(folder_or_url)]
