"""A session's parameters as a mapping from names to NumPy arrays."""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Mapping
from typing import Iterator

import numpy as np

from . import _embed
from ._library import call, library, text


class Parameters(Mapping):
    """`parameters[name]` is a read-only array. Where the library computes in float32 in the host's
    memory it is a view of that memory: nothing is copied, and it shows the parameter's current
    values, also after later updates. Elsewhere, on a GPU or the `reference` backend, it is a copy.

    `parameters[name] = array` writes a parameter. The array has the parameter's shape, or is a
    number.

    A view keeps the session's memory alive, but training and loading replace it: they raise a
    BufferError while views exist. `numpy.array(view)` is a copy that nothing depends on."""

    def __init__(self, session):
        self._session = session

    def _list(self) -> dict[str, tuple[int, ...]]:
        """Names and shapes, in the model's order. They follow from the config: asked for once."""
        with self._session._use("parameters", inside=True) as handle:
            shapes, row = self._session._shapes, _embed.td_parameter()
            if shapes:
                return shapes
            for k in range(call(library.td_session_parameters, handle)):
                call(library.td_session_parameter, handle, k, ctypes.byref(row))
                shapes[row.name.decode()] = tuple(row.shape[: row.rank])
        return shapes

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Names and shapes, without the values."""
        return dict(self._list())

    def _shape(self, name: str) -> tuple[int, ...]:
        shapes = self._list()
        if name not in shapes:
            raise KeyError(f"the model has no parameter {name!r}")
        return shapes[name]

    def __getitem__(self, name: str) -> np.ndarray:
        shape = self._shape(name)
        values, count = ctypes.POINTER(ctypes.c_float)(), ctypes.c_int64()
        with self._session._use("parameters", inside=True) as handle:
            call(library.td_session_view, handle, text(name), ctypes.byref(values),
                 ctypes.byref(count))
            if not values:
                return self._copy(handle, name, shape)
            memory = (ctypes.c_float * count.value).from_address(
                ctypes.addressof(values.contents))
        memory.session = self._session  # which owns it
        self._session._views.add(memory)
        view = np.ctypeslib.as_array(memory).reshape(shape)
        view.flags.writeable = False
        return view

    @staticmethod
    def _copy(handle, name: str, shape: tuple[int, ...]) -> np.ndarray:
        out = np.empty(shape, np.float32)
        at = out.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
        call(library.td_session_read, handle, text(name), at, out.size)
        out.flags.writeable = False
        return out

    def __setitem__(self, name: str, values) -> None:
        shape = self._shape(name)
        new = np.array(values, np.float32, order="C")
        if new.shape == ():
            new = np.full(shape, new, np.float32)
        if new.shape != shape:
            raise ValueError(f"parameter {name!r} has the shape {shape}, not {new.shape}")
        at = new.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
        with self._session._use("writing parameters") as handle:
            call(library.td_session_write, handle, text(name), at, new.size)

    def __iter__(self) -> Iterator[str]:
        return iter(self._list())

    def __len__(self) -> int:
        return len(self._list())

    def __repr__(self) -> str:
        return f"<{len(self)} parameters>"


class Views:
    """The memory that NumPy arrays look at."""

    def __init__(self):
        self._at: list[weakref.ref] = []

    def add(self, memory) -> None:
        self._at = [r for r in self._at if r() is not None]
        self._at.append(weakref.ref(memory))

    def alive(self) -> int:
        return sum(r() is not None for r in self._at)
