"""Sessions: an experiment that is open, with its plugins, its data and a model in memory."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import logging
import os
import pathlib
import weakref
from typing import Any, Callable, Iterable, Iterator, Mapping, Optional, Sequence, Union

import numpy as np

from . import _embed, config, errors, metrics, results
from ._library import call, library, strings, text
from .parameters import Parameters, Views
from .progress import Line, of_step
from .work import Stops, Turn, ending

_PURPOSES = ("train", "evaluate", "model", "generate")
_STEPS = {"newest": _embed.TD_STEP_NEWEST, "best": _embed.TD_STEP_BEST}
_LEVELS = (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR)
_log = logging.getLogger("tandem")
_log.addHandler(logging.NullHandler())

Source = Union[str, os.PathLike, Mapping[str, Any]]
Tokens = Union[str, Sequence[int]]


def _ids(values: Sequence[int], what: str) -> np.ndarray:
    """Token ids as the library reads them; the library checks that they are in the vocabulary."""
    given = np.asarray(values if len(values) else np.zeros(0, np.int32))
    if given.ndim != 1 or given.dtype.kind not in "iu":
        raise TypeError(f"{what}: tokens are a text or a list of integers")
    if len(given) and (given.min() < -(2**31) or given.max() >= 2**31):
        raise ValueError(f"{what}: a token is not an integer of 32 bits")
    return np.ascontiguousarray(given, np.int32)


def _pointer(ids: np.ndarray):
    return ids.ctypes.data_as(ctypes.POINTER(ctypes.c_int32))


def _log_line(_, level: int, line: bytes) -> None:
    # called on any thread of the library, which cannot take an exception
    with contextlib.suppress(Exception):
        _log.log(_LEVELS[level] if 0 <= level < 4 else logging.ERROR, "%s",
                 line.decode("utf-8", "replace"))


def _finish(handle, turn: Turn, keep) -> None:
    """Close a session that nothing refers to any more, unless it is a forked copy or a thread that
    is being ended still computes with it."""
    if turn.try_last():
        library.td_session_close(handle)
    del keep


class Session:
    """An experiment, open. Made by `tandem.compose` and `Run.session`; see there for the arguments.

    A session belongs to the process that opened it, and works for one thread at a time: a second
    thread, and a forked child, get an exception (`Busy`, `Forked`). Several sessions may be at work
    on several threads. It is closed at the end of a `with`, by `close`, or when nothing refers to
    it. What the library reports goes to the logger "tandem" of `logging`."""

    def __init__(self, *, files: Iterable = (), texts: Iterable[str] = (),
                 overrides: config.Settings = None, run: Optional[os.PathLike] = None,
                 purpose: str = "train", allow: Iterable[str] = (), plugin_paths: Iterable = (),
                 untrusted: bool = False):
        if purpose not in _PURPOSES:
            raise ValueError(f"a purpose is one of {', '.join(_PURPOSES)}, not {purpose!r}")
        options = _embed.td_session_options(
            size=ctypes.sizeof(_embed.td_session_options), purpose=_PURPOSES.index(purpose),
            untrusted=untrusted, origin=b"overrides")
        options.files, options.texts = strings(files), strings(texts)
        options.settings = strings(config.overrides(overrides))
        options.allow, options.plugin_paths = strings(allow), strings(plugin_paths)
        if run is not None:
            options.run = text(run, "a run")
        options.log = type(options.log)(_log_line)
        self.purpose = purpose
        self._turn, self._stops, self._views = Turn(), Stops(), Views()
        self._shapes: dict[str, tuple[int, ...]] = {}  # of the parameters, once known
        self._open = True
        self._handle = call(library.td_session_open, ctypes.byref(options))
        # the options hold the callback for the log, which the session calls until it is closed
        self._end = weakref.finalize(self, _finish, self._handle, self._turn, options)

    # ---- life ----

    @contextlib.contextmanager
    def _use(self, what: str, inside: bool = False, replaces: bool = False) -> Iterator[Any]:
        """The handle, for the one thread whose turn it is. `inside`: also in a callback. `replaces`:
        what is called replaces the memory of the parameters."""
        with self._turn.take(what, inside):
            if not self._open:
                raise errors.Closed(f"{what} is not possible: the session was closed")
            if replaces:
                self._release_views(what)
            yield self._handle

    def _release_views(self, what: str) -> None:
        """Refuse if arrays still look at the memory that is about to be replaced."""
        if self._views.alive():
            gc.collect()  # a traceback may have kept one
        if self._views.alive():
            raise BufferError(
                f"{what} replaces the parameters, and {self._views.alive()} arrays are views of "
                "their memory: delete these, or make copies with numpy.array"
            )

    def close(self) -> None:
        """Close the session. If arrays are still views of its parameters, its memory is freed with
        the last of them."""
        if self._turn.forked() or not self._open:
            self._open = False
            return
        with self._turn.take("closing"):
            self._open = False
        if not self._views.alive():
            self._end()

    def __enter__(self) -> "Session":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def __reduce__(self):
        raise TypeError(
            "a session cannot be copied or sent to another process: send its `config`, and open "
            "one there"
        )

    def stop(self) -> None:
        """End training, generation or scoring that is in progress, between two steps. May be called
        from any thread."""
        self._stops.stop()

    # ---- what it is ----

    @property
    def config(self) -> str:
        """The resolved config, every option with its value, as the text of a config file."""
        with self._use("reading the config", inside=True) as handle:
            return os.fsdecode(library.td_session_config(handle))

    @property
    def directory(self) -> pathlib.Path:
        """Where training writes."""
        with self._use("reading the directory", inside=True) as handle:
            return pathlib.Path(os.fsdecode(library.td_session_directory(handle)))

    def describe(self) -> results.Description:
        """Count parameters, FLOPs and memory without allocating the model."""
        with self._use("describing") as handle:
            found = call(library.td_session_describe, handle)[0]
            return results.Description.of(found, call(library.td_session_describe_text, handle))

    def graph(self, dot: bool = False) -> str:
        """The graph of one training step, as text or for Graphviz."""
        with self._use("dumping the graph") as handle:
            return call(library.td_session_graph, handle, dot).decode()

    def mask(self, path: str) -> str:
        """The mask of the attention at `path`: a line for each query, a # for each key it sees."""
        with self._use("showing a mask") as handle:
            return call(library.td_session_mask, handle, text(path)).decode()

    @property
    def parameters(self) -> Parameters:
        """The parameters by name, as NumPy arrays."""
        return Parameters(self)

    def metrics(self) -> dict[str, np.ndarray]:
        """The metrics that training has written so far, a column each: `pandas.DataFrame` takes
        them. See `Run.metrics`."""
        return metrics.read(self.directory)

    # ---- training ----

    def train(self, callback: Optional[Callable[[results.Step], Any]] = None, *,
              resume: bool = False, progress: Optional[bool] = None) -> results.Trained:
        """Train as the config says, in the run's directory.

        `callback` gets each step; a true result stops the run, and so does an exception in it, which
        is raised again afterwards. A stopped run has saved a checkpoint, from which `resume`
        continues. Ctrl-C stops it as well and raises `Interrupted`, whose `trained` is the result.
        In a callback, parameters can be read.

        `progress`: show a line; None: on a terminal and in a notebook."""
        with self._use("training", replaces=True) as handle, self._stops.watch() as stops:
            out = ctypes.POINTER(_embed.td_trained)()
            with Line(progress) as line, ending(stops):
                training = self._training(callback, resume, line)
                call(library.td_session_train, handle, ctypes.byref(training), ctypes.byref(out))
                trained = results.Trained.of(out[0])
                stops.finish(trained)
            return trained

    def _training(self, callback, resume: bool, line) -> _embed.td_training:
        def step(_, struct):
            made = results.Step.of(struct[0])
            line.write(of_step(made), now=made.step == made.steps)
            return callback(made) if callback else None

        def evaluating(_, at, done, every):
            line.write(f"step {at}: evaluating {done}/{every}")

        def scoring(_, at, task, done, every):
            line.write(f"step {at}: {task.decode()} {done}/{every}")

        out = _embed.td_training(size=ctypes.sizeof(_embed.td_training), resume=resume)
        for name, function in (("step", step), ("evaluating", evaluating), ("scoring", scoring),
                               ("begin", lambda *_: None), ("accumulating", lambda *_: None)):
            kind = dict(_embed.td_training._fields_)[name]
            setattr(out, name, kind(self._stops.guard(function)))
        return out

    # ---- held-out text ----

    def _watch(self, what: str, line) -> _embed.td_evaluation_progress:
        def show(_, done, every):
            line.write(f"{what} {done}/{every}")

        return _embed.td_evaluation_progress(self._stops.guard(show))

    def evaluate(self, *, progress: Optional[bool] = None) -> results.Evaluation:
        """Score the held-out text with the parameters that the session holds: those just trained,
        loaded or written, else initial values."""
        with self._use("evaluating") as handle, self._stops.watch() as stops:
            out = ctypes.POINTER(_embed.td_evaluation)()
            with Line(progress) as line, ending(stops):
                call(library.td_session_evaluate, handle, self._watch("evaluated", line), None,
                     ctypes.byref(out))
            return results.Evaluation.of(out[0])

    def extrapolate(self, lengths: Sequence[int] = (), prefixes: Sequence[int] = (), *,
                    sequences: int = 0, progress: Optional[bool] = None) -> results.Extrapolation:
        """Measure the loss beyond the training length: at total `lengths`, after `prefixes`."""
        at, before = np.array(lengths, np.int64), np.array(prefixes, np.int64)
        pointer = ctypes.POINTER(ctypes.c_int64)
        with self._use("extrapolating") as handle, self._stops.watch() as stops:
            out = ctypes.POINTER(_embed.td_extrapolation)()
            with Line(progress) as line, ending(stops):
                options = _embed.td_extrapolating(
                    size=ctypes.sizeof(_embed.td_extrapolating), n_lengths=len(at),
                    n_prefixes=len(before), sequences=sequences,
                    progress=self._watch("read", line))
                options.lengths = at.ctypes.data_as(pointer) if len(at) else None
                options.prefixes = before.ctypes.data_as(pointer) if len(before) else None
                call(library.td_session_extrapolate, handle, ctypes.byref(options),
                     ctypes.byref(out))
            return results.Extrapolation.of(out[0])

    def ask(self, tasks: Iterable[str] = (), *, data: Optional[os.PathLike] = None,
            shots: Optional[int] = None, limit: int = 0, generate: bool = False,
            chat: bool = False, directory: Optional[os.PathLike] = None,
            progress: Optional[bool] = None) -> list[results.TaskScore]:
        """Score tasks as `tandem evaluate --tasks` does. `tasks`: names, groups, files; none: those
        of the config. `shots`: exemplars; None: as the config says. `directory`: where results and
        samples are written."""
        names = list(tasks)
        with self._use("asking") as handle, self._stops.watch() as stops:
            out = ctypes.POINTER(_embed.td_task_scores)()
            with Line(progress) as line, ending(stops):
                options = _embed.td_asking(
                    size=ctypes.sizeof(_embed.td_asking), n_tasks=len(names), limit=limit,
                    shots=0 if shots is None else shots or _embed.TD_NO_SHOTS,
                    generate=generate, chat=chat)
                options.tasks = strings(names)
                options.data = None if data is None else text(data)
                options.directory = None if directory is None else text(directory)
                options.progress = _embed.td_task_progress(self._stops.guard(
                    lambda _, task, done, every: line.write(f"{task.decode()} {done}/{every}")))
                call(library.td_session_ask, handle, ctypes.byref(options), ctypes.byref(out))
            return results.task_scores(out[0])

    # ---- texts ----

    def encode(self, words: str) -> list[int]:
        """The token ids of a text, with nothing added."""
        raw = words.encode()
        with self._use("encoding", inside=True) as handle:
            ids, n = ctypes.POINTER(ctypes.c_int32)(), ctypes.c_int64()
            call(library.td_session_encode, handle, raw, len(raw), ctypes.byref(ids),
                 ctypes.byref(n))
            return ids[: n.value]

    def decode(self, ids: Sequence[int]) -> str:
        """The text of token ids; what is not UTF-8 becomes U+FFFD."""
        given, size = _ids(ids, "decoding"), ctypes.c_size_t()
        with self._use("decoding", inside=True) as handle:
            at = call(library.td_session_decode, handle, _pointer(given), len(given),
                      ctypes.byref(size))
            return ctypes.string_at(at, size.value).decode("utf-8", "replace")

    def generate(self, prompts: Union[str, Sequence[Tokens]], *, stops: Iterable[str] = (),
                 stop_ids: Sequence[int] = (), on_text: Optional[Callable[[int, str], Any]] = None,
                 **options) -> list[results.Answer]:
        """Continue prompts, with the parameters that the session holds. A prompt is a text, or a list
        of token ids. Answers come in the order of the prompts; beam search returns several for each.

        Options are those of td_generation: max_tokens (128), min_tokens, temperature (0: the most
        likely tokens), top_k, top_p, min_p, repetition_penalty, seed, beams, length_penalty,
        ignore_eos, no_cache, batch. The same seed gives the same answers. `on_text` gets the index
        of a prompt and new text of its answer, as it is made."""
        if isinstance(prompts, str):
            prompts = [prompts]
        answers: list[results.Answer] = []
        keep = [text(p) if isinstance(p, str) else _ids(p, f"prompt {k + 1}")
                for k, p in enumerate(prompts)]
        given = (_embed.td_given * (len(keep) + 1))(*map(_given, keep))
        ends = _ids(stop_ids, "stop_ids")
        with self._use("generating", inside=True) as handle, self._nested() as watch:
            how = _generation(options)
            how.stops, how.stop_ids, how.n_stop_ids = strings(stops), _pointer(ends), len(ends)
            kinds = dict(_embed.td_generation._fields_)
            how.stop = kinds["stop"](watch.guard(lambda _: None))
            how.answer = kinds["answer"](watch.guard(
                lambda _, a: answers.append(results.Answer.of(a[0]))))
            if on_text:
                how.text = kinds["text"](watch.guard(
                    lambda _, p, words, n: on_text(p, words[:n].decode("utf-8", "replace"))))
            with ending(watch):
                call(library.td_session_generate, handle, ctypes.byref(how), given, len(keep), None)
        return sorted(answers, key=lambda a: (a.prompt, a.rank))

    @contextlib.contextmanager
    def _nested(self) -> Iterator[Stops]:
        """What ends a call that may be made in a callback of another: each has its own exception."""
        with Stops().watch() as stops:
            outer, self._stops = self._stops, stops
            try:
                yield stops
            finally:
                self._stops = outer

    def score(self, pairs: Iterable[tuple[Tokens, Tokens]], *,
              progress: Optional[bool] = None) -> list[results.Scored]:
        """The log-likelihood of each target after what is given, for pairs (given, target) of texts
        or of token ids. Texts are encoded as tasks encode a question and its answer."""
        with self._use("scoring") as handle, self._stops.watch() as stops:
            coded = [self._encode_pair(handle, k, *pair) for k, pair in enumerate(pairs)]
            items = (_embed.td_scored * (len(coded) + 1))()
            for item, (given, target) in zip(items, coded):
                item.given, item.n_given = _pointer(given), len(given)
                item.target, item.n_target = _pointer(target), len(target)
            with Line(progress) as line, ending(stops):
                call(library.td_session_score, handle, items, len(coded),
                     self._watch("scored", line), None)
            return [results.Scored(items[k].logprob, items[k].greedy, items[k].n_target)
                    for k in range(len(coded))]

    @staticmethod
    def _encode_pair(handle, k: int, given: Tokens, target: Tokens):
        if isinstance(given, str) != isinstance(target, str):
            raise TypeError(f"pair {k}: given and target are both texts, or both token ids")
        if not isinstance(given, str):
            return _ids(given, f"pair {k}"), _ids(target, f"pair {k}")
        out = _embed.td_scored()
        call(library.td_session_encode_pair, handle, text(given), text(target), ctypes.byref(out))
        return (np.array(out.given[: out.n_given], np.int32),
                np.array(out.target[: out.n_target], np.int32))

    def attention(self, given: Tokens, target: Optional[Tokens] = None, *,
                  layers: Iterable[str] = (),
                  heads: Sequence[int] = ()) -> list[results.Attention]:
        """Every attention weight while the model reads `given` and predicts `target`. Without a
        target, the second half of the tokens of `given` is the target, as in held-out evaluation.
        `layers`: numbers or patterns of paths ("model.decoder.*.cross_attn"); none: all."""
        with self._use("reading attention") as handle:
            before, after = self._split(handle, given, target)
            which, at = [str(name) for name in layers], np.array(heads, np.int64)
            options = _embed.td_attending(
                size=ctypes.sizeof(_embed.td_attending), given=_pointer(before),
                n_given=len(before), target=_pointer(after), n_target=len(after),
                n_layers=len(which), n_heads=len(at))
            options.layers = strings(which)
            options.heads = at.ctypes.data_as(ctypes.POINTER(ctypes.c_int64))
            out = ctypes.POINTER(_embed.td_attended)()
            call(library.td_session_attend, handle, ctypes.byref(options), ctypes.byref(out))
            return [results.Attention.of(out[0].at[k]) for k in range(out[0].n)]

    def _split(self, handle, given: Tokens, target: Optional[Tokens]):
        if target is not None:
            return self._encode_pair(handle, 0, given, target)
        ids = _ids(given, "attention") if not isinstance(given, str) else None
        if ids is None:
            raw, at, n = given.encode(), ctypes.POINTER(ctypes.c_int32)(), ctypes.c_int64()
            call(library.td_session_encode, handle, raw, len(raw), ctypes.byref(at),
                 ctypes.byref(n))
            ids = np.array(at[: n.value], np.int32)
        return ids[: len(ids) // 2], ids[len(ids) // 2 :]

    # ---- files ----

    def load(self, path: Optional[os.PathLike] = None, step: Union[int, str] = "newest") -> None:
        """Load all parameters from a safetensors file, a checkpoint, or a run's checkpoint `step`: a
        number, "newest" or "best". None: from the config's run."""
        number = _STEPS.get(step, step) if isinstance(step, str) else step
        if not isinstance(number, int):
            raise ValueError(f'a step is a number, "newest" or "best", not {step!r}')
        with self._use("loading", replaces=True) as handle:
            call(library.td_session_load_step, handle, None if path is None else text(path), number)

    def save(self, path: os.PathLike) -> None:
        """Write all parameters to a safetensors file, which appears complete or not at all."""
        with self._use("saving") as handle:
            call(library.td_session_save, handle, text(path))

    @property
    def loaded(self) -> Optional[pathlib.Path]:
        """The file that the parameters were loaded from."""
        with self._use("reading a path", inside=True) as handle:
            path = library.td_session_loaded(handle)
            return None if path is None else pathlib.Path(os.fsdecode(path))

    def __repr__(self) -> str:
        return f"<tandem.Session for {self.purpose}{'' if self._open else ', closed'}>"


def _given(prompt) -> _embed.td_given:
    if isinstance(prompt, bytes):
        return _embed.td_given(text=prompt)
    return _embed.td_given(ids=_pointer(prompt), n=len(prompt))


def _generation(options: dict) -> _embed.td_generation:
    """The numbers of td_generation by name; what else it has is not an option."""
    kinds = dict(_embed.td_generation._fields_)
    numbers = [name for name, kind in kinds.items() if name not in ("size", "n_stop_ids")
               and kind in (ctypes.c_int64, ctypes.c_double, ctypes.c_uint64, ctypes.c_bool)]
    for name in options:
        if name not in numbers:
            raise TypeError(f"generate has no option {name!r}; it has {', '.join(numbers)}")
    return _embed.td_generation(size=ctypes.sizeof(_embed.td_generation), **options)
