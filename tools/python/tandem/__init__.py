"""tandem in Python: compose a config, describe it, train it, evaluate it, ask the model.

    import tandem

    session = tandem.compose("quickstart/redllm.cfg", overrides={"train.steps": 20})
    print(session.describe())
    session.train(callback=lambda step: print(step.step, step.loss))
    print(session.generate("The ferry from", max_tokens=20)[0])
    session.parameters["model.decoder.embed_tokens.weight"].shape

Everything is computed by the library libtandem, through the functions of its header tandem/embed.h:
runs, checkpoints and bits are those of the command `tandem`.
"""

from __future__ import annotations

import ctypes as _ctypes
import json as _json
import os as _os
from typing import Any as _Any, Iterable as _Iterable, Mapping as _Mapping

from . import _embed, _library, config as _config
from ._version import VERSION as __version__
from .errors import (
    Busy, Closed, ConfigError, Diverged, EndOfData, Error, FileError, Forked, FormatError,
    GraphError, Interrupted, OutOfMemory, PluginError, RangeError, SessionError, Unsupported,
)
from .results import (
    Answer, Attention, Description, Evaluation, Extrapolation, Score, Scored, Step, TaskScore,
    Trained,
)
from .parameters import Parameters
from .runs import Run, Study
from .session import Session

__all__ = [
    "Answer", "Attention", "Busy", "Closed", "ConfigError", "Description", "Diverged", "EndOfData",
    "Error", "Evaluation", "Extrapolation", "FileError", "Forked", "FormatError", "GraphError",
    "Interrupted", "OutOfMemory", "Parameters", "PluginError", "RangeError", "Run", "Score",
    "Scored", "Session", "SessionError", "Step", "Study", "TaskScore", "Trained", "Unsupported",
    "compare", "compose", "to_config",
]


def compose(*sources, overrides: _config.Settings = None, purpose: str = "train",
            allow: _Iterable[str] = (), plugin_paths: _Iterable = (),
            untrusted: bool = False) -> Session:
    """Open a config, composed of `sources` in order, later ones over earlier ones: first files (which
    may be shipped ones, "nano/redllm.cfg"), then dicts. A dict may extend files as a config does,
    with the key "extends". `overrides` take precedence over all of them: a dict of dotted keys
    ({"train.steps": 20}), or strings as the command takes them ("train.steps=20").

    `purpose` decides which groups there must be, and how much is loaded: "train" (a whole config),
    "evaluate" (model, loss, tokenizer, data), "model" (model and loss) or "generate" (model, and the
    tokenizer if there is one). All errors of the config are in one ConfigError.

    `allow`: keys that may differ from the config that a loaded checkpoint was trained with.
    `plugin_paths`: directories that are searched for plugins first. `untrusted`: follow no
    plugin_path of the config."""
    files, texts = [], []
    for source in sources:
        if isinstance(source, _Mapping):
            texts.append(_config.write(source))
        elif isinstance(source, (str, _os.PathLike)):
            if texts:
                raise ValueError(f"files are read before dicts: put {_os.fspath(source)!r} before "
                                 "them, or name it in the dict's \"extends\"")
            files.append(source)
        else:
            raise TypeError(f"a source is a file or a dict, not {type(source).__name__}")
    return Session(files=files, texts=texts, overrides=overrides, purpose=purpose, allow=allow,
                   plugin_paths=plugin_paths, untrusted=untrusted)


def to_config(settings: _Mapping[str, _Any]) -> str:
    """The text of a config file that says the same as a dict."""
    return _config.write(settings)


def compare(runs: _Iterable[_os.PathLike], *, by_run: bool = False, draws: int = 0,
            seed: int = 0) -> dict[str, _Any]:
    """Compare runs by the scores in their directories, as `tandem compare --json` does: scores,
    differences and tests. `by_run`: seeds of one config individually, not as a group."""
    paths = list(runs)
    if not paths:
        raise ValueError("there is nothing to compare: name the directories of two or more runs")
    first = paths[0].path if isinstance(paths[0], Run) else paths[0]
    names = [_os.fspath(p.path if isinstance(p, Run) else p) for p in paths]
    with Session(run=first, purpose="model") as session, session._use("comparing") as handle:
        options = _embed.td_comparing(size=_ctypes.sizeof(_embed.td_comparing), n_runs=len(names),
                                      by_run=by_run, draws=draws, seed=seed)
        options.runs = _library.strings(names)
        return _json.loads(_library.call(_library.library.td_session_compare, handle,
                                         _ctypes.byref(options)))
