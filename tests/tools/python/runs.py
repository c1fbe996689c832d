"""Runs and studies as objects, on what the command leaves behind."""

import math

import numpy as np

import small
import tandem
from small import MODEL, REST, Case


class Runs(Case):
    def train(self, name="run", **overrides):
        with self.compose(name, **overrides) as session:
            return session.train()

    def test_a_run(self):
        trained = self.train(train__checkpoint_every=3, train__keep_last=2)
        run = tandem.Run(trained.directory)
        self.assertEqual(run.steps, [6, 8])
        self.assertIn("d_model = 24", run.config)
        with run.session() as session:
            self.assertEqual(session.evaluate().nll, trained.evaluation.nll)
            self.assertEqual(session.directory, trained.directory)
        with run.session("generate", step=6) as session:
            self.assertIn("step-00000006", str(session.loaded))
        older = tandem.Run(trained.directory / "checkpoints/step-00000006")
        with older.session() as session:
            self.assertIn("step-00000006", str(session.loaded))
        moved = trained.directory.rename(self.at / "moved")
        with tandem.Run(moved).session("train", overrides={"train.steps": 9}) as session:
            self.assertEqual(session.train(resume=True).step, 9)
        self.assertEqual(tandem.Run(moved).metrics()["step"][-1], 9)

    def test_what_is_no_run(self):
        with self.assertRaisesRegex(tandem.FileError, "no config"):
            tandem.Run(self.at)

    def test_metrics(self):
        path = self.at / "metrics.jsonl"
        path.write_text('{"step": 1, "train/loss": 2.5}\n{"step": 2, "train/loss": null}\n'
                        '{"step": 2, "evaluate/nll": 3.0}\n{"step": 3, "train/lo')
        columns = tandem.runs.metrics.read(self.at)
        self.assertEqual(columns["step"].tolist(), [1, 2])
        np.testing.assert_array_equal(columns["train/loss"], [2.5, math.nan])
        np.testing.assert_array_equal(columns["evaluate/nll"], [math.nan, 3])
        for wrong in ("[1]\n", "{}\n", "x\n", '{"step": null}\n'):
            path.write_text('{"step": 1}\n' + wrong)
            with self.assertRaisesRegex(tandem.FormatError, "metrics.jsonl:2: not a line"):
                tandem.runs.metrics.read(self.at)
        path.unlink()
        with self.assertRaisesRegex(tandem.FileError, "run.loggers lack"):
            tandem.runs.metrics.read(self.at)

    def test_evaluations_and_comparison(self):
        for seed in (1, 2):
            self.train(f"s{seed}", train__seed=seed)
            self.command("evaluate", self.at / f"s{seed}", "-q")
        run = tandem.Run(self.at / "s1")
        self.assertTrue(run.evaluations())
        told = tandem.compare([run, self.at / "s2"], by_run=True, draws=100)
        self.assertIsInstance(told, dict)
        with self.assertRaises(tandem.Error):
            tandem.compare([run])
        with self.assertRaisesRegex(ValueError, "two or more"):
            tandem.compare([])


class Studies(Case):
    def study(self, **overrides):
        (self.at / "base.cfg").write_text(tandem.to_config({**MODEL, **REST}))
        path = self.at / "study.cfg"
        path.write_text(tandem.to_config({"study": {
            "name": "tiny", "base": str(self.at / "base.cfg"),
            "variants": {"a": {}, "b": {"keys": {"model": {"layers": 1}}}},
            "phases": {"pretrain": {}, "evaluate": {}}}}))
        return tandem.Study(path, overrides={"run.dir": self.at, **overrides})

    def test_a_study(self):
        study = self.study()
        plan = study.plan()
        self.assertEqual(len(plan["cells"]), 4)
        self.assertFalse((self.at / "tiny").exists(), "a plan writes nothing")
        study.run(jobs=2, threads=1)
        cells = study.cells()
        self.assertEqual(cells["state"], ["done"] * 4)
        self.assertEqual(study.directory, self.at / "tiny")
        runs = tandem.Study(self.at / "tiny").runs()
        self.assertEqual(len(runs), 2)
        for run in runs.values():
            self.assertEqual(run.metrics()["step"][-1], 8)

    def test_what_is_wrong_is_raised(self):
        with self.assertRaisesRegex(tandem.ConfigError, "stepz"):
            self.study(**{"train.stepz": 3}).plan()
        with self.assertRaisesRegex(ValueError, "has its config"):
            tandem.Study(self.at, overrides={"train.steps": 3})
        with self.assertRaisesRegex(tandem.ConfigError, "not its directory"):
            tandem.Study(self.at).run()


if __name__ == "__main__":
    small.main()
