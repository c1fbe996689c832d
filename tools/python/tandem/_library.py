"""Finding and loading libtandem."""

from __future__ import annotations

import ctypes
import os
import pathlib

from . import _embed, _version, errors

_HERE = pathlib.Path(__file__).resolve().parent
# An installation that a wheel carries, and the build of a source tree.
_PREFIX = _HERE / "prefix"
_BUILD = _HERE.parents[2] / "build" / "release" if len(_HERE.parents) > 2 else _PREFIX


def _find(variable: str, *places: pathlib.Path) -> pathlib.Path:
    named = os.environ.get(variable)
    if named:
        return pathlib.Path(named)
    for place in places:
        if place.exists():
            return place
    tried = " nor ".join(f"'{place}'" for place in places)
    raise ImportError(
        f"tandem: neither {tried} exists: install the package from a wheel (tools/wheel), build the "
        f"release preset of the source tree, or set {variable}"
    )


def command() -> str:
    """The path of the command `tandem` that belongs to the library."""
    return os.fspath(_find("TANDEM_COMMAND", _PREFIX / "bin/tandem", _BUILD / "bin/tandem"))


def _load() -> ctypes.CDLL:
    path = _find("TANDEM_LIBRARY", _PREFIX / "lib/libtandem.so.0", _BUILD / "lib/libtandem.so")
    try:
        library = ctypes.CDLL(os.fspath(path))
    except OSError as why:
        raise ImportError(f"tandem: cannot load '{path}': {why}") from why
    for name, (result, parameters) in _embed.FUNCTIONS.items():
        try:
            function = getattr(library, name)
        except AttributeError:
            raise ImportError(
                f"tandem: '{path}' has no function '{name}': it is another version than this "
                f"package, {_version.VERSION}"
            ) from None
        function.restype, function.argtypes = result, parameters
    # its text may contain zeros
    library.td_session_decode.restype = ctypes.c_void_p
    found = library.td_library_version().decode()
    if found != _version.VERSION:
        raise ImportError(
            f"tandem: '{path}' is version {found}, and this package {_version.VERSION}: their "
            "interface is a draft, so both must be the same"
        )
    return library


library = _load()


def call(function, *arguments):
    """The result of a function whose last parameter is a td_error; raises its failures: a negative
    number, or NULL with an error."""
    error = _embed.td_error()
    result = function(*arguments, ctypes.byref(error))
    if isinstance(result, int) and result < 0:
        raise errors.of(error, result)
    if error.code:
        raise errors.of(error)
    return result


def strings(values):
    """A list that ends with NULL, for a parameter `const char *const *`; None if there is none."""
    values = [os.fsencode(v) for v in values or []]
    if not values:
        return None
    for value in values:
        if b"\0" in value:
            raise ValueError(f"{value!r} contains a zero byte, which the library takes for its end")
    return (ctypes.c_char_p * (len(values) + 1))(*values, None)


def text(value, what: str = "a text") -> bytes:
    """A string as the library takes it."""
    if isinstance(value, (str, os.PathLike)):
        value = os.fsencode(value) if isinstance(value, os.PathLike) else value.encode()
    if not isinstance(value, bytes):
        raise TypeError(f"{what} is a str, not {type(value).__name__}")
    if b"\0" in value:
        raise ValueError(f"{what} contains a zero byte, which the library takes for its end")
    return value
