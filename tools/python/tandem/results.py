"""What a session returns: plain values, copied out of the library.

Losses are in nats per predicted token, sizes in bytes, durations in seconds. What is unknown is
None.
"""

from __future__ import annotations

import dataclasses
import math
import pathlib
from typing import Optional

import numpy as np

from . import _embed

READS = ("encoder", "self", "cross", "both")


def _known(value: float) -> Optional[float]:
    return None if math.isnan(value) else value


def _positive(value: float) -> Optional[float]:
    return None if value < 0 else value


def _text(value: Optional[bytes]) -> str:
    return (value or b"").decode("utf-8", "replace")


def _plain(struct) -> dict:
    """The numbers of a struct, with the structs in it as dicts."""
    fields = ((name, getattr(struct, name)) for name, *_ in struct._fields_)
    return {name: _plain(v) if hasattr(v, "_fields_") else v for name, v in fields}


@dataclasses.dataclass(frozen=True)
class Description:
    """The numbers of a model and its training run, found without allocating the model."""

    parameters: int
    embedding: int
    attention: int
    ffn: int
    norm: int
    other: int
    length: int  #: tokens of one unpadded sequence
    predicted: int  #: of which this many are predicted
    split_varies: bool  #: the loss may split another sequence differently
    forward: dict  #: FLOPs: dense, visible, elementwise
    backward: dict
    paper_flops: float  #: dense forward pass, with embedding lookups counted as products
    memory: dict  #: bytes: parameters, gradients, states, activations, inputs
    unavailable: Optional[str]  #: why the backend cannot be used here; None: it can
    text: str = dataclasses.field(repr=False)  #: the same in a few lines

    def __str__(self) -> str:
        return self.text

    @classmethod
    def of(cls, struct: _embed.td_description, text: bytes) -> "Description":
        why = None if struct.unavailable is None else _text(struct.unavailable)
        return cls(**{**_plain(struct), "unavailable": why}, text=_text(text))


@dataclasses.dataclass(frozen=True)
class Score:
    """The held-out loss of one data source."""

    source: str
    sequences: int
    targets: int  #: scored tokens
    nll: Optional[float]  #: mean per target; None: no held-out text
    nll_error: Optional[float]  #: its standard error
    bits_per_byte: Optional[float]

    @classmethod
    def of(cls, s: _embed.td_score) -> "Score":
        return cls(_text(s.source), s.sequences, s.targets, _known(s.nll), _known(s.nll_error),
                   _positive(s.bits_per_byte))


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """Held-out losses: the mean over sources, each source, and each sequence."""

    nll: float
    nll_error: Optional[float]
    bits_per_byte: Optional[float]
    sources: list[Score]
    #: one array per column: source, index, targets, nll, weight, bytes, hash
    sequences: dict[str, np.ndarray] = dataclasses.field(repr=False)

    @classmethod
    def of(cls, e: _embed.td_evaluation) -> "Evaluation":
        columns = [name for name, *_ in _embed.td_sequence_score._fields_]
        rows = [[getattr(e.sequences[k], c) for c in columns] for k in range(e.n_sequences)]
        kinds = {"nll": float, "weight": float, "bytes": float, "hash": np.uint64}
        return cls(
            nll=e.nll, nll_error=_known(e.nll_error), bits_per_byte=_positive(e.bits_per_byte),
            sources=[Score.of(e.at[k]) for k in range(e.count)],
            sequences={c: np.array([r[k] for r in rows], kinds.get(c, np.int64))
                       for k, c in enumerate(columns)},
        )


@dataclasses.dataclass(frozen=True)
class TaskScore:
    """One score of a task, or of a group of tasks."""

    task: str
    key: str
    own: bool  #: the task's first score, which represents it
    percent: bool  #: it lies in [0, 100], not in [0, 1]
    lower_is_better: bool
    score: float
    error: Optional[float]  #: standard error
    chance: Optional[float]  #: the score of guessing
    items: int
    shots: int

    @classmethod
    def of(cls, s: _embed.td_task_score) -> "TaskScore":
        return cls(_text(s.task), _text(s.key), s.own, s.percent, s.lower_is_better, s.score,
                   _known(s.error), _known(s.chance), s.items, s.shots)


def task_scores(scores: _embed.td_task_scores) -> list[TaskScore]:
    return [TaskScore.of(scores.at[k]) for k in range(scores.count)]


@dataclasses.dataclass(frozen=True)
class Step:
    """One update of the parameters, for a callback."""

    step: int
    steps: int
    loss: float  #: the minimized loss, auxiliary losses included
    cross_entropy: float  #: nats per predicted token
    gradient_norm: float
    learning_rate: float
    applied: bool  #: False: the guard refused the update
    seconds: float  #: since the run was started or resumed
    tokens_per_second: float
    targets_per_second: float
    share_of_peak: float  #: 0: unknown

    @classmethod
    def of(cls, s: _embed.td_training_step) -> "Step":
        return cls(**_plain(s))


@dataclasses.dataclass(frozen=True)
class Trained:
    """How a training ended."""

    directory: pathlib.Path
    step: int  #: updates made, earlier parts of the run included
    stopped: bool  #: by a callback, before the last step
    cross_entropy: Optional[float]  #: of the last step; None: no step was made
    seconds: float
    tokens_per_second: float
    targets_per_second: float
    skipped: int  #: updates that the guard refused
    evaluation: Optional[Evaluation]  #: the last one
    tasks: list[TaskScore]  #: the last scores of tasks.names
    best_step: Optional[int]
    best: Optional[float]
    best_name: str

    @classmethod
    def of(cls, t: _embed.td_trained) -> "Trained":
        has_best = t.best_step >= 0
        return cls(
            directory=pathlib.Path(_text(t.directory)), step=t.step, stopped=t.stopped,
            cross_entropy=_known(t.cross_entropy), seconds=t.seconds,
            tokens_per_second=t.tokens_per_second, targets_per_second=t.targets_per_second,
            skipped=t.skipped, best_name=_text(t.best_name),
            evaluation=Evaluation.of(t.evaluation[0]) if t.evaluation else None,
            tasks=task_scores(t.tasks[0]) if t.tasks else [],
            best_step=t.best_step if has_best else None, best=t.best if has_best else None,
        )


@dataclasses.dataclass(frozen=True)
class Answer:
    """A continuation of a prompt."""

    prompt: int  #: its index
    rank: int  #: of beam search, the best is 0
    text: Optional[str]  #: None without a tokenizer
    ids: list[int]  #: new tokens, without the one that ended the answer
    logprob: float  #: nats, summed over new tokens and the end
    stopped: bool  #: at an end token or a stop text; False: at max_tokens

    @classmethod
    def of(cls, a: _embed.td_answered) -> "Answer":
        text = None if a.text is None else _text(a.text)
        return cls(a.prompt, a.rank, text, a.ids[: a.n], a.logprob, a.stopped)

    def __str__(self) -> str:
        return self.text if self.text is not None else str(self.ids)


@dataclasses.dataclass(frozen=True)
class Scored:
    """The log-likelihood of a target after what was given."""

    logprob: float  #: nats, of the whole target
    greedy: bool  #: each of its tokens is the model's most likely one
    tokens: int  #: of the target


@dataclasses.dataclass(frozen=True)
class Attention:
    """The weights of one attention on one text. Keys are `own` tokens of the queries' stack, then
    those of an encoder."""

    name: str
    layer: int  #: -1: none in the name
    map: int  #: 0 or 1 in an attention with two softmax maps
    reads: str  #: "encoder", "self", "cross" or "both"
    own: int
    weights: np.ndarray = dataclasses.field(repr=False)  #: float32 [heads, queries, keys]
    query_ids: Optional[np.ndarray] = dataclasses.field(repr=False)  #: [queries]; None: unknown
    key_ids: Optional[np.ndarray] = dataclasses.field(repr=False)  #: [keys]; None: unknown

    @classmethod
    def of(cls, a: _embed.td_attention_weights) -> "Attention":
        keys = a.own + a.memory
        shape = (a.heads, a.queries, keys)

        def copy(pointer, dims):
            if not pointer:
                return None
            if 0 in dims:
                return np.zeros(dims, np.ctypeslib.as_array(pointer, (1,)).dtype)
            return np.ctypeslib.as_array(pointer, dims).copy()

        return cls(_text(a.name), a.layer, a.map, READS[a.reads], a.own, copy(a.weights, shape),
                   copy(a.query_ids, (a.queries,)), copy(a.key_ids, (keys,)))


@dataclasses.dataclass(frozen=True)
class Extrapolation:
    """The loss beyond the training length: columns prefix, from, to, nll, error."""

    trained: int  #: train.length
    documents: bool  #: each sequence within one document
    sequences: int
    lengths: dict[str, np.ndarray]  #: the tokens between the prefix and each total length
    positions: dict[str, np.ndarray]  #: the tokens of each part of the sequence

    @classmethod
    def of(cls, e: _embed.td_extrapolation) -> "Extrapolation":
        def columns(points, n):
            names = [name for name, *_ in _embed.td_curve_point._fields_]
            return {c: np.array([getattr(points[k], c) for k in range(n)]) for c in names}

        return cls(e.trained, e.documents, e.sequences, columns(e.lengths, e.n_lengths),
                   columns(e.positions, e.n_positions))
