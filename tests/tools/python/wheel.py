"""The wheel, in a fresh virtual environment: nothing of the source tree or the build is used."""

import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import unittest
import zipfile

SOURCE = pathlib.Path(os.environ["TANDEM_SOURCE"])
BUILD = pathlib.Path(os.environ["TANDEM_LIBRARY"]).parents[1]

SCRIPT = """
import tandem
assert tandem.__file__.startswith({venv!r}), tandem.__file__
library = tandem._library.library._name
assert library.startswith({venv!r}), library
s = tandem.compose("quickstart/decllm.cfg", overrides={{"train.steps": 2, "run.dir": {at!r},
                   "evaluate.sequences": 2}})
t = s.train()
assert t.step == 2 and t.evaluation.nll > 0
print(open("/proc/self/maps").read())
"""


class Wheel(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.at = pathlib.Path(tempfile.mkdtemp(prefix="tandem-wheel-"))
        cls.addClassCleanup(shutil.rmtree, cls.at, ignore_errors=True)
        cls.environment = {k: v for k, v in os.environ.items()
                           if not k.startswith(("TANDEM_", "PYTHON", "LD_"))}
        cls.said = cls.run_in(sys.executable, SOURCE / "tools/wheel", "--build", BUILD,
                              "--out", cls.at / "dist")
        (cls.wheel,) = (cls.at / "dist").glob("*.whl")
        cls.venv = cls.at / "venv"

    @classmethod
    def run_in(cls, *words, check=True):
        done = subprocess.run([str(w) for w in words], cwd=cls.at, env=cls.environment, text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=540)
        if check and done.returncode:
            raise AssertionError(f"{words} ended with {done.returncode}:\n{done.stdout}")
        return done.stdout if check else done

    def make_venv(self, *options):
        shutil.rmtree(self.venv, ignore_errors=True)
        self.run_in(sys.executable, "-m", "venv", *options, self.venv)
        return self.venv / "bin/python"

    def test_the_tag_names_the_glibc(self):
        glibc = re.search(r"needs glibc ([\d.]+)", self.said)[1].replace(".", "_")
        self.assertIn(f"-py3-none-manylinux_{glibc}_x86_64.whl", self.wheel.name)

    def test_its_record(self):
        with zipfile.ZipFile(self.wheel) as archive:
            self.assertIsNone(archive.testzip())
            names = archive.namelist()
            record = archive.read(next(n for n in names if n.endswith("RECORD"))).decode()
        self.assertEqual([line.split(",")[0] for line in record.split()], names)
        for part in ("tandem/py.typed", "tandem/prefix/lib/libtandem.so.0",
                     "tandem/prefix/lib/tandem/plugins/backend-cpu.so",
                     "tandem/prefix/share/tandem/configs/nano/redllm.cfg",
                     "tandem/prefix/bin/tandem"):
            self.assertIn(part, names)

    def test_without_a_registry(self):
        """With the NumPy that the system has."""
        python = self.make_venv("--system-site-packages")
        self.run_in(python, "-m", "pip", "install", "-q", "--no-index", "--no-deps", self.wheel)
        maps = self.run_in(python, "-c",
                           SCRIPT.format(venv=str(self.venv), at=str(self.at / "runs")))
        ours = set(re.findall(r"(\S+/tandem/prefix/lib/\S+\.so\S*)", maps))
        self.assertTrue(any("libconfig-tandem" in p for p in ours), ours)
        self.assertNotIn(str(BUILD), maps)
        self.assertRegex(self.run_in(self.venv / "bin/tandem", "--version"), r"\d+\.\d+")
        # every module that is carried can be loaded
        self.assertIn("softmax", self.run_in(self.venv / "bin/tandem", "plugins", "list"))
        self.run_in(self.venv / "bin/tandem", "plugins", "show", "tokenizer", "sentencepiece")

    def test_the_notebook(self):
        python = self.make_venv()
        done = self.run_in(python, "-m", "pip", "install", "-q", "--retries", "1", self.wheel,
                           "matplotlib", check=False)
        if done.returncode:
            self.skipTest("pip cannot install numpy and matplotlib here: "
                          + done.stdout.strip().splitlines()[-1])
        shutil.copy(SOURCE / "docs/examples/two_models.py", self.at)
        said = self.run_in(python, self.at / "two_models.py", 8)
        self.assertIn("redllm continues:", said)
        self.assertRegex(said, r"decllm: \d+\.\d+ nats per token after 8 steps")
        for picture in ("loss.png", "attention.png"):
            self.assertEqual((self.at / picture).read_bytes()[:4], b"\x89PNG")


if __name__ == "__main__":
    unittest.main(verbosity=2)
