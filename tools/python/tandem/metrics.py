"""Metrics and scores that runs leave behind, read from their files."""

from __future__ import annotations

import json
import os
import pathlib

import numpy as np

from . import errors


def _rows(path: pathlib.Path) -> list[dict]:
    """The file's lines. A line without an end is still being written, and is left out."""
    rows = []
    with open(path, encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            if not line.endswith("\n"):
                break
            try:
                row = json.loads(line)
                row["step"] = int(row["step"])
            except (ValueError, KeyError, TypeError) as why:
                raise errors.FormatError(
                    f"{path}:{number}: not a line of metrics, which is a JSON object with a step: "
                    f"{why}") from why
            rows.append(row)
    return rows


def read(run: os.PathLike, file: str = "metrics.jsonl") -> dict[str, np.ndarray]:
    """The metrics of a run as columns of equal length: "step", then names such as "train/loss". A row
    is a step; NaN: the step has no such number, or it is not finite."""
    path = pathlib.Path(run) / file
    try:
        rows = _rows(path)
    except FileNotFoundError:
        raise errors.FileError(
            f"'{path}' does not exist: '{run}' is not a run that has begun, or its run.loggers lack "
            "'jsonl'") from None
    steps = {row["step"]: k for k, row in enumerate({r["step"]: r for r in rows}.values())}
    columns: dict[str, np.ndarray] = {"step": np.fromiter(steps, np.int64, len(steps))}
    # an evaluation's line has the same step as that of the update before it
    for row in rows:
        for name, value in row.items():
            if name == "step":
                continue
            column = columns.setdefault(name, np.full(len(steps), np.nan))
            column[steps[row["step"]]] = np.nan if value is None else value
    return columns
