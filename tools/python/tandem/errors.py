"""Exceptions: each has the library's message, which says what was tried, on what, what was found and
what to do.

What the library reports is an `Error` with a number, `code`; most of its subclasses are also the
built-in exception that comes nearest (a wrong config is a ValueError, a missing file an OSError).
What the package itself refuses is a `SessionError`.
"""

from __future__ import annotations

from . import _embed


class Error(Exception):
    """The library could not do what was asked. `code` is its td_status, a negative number."""

    code: int = 0

    @property
    def status(self) -> str:
        """The name of the code: "TD_ECONFIG"."""
        return _embed.STATUSES.get(self.code, ("TD_OK", ""))[0]


class FileError(Error, OSError):
    """A file, directory or device failed."""


class ConfigError(Error, ValueError):
    """A config, an option or an argument is wrong. All errors of a config are in one message, a line
    each."""


class FormatError(Error, ValueError):
    """A file's content is malformed."""


class OutOfMemory(Error, MemoryError):
    """There is not enough memory."""


class PluginError(Error):
    """A plugin cannot be found or used."""


class GraphError(Error):
    """A plugin built a graph incorrectly."""


class Unsupported(Error):
    """The backend cannot do this."""


class Diverged(Error, ArithmeticError):
    """Training diverged, or a score is not finite."""


class EndOfData(Error):
    """There is no more data, or a callback ended the work."""


class RangeError(Error, ValueError):
    """A number is out of range."""


class SessionError(RuntimeError):
    """The session cannot be used in this way."""


class Closed(SessionError):
    """The session was closed."""


class Busy(SessionError):
    """The session is at work in another thread, or in a callback of its own."""


class Forked(SessionError):
    """The session belongs to another process, from which this one was forked."""


class Interrupted(KeyboardInterrupt):
    """Ctrl-C ended the work between two steps. After training, `trained` says how far the run came;
    its checkpoint is saved, and `train(resume=True)` continues."""

    trained = None


_OF_CODE = {
    _embed.TD_EIO: FileError,
    _embed.TD_ECONFIG: ConfigError,
    _embed.TD_EFORMAT: FormatError,
    _embed.TD_ENOMEM: OutOfMemory,
    _embed.TD_EPLUGIN: PluginError,
    _embed.TD_EGRAPH: GraphError,
    _embed.TD_EUNSUPPORTED: Unsupported,
    _embed.TD_EDIVERGED: Diverged,
    _embed.TD_EEND: EndOfData,
    _embed.TD_ERANGE: RangeError,
}


def of(error: _embed.td_error, code: int = 0) -> Error:
    """The exception for what a call left in its td_error."""
    code = error.code or code
    text = error.text.decode("utf-8", "replace") or _embed.STATUSES.get(code, ("", "it failed"))[1]
    made = _OF_CODE.get(code, Error)(text)
    made.code = code
    return made
