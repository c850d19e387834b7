"""Secrets in files of their own, as container platforms hand them to a program.

Each secret setting NAME, and each secret variable of a cloud, has a twin NAME_FILE, which names a
file that holds only the secret. It appears neither in the environment, which other programs of the
user may read, nor in a dump of it.
"""

import os
import stat
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import NamedTuple

from wan_mcp.storage.data_folder import expanded
from wan_mcp.storage.settings_file import content
from wan_mcp.storage.storage_url import IN_FILE

SUFFIX = IN_FILE
"""The end of the name of a setting that names the file of a secret."""


class SecretFile(NamedTuple):
    """A secret that was read from its file.

    Attributes:
        value: the content of the file, without one line end after it.
        notice: what its owner should mend, in a sentence; "" for nothing.
    """

    value: str
    notice: str


def files_of(secrets: Collection[str], given: Mapping[str, str]) -> dict[str, str]:
    """The secrets that are given by a file, each with the path of the file.

    Args:
        secrets: the names of all secret settings.
        given: the settings that are given, by name.

    Raises:
        ValueError: a secret is given twice. The text names both settings.
    """
    files = {name: given[name + SUFFIX] for name in sorted(secrets) if name + SUFFIX in given}
    for name in files.keys() & given.keys():
        raise ValueError(f"{name} and {name + SUFFIX} are both set: remove one of them")
    return files


def read_secret(name: str, path: str, home: Path | None) -> SecretFile:
    """Read the file of a secret.

    Args:
        name: the setting that the file is for.
        path: the file: a full path, or one that starts with ~/.
        home: the home folder of the user.

    Raises:
        ValueError: the file cannot be used. The text says why, and contains nothing of the file.
    """
    file = expanded(path, home)
    if not Path(file).is_absolute():
        raise ValueError(f"{name + SUFFIX}: must be a full path or start with ~/")
    try:
        raw = content(Path(file))
        others_read = os.name == "posix" and bool(os.stat(file).st_mode & stat.S_IROTH)
        value = raw.decode("utf-8-sig").removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError:
        raise ValueError(f"{name + SUFFIX}: the file is not UTF-8 text") from None
    except OSError as exc:
        why = exc.strerror or str(exc)
        raise ValueError(f"{name + SUFFIX}: the file cannot be read ({why})") from None
    if not value.strip():
        raise ValueError(f"{name + SUFFIX}: the file is empty")
    warning = f"every user of this computer can read the file of {name + SUFFIX} (chmod o-r)"
    return SecretFile(value, warning if others_read else "")
