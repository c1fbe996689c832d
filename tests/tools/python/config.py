"""Configs as dicts: what the library reads back is what was written."""

import math
import pathlib

import numpy as np

import small
import tandem
from small import MODEL, REST, Case


class Config(Case):
    def test_values(self):
        text = tandem.to_config({
            "a": True, "b": -3, "c": 3_000_000_000, "d": 1e-5, "e": 2.0, "f": 'a "b"\\\n\x01é',
            "g": {"h-i": []}, "j": [1, [2.5, "x"]], "k": pathlib.Path("/p"), "l": np.float64(0.5),
            "m": np.int32(7), "n": np.bool_(False)})
        self.assertEqual(text, (
            'a = true;\nb = -3;\nc = 3000000000L;\nd = 1.0e-05;\ne = 2.0;\n'
            'f = "a \\"b\\"\\\\\\n\\x01é";\ng = { h-i = (  );\n};\nj = ( 1, ( 2.5, "x" ) );\n'
            'k = "/p";\nl = 0.5;\nm = 7;\nn = false;\n'))

    def test_the_library_reads_them(self):
        with self.compose(schedule__peak=1e-5, train__seed=1_000_000_000,
                          run__name='a "quoted" name') as session:
            config = session.config
            self.assertEqual(session.directory, self.at / 'a "quoted" name')
        self.assertIn("peak = 1e-05", config)
        self.assertIn("seed = 1000000000", config)

    def test_what_no_config_has(self):
        for value, why in ((None, "NoneType"), (math.nan, "nan"), (math.inf, "inf"),
                           (2**63, "64 bits"), ("a\0b", "zero byte"), ({1: 2}, "not a key"),
                           ({"a b": 2}, "not a key"), ({"x": {3}}, "set")):
            with self.assertRaisesRegex((TypeError, ValueError), why):
                tandem.to_config({"key": value})

    def test_the_key_is_named(self):
        with self.assertRaisesRegex(TypeError, r"model\.layers\[1\]: a config has"):
            tandem.to_config({"model": {"layers": [1, None]}})

    def test_order_of_sources(self):
        with self.assertRaisesRegex(ValueError, "before dicts: put 'nano/redllm.cfg'"):
            tandem.compose(MODEL, "nano/redllm.cfg")
        with self.assertRaisesRegex(TypeError, "a file or a dict, not int"):
            tandem.compose(3)
        with tandem.compose("nano/redllm.cfg", {"train": {"steps": 7}},
                            overrides=["train.batch=8"], purpose="model") as session:
            self.assertIn("steps = 7", session.config)
            self.assertIn("batch = 8", session.config)

    def test_a_dict_extends_a_shipped_file(self):
        with tandem.compose({"extends": "nano/decllm.cfg", "model": {"layers": 1}},
                            purpose="model") as session:
            self.assertIn("layers = 1;", session.config)

    def test_all_errors_in_one_exception(self):
        wrong = {**REST, "train": {"stepz": 3, "batch": "x"}}
        with self.assertRaises(tandem.ConfigError) as caught:
            tandem.compose(MODEL, wrong)
        text = str(caught.exception)
        self.assertIn("'stepz' is unknown; did you mean 'steps'?", text)
        self.assertIn("batch", text)
        self.assertIsInstance(caught.exception, ValueError)
        self.assertEqual(caught.exception.status, "TD_ECONFIG")

    def test_overrides_name_their_origin(self):
        with self.assertRaisesRegex(tandem.ConfigError, "overrides.*stepz"):
            tandem.compose(MODEL, REST, overrides={"train.stepz": 3})
        with self.assertRaisesRegex(TypeError, "not the string"):
            tandem.compose(MODEL, REST, overrides="train.steps=3")


if __name__ == "__main__":
    small.main()
