"""Configs as Python values: a dict becomes the text of a config file."""

from __future__ import annotations

import math
import os
import re
from typing import Any, Iterable, Mapping, Union

Settings = Union[Mapping[str, Any], Iterable[str], None]

_KEY = re.compile(r"[A-Za-z*][-A-Za-z0-9_*]*")
# The escapes of a config's strings; other characters stand for themselves.
_ESCAPES = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\t": "\\t", "\r": "\\r", "\f": "\\f"}


def _string(value: str, where: str) -> str:
    if "\0" in value:
        raise ValueError(f"{where}: {value!r} contains a zero byte, which no config can")
    plain = (_ESCAPES.get(c, c) if ord(c) >= 32 or c in _ESCAPES else f"\\x{ord(c):02x}"
             for c in value)
    return '"' + "".join(plain) + '"'


def _integer(value: int, where: str) -> str:
    if not -(2**63) <= value < 2**63:
        raise ValueError(f"{where}: {value} is not an integer of 64 bits")
    return f"{value}L" if abs(value) >= 2**31 else str(value)


def _real(value: float, where: str) -> str:
    if not math.isfinite(value):
        raise ValueError(f"{where}: {value} is not a number that a config can have")
    text = repr(value)
    return text if "." in text or "e" not in text else text.replace("e", ".0e")


def write_value(value: Any, where: str) -> str:
    """The value as a config writes it; `where` is its key, for messages."""
    if hasattr(value, "item") and getattr(value, "ndim", None) == 0:  # a number of NumPy's
        value = value.item()
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return _integer(value, where)
    if isinstance(value, float):
        return _real(value, where)
    if isinstance(value, (str, os.PathLike)):
        return _string(os.fspath(value), where)
    if isinstance(value, Mapping):
        return "{ " + write(value, where + ".") + "}"
    if isinstance(value, (list, tuple)):
        items = (write_value(v, f"{where}[{k}]") for k, v in enumerate(value))
        return "( " + ", ".join(items) + " )"
    raise TypeError(
        f"{where}: a config has numbers, strings, booleans, dicts and lists, not "
        f"{type(value).__name__}"
    )


def write(config: Mapping[str, Any], inside: str = "") -> str:
    """The text of a config that says the same as `config`."""
    lines = []
    for key, value in config.items():
        if not isinstance(key, str) or not _KEY.fullmatch(key):
            raise ValueError(
                f"{inside}{key!r} is not a key: letters, digits, - and _, beginning with a letter"
            )
        lines.append(f"{key} = {write_value(value, inside + key)};\n")
    return "".join(lines)


def overrides(settings: Settings) -> list[str]:
    """Settings as `key=value`: from a dict of dotted keys, or such strings."""
    if settings is None:
        return []
    if isinstance(settings, Mapping):
        return [f"{key}={write_value(value, str(key))}" for key, value in settings.items()]
    if isinstance(settings, str):
        raise TypeError(f"overrides are a dict or a list, not the string {settings!r}")
    return list(settings)
