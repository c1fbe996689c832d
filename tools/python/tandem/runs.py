"""Runs and studies: directories that training and `tandem study` leave behind."""

from __future__ import annotations

import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
from typing import Any, Iterable, Optional, Union

import numpy as np

from . import _library, config, errors, metrics
from .session import Session


class Run:
    """The directory of a run, or of one of its checkpoints.

        run = tandem.Run("runs/quick/cells/redllm-s1-pretrain")
        run.metrics()["evaluate/nll"]
        with run.session() as session:
            print(session.evaluate().nll)
    """

    def __init__(self, path: os.PathLike):
        path = pathlib.Path(path)
        is_checkpoint = (path / "state.json").exists()
        self.path = path.resolve().parents[1] if is_checkpoint else path
        self.checkpoint: Optional[pathlib.Path] = path if is_checkpoint else None
        if not (self.path / "config.cfg").exists():
            raise errors.FileError(
                f"'{path}' is neither a run nor a checkpoint: it has no config.cfg; name the "
                "directory that training wrote")

    @property
    def config(self) -> str:
        """The config that the run keeps, every option with its value."""
        return (self.path / "config.cfg").read_text(encoding="utf-8", errors="surrogateescape")

    @property
    def steps(self) -> list[int]:
        """The steps of its checkpoints, in order."""
        names = (p.name for p in (self.path / "checkpoints").glob("step-*"))
        return sorted(int(n[5:]) for n in names if re.fullmatch(r"step-\d+", n))

    def metrics(self) -> dict[str, np.ndarray]:
        """Its metrics as columns of equal length, which `pandas.DataFrame` takes: "step", then names
        such as "train/loss" and "evaluate/nll". NaN: a step has no such number."""
        return metrics.read(self.path)

    def evaluations(self) -> dict[str, Any]:
        """What `tandem evaluate` wrote into the run, by the names of the files in RUN/eval."""
        files = sorted((self.path / "eval").glob("*.json"))
        return {f.stem: json.loads(f.read_text(encoding="utf-8")) for f in files}

    def session(self, purpose: str = "evaluate", *, step: Union[int, str] = "newest",
                load: bool = True, overrides: config.Settings = None, files: Iterable = (),
                allow: Iterable[str] = (), plugin_paths: Iterable = (),
                untrusted: bool = False) -> Session:
        """Open the run's config, with `files` and `overrides` over it, and load its parameters: of
        this checkpoint, or of `step`, a number, "newest" or "best". For training,
        `session.train(resume=True)` continues the run, and nothing needs to be loaded.

        What a run keeps cannot name code: plugins from elsewhere need `plugin_paths`. `allow`: keys
        that may differ from the config that the checkpoint was trained with."""
        session = Session(run=self.path, purpose=purpose, overrides=overrides, files=files,
                          allow=allow, plugin_paths=plugin_paths, untrusted=untrusted)
        if load and purpose != "train":
            session.load(self.checkpoint or self.path, step)
        return session

    def __repr__(self) -> str:
        return f"tandem.Run({os.fspath(self.checkpoint or self.path)!r})"


def _follow(process, show: bool) -> list[str]:
    """The lines of the command's standard error. Ctrl-C is passed on to the command, whose end is
    awaited, because cells save first. A notebook shows what is written to sys.stderr, too."""
    lines, interrupted = [], False
    while True:
        try:
            for line in process.stderr:
                lines.append(line)
                if show:
                    sys.stderr.write(line)
            process.wait()
            break
        except KeyboardInterrupt:
            interrupted = True
            process.send_signal(signal.SIGINT)
    if interrupted:
        raise errors.Interrupted("the study was stopped; run() continues it")
    return lines


def _command(arguments: list[str], show: bool = False) -> str:
    """The output of the command. `show`: pass its messages on."""
    with tempfile.TemporaryFile("w+") as out:
        # in a session of its own, a terminal's Ctrl-C does not reach it a second time
        with subprocess.Popen([_library.command(), *arguments], text=True, stdout=out,
                              stdin=subprocess.DEVNULL, stderr=subprocess.PIPE,
                              start_new_session=True) as process:
            lines = _follow(process, show)
        out.seek(0)
        if process.returncode == 0:
            return out.read()
    kind = errors.ConfigError if process.returncode == 2 else errors.Error
    raise kind("".join(lines[-40:]).strip() or
               f"tandem {arguments[0]} {arguments[1]} ended with code {process.returncode}")


class Study:
    """Many runs from one config: a study's file, or its directory.

        study = tandem.Study("studies/quick.cfg", overrides={"run.dir": "out"})
        study.run()
        study.cells()["state"]

    Cells run as processes of the command `tandem`."""

    def __init__(self, source: os.PathLike, *, overrides: config.Settings = None,
                 files: Iterable = (), plugin_paths: Iterable = ()):
        self.source = os.fspath(source)
        self._is_directory = os.path.isdir(self.source)
        self._arguments = [] if self._is_directory else ["-c", self.source]
        for file in files:
            self._arguments += ["-c", os.fspath(file)]
        for path in plugin_paths:
            self._arguments += ["--plugin-path", os.fspath(path)]
        self._arguments += config.overrides(overrides)
        if self._is_directory and self._arguments:
            raise ValueError("a study's directory has its config: files, overrides and plugin paths "
                             "are for the file of a study")

    def _needs_file(self, what: str) -> None:
        if self._is_directory:
            raise errors.ConfigError(f"{what} needs the config of the study, not its directory "
                                     f"'{self.source}'")

    def plan(self) -> dict[str, Any]:
        """Compose, check and plan every cell: parameters, FLOPs, memory. Nothing is written."""
        self._needs_file("planning")
        return json.loads(_command(["study", "show", "--no-measure", "--json", *self._arguments]))

    def run(self, *, jobs: Optional[int] = None, threads: Optional[int] = None,
            restart: bool = False) -> dict[str, Any]:
        """Run the cells that are not done, `jobs` at a time with `threads` each, and write the
        report. Progress and messages go to the standard error. Returns `status`."""
        self._needs_file("running")
        options = [*(["--jobs", str(jobs)] if jobs else []),
                   *(["--threads", str(threads)] if threads else []),
                   *(["--restart"] if restart else [])]
        _command(["study", "run", *options, *self._arguments], show=True)
        return self.status()

    def status(self) -> dict[str, Any]:
        """{"study", "directory", "cells": [..]}: how far each cell has got."""
        at = [self.source] if self._is_directory else self._arguments
        return json.loads(_command(["study", "status", "--json", *at]))

    def cells(self) -> dict[str, list]:
        """`status` as columns of equal length, which `pandas.DataFrame` takes. None: a cell has no
        such value."""
        rows = self.status()["cells"]
        names = dict.fromkeys(name for row in rows for name in row)
        return {name: [row.get(name) for row in rows] for name in names}

    @property
    def directory(self) -> pathlib.Path:
        """Where the study writes."""
        return pathlib.Path(self.status()["directory"])

    def runs(self) -> dict[str, Run]:
        """The runs that exist, by the names of their directories."""
        found, status = {}, self.status()
        for row in status["cells"]:
            path = pathlib.Path(status["directory"]) / row["run"]  # several phases share one
            if (path / "config.cfg").exists():
                found[path.name] = Run(path)
        return found

    def __repr__(self) -> str:
        return f"tandem.Study({self.source!r})"
