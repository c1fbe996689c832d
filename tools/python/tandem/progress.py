"""A line that shows how far a computation has come, on a terminal or in a notebook."""

from __future__ import annotations

import sys
import time
from typing import Optional

_SECONDS = 0.2  # between two writes


def _notebook():
    """IPython's display function in a notebook; None elsewhere."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    if shell is None or not hasattr(shell, "kernel"):
        return None
    from IPython.display import display

    return display


class Line:
    """One line, rewritten in place. `show`: True, False, or None, which means on a terminal and in a
    notebook. As a context manager it ends the line."""

    def __init__(self, show: Optional[bool]):
        self._display = _notebook() if show is not False else None
        self._handle = None
        terminal = sys.stderr is not None and sys.stderr.isatty()
        self.shown = self._display is not None or bool(show if show is not None else terminal)
        self._width, self._last, self._text = 0, 0.0, ""

    def write(self, text: str, now: bool = False) -> None:
        self._text = text
        if self.shown and (now or time.monotonic() - self._last >= _SECONDS):
            self._last = time.monotonic()
            self._put(text)

    def _put(self, text: str) -> None:
        if self._display is None:
            sys.stderr.write("\r" + text.ljust(self._width))
            sys.stderr.flush()
            self._width = len(text)
        elif self._handle is None:
            self._handle = self._display({"text/plain": text}, raw=True, display_id=True)
        else:
            self._handle.update({"text/plain": text}, raw=True)

    def __enter__(self) -> "Line":
        return self

    def __exit__(self, *_) -> None:
        if self.shown and self._text:
            self._put(self._text)
            if self._display is None:
                sys.stderr.write("\n")


def of_step(step) -> str:
    """The line for a results.Step."""
    left = step.steps - step.step
    return (f"step {step.step}/{step.steps}  loss {step.loss:.4f}  "
            f"{step.tokens_per_second:.0f} tokens/s  {left} to go")
