"""One call of the library at a time: who may make it, what stops it, and what its callbacks raise."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from typing import Iterator, Optional

from . import errors

# The only handler of Ctrl-C that is replaced during a call: a program's own handler stays.
_DEFAULT = signal.default_int_handler


class Turn:
    """Whose turn it is to use a session: one thread's at a time, in the process that opened it."""

    def __init__(self):
        self.pid = os.getpid()
        self._lock = threading.Lock()
        self._owner: Optional[int] = None
        self._doing = ""

    def forked(self) -> bool:
        return os.getpid() != self.pid

    def _refuse(self, what: str) -> None:
        if self._owner == threading.get_ident():
            raise errors.Busy(
                f"{what} is not possible in a callback of {self._doing}: return a true value to stop "
                "it, and continue after it"
            )
        raise errors.Busy(
            f"{what} is not possible while another thread is in {self._doing} of this session: wait "
            "for it, or open a session for each thread"
        )

    @contextlib.contextmanager
    def take(self, what: str, inside: bool = False) -> Iterator[None]:
        """`inside`: also from a callback of the call that has the turn."""
        if self.forked():
            raise errors.Forked(
                f"{what} is not possible in process {os.getpid()}: the session belongs to process "
                f"{self.pid}, and its threads were not forked; open one in this process"
            )
        if inside and self._owner == threading.get_ident():
            yield
            return
        if not self._lock.acquire(blocking=False):
            self._refuse(what)
        self._owner, self._doing = threading.get_ident(), what
        try:
            yield
        finally:
            self._owner = None
            self._lock.release()

    def try_last(self) -> bool:
        """The last turn, for closing; False if another thread has it, or the process is a child."""
        return not self.forked() and self._lock.acquire(blocking=False)


class Stops:
    """What ends a call between two steps: `stop()`, Ctrl-C, an exception in a callback."""

    def __init__(self):
        self._asked = threading.Event()
        self.interrupted = False
        self.raised: Optional[BaseException] = None

    def stop(self) -> None:
        self._asked.set()

    def _interrupt(self, *_) -> None:
        self.interrupted = True
        self._asked.set()

    @contextlib.contextmanager
    def watch(self) -> Iterator["Stops"]:
        """During a call. A KeyboardInterrupt could be raised anywhere in a callback, where ctypes can
        only print it: so the signal sets a flag that callbacks look at."""
        self._asked.clear()
        self.interrupted, self.raised = False, None
        mine = (threading.current_thread() is threading.main_thread()
                and signal.getsignal(signal.SIGINT) is _DEFAULT)
        if mine:
            signal.signal(signal.SIGINT, self._interrupt)
        try:
            yield self
        finally:
            if mine:
                signal.signal(signal.SIGINT, _DEFAULT)

    def guard(self, function):
        """A callback for the library: true ends the call, and so does an exception, which `finish`
        raises again."""

        def guarded(*arguments):
            try:
                result = function(*arguments)
                return 1 if self._asked.is_set() or result else 0
            except BaseException as why:  # it must not pass through C
                self.raised = self.raised or why
                self._asked.set()  # for the callbacks whose result says nothing
                return 1

        return guarded

    def finish(self, trained=None) -> None:
        """After the call: raise what ended it."""
        if self.raised is not None:
            raise self.raised
        if self.interrupted:
            why = errors.Interrupted("interrupted between two steps")
            why.trained = trained
            raise why


@contextlib.contextmanager
def ending(stops: Stops) -> Iterator[None]:
    """A call that fails because a callback ended it raises what the callback did instead."""
    try:
        yield
    except errors.Error:
        stops.finish()
        raise
    stops.finish()
