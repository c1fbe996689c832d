"""A model that trains in a second, for the tests of the package, and a scratch directory."""

import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import unittest

SOURCE = pathlib.Path(os.environ["TANDEM_SOURCE"])
sys.path.insert(0, str(SOURCE / "tools/python"))

import tandem  # noqa: E402

# Tests of the package mean the library of this build, not another one.
assert tandem._library.library._name == os.environ["TANDEM_LIBRARY"]

MODEL = {
    "model": {
        "plugin": "decoder-only", "vocab_size": 263, "d_model": 24, "layers": 2,
        "attention": {"plugin": "softmax", "heads": 2, "head_dim": 12},
        "position": {"plugin": "rope"}, "norm": {"plugin": "rms"},
        "ffn": {"plugin": "swiglu", "d_ff": 32},
    },
    "loss": {"plugin": "causal-lm"},
}
REST = {
    "optimizer": {"plugin": "adamw"},
    "schedule": {"plugin": "constant", "peak": 0.01},
    "tokenizer": {"plugin": "bytes"},
    "data": {"plugin": "text", "sources": [{
        "name": "facts", "files": ["data/corpus/facts.train.jsonl"],
        "held_out": ["data/corpus/facts.valid.jsonl"]}]},
    "train": {"steps": 8, "length": 33, "batch": 2, "dropout": 0.1, "log_every": 1},
    "evaluate": {"sequences": 4},
}


class Case(unittest.TestCase):
    """A test with a scratch directory, `self.at`, and sessions that write there."""

    def setUp(self):
        self.at = pathlib.Path(tempfile.mkdtemp(prefix="tandem-python-"))
        self.addCleanup(shutil.rmtree, self.at, ignore_errors=True)

    def compose(self, name="run", purpose="train", **overrides):
        settings = {"run.dir": self.at, "run.name": name, "backend.threads": 2}
        settings.update({key.replace("__", "."): value for key, value in overrides.items()})
        return tandem.compose(MODEL, REST, overrides=settings, purpose=purpose)

    def command(self, *arguments):
        """What the command `tandem` prints."""
        return subprocess.run([os.environ["TANDEM_COMMAND"], *map(str, arguments)], check=True,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                              cwd=self.at).stdout


def main():
    unittest.main(verbosity=2)
