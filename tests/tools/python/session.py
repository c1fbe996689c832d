"""A session from end to end, against the command `tandem` and against NumPy."""

import filecmp
import json
import logging
import math

import numpy as np

import small
import tandem
from small import Case


class Training(Case):
    def test_the_bits_of_the_command(self):
        with self.compose("mine") as session:
            config, steps = session.config, []
            trained = session.train(callback=steps.append)
            again = session.evaluate()
            metrics = session.metrics()
        self.assertEqual([s.step for s in steps], list(range(1, 9)))
        self.assertTrue(all(math.isfinite(s.loss) and s.applied for s in steps))
        self.assertEqual((trained.step, trained.stopped, trained.skipped), (8, False, 0))
        self.assertEqual(again.nll, trained.evaluation.nll)
        (self.at / "run.cfg").write_text(config)
        self.command("train", "-q", "-c", self.at / "run.cfg", "run.name=theirs")
        for file in ("model.safetensors", "optimizer.safetensors"):
            at = f"checkpoints/step-00000008/{file}"
            self.assertTrue(filecmp.cmp(self.at / "mine" / at, self.at / "theirs" / at, False))
        self.assertEqual(metrics["train/loss"].tolist(), [s.loss for s in steps])
        self.assertEqual(metrics["step"].tolist(), [s.step for s in steps])
        self.assertEqual(metrics["evaluate/nll"][-1], again.nll)
        self.assertTrue(math.isnan(metrics["evaluate/nll"][0]))
        self.assertEqual({len(c) for c in metrics.values()}, {8})

    def test_evaluation(self):
        with self.compose() as session:
            e = session.evaluate()
        (source,) = e.sources
        self.assertEqual((source.source, source.sequences), ("facts", 4))
        self.assertAlmostEqual(e.nll, source.nll, 12)
        self.assertEqual(e.sequences["targets"].sum(), source.targets)
        mean = e.sequences["nll"].sum() / e.sequences["weight"].sum()
        self.assertAlmostEqual(mean, e.nll, 9)

    def test_description(self):
        with self.compose() as session:
            d = session.describe()
            self.assertEqual(d.parameters, sum(p.size for p in session.parameters.values()))
            self.assertEqual(d.parameters, d.embedding + d.attention + d.ffn + d.norm + d.other)
            self.assertEqual(d.memory["parameters"], 4 * d.parameters)
            self.assertIn("parameters", str(d))
            self.assertIn("digraph", session.graph(dot=True))
            self.assertIn("##", session.mask("model.layers.1.self_attn"))

    def test_the_log(self):
        with self.assertLogs("tandem", logging.WARNING) as logs:
            with self.compose(schedule__warmup=100) as session:
                session.train()
        self.assertIn("never reaches its peak", " ".join(logs.output))

    def test_a_run_that_exists(self):
        with self.compose() as session:
            session.train()
            with self.assertRaisesRegex(tandem.Error, "resume"):
                session.train()

    def test_extrapolation_and_tasks(self):
        with self.compose(tasks__data=small.SOURCE / "data/tasks") as session:
            e = session.extrapolate([40, 66], [8], sequences=2)
            self.assertEqual(e.lengths["to"].tolist(), [40, 66])
            self.assertTrue(np.isfinite(e.lengths["nll"]).all())
            scores = session.ask(["sums"], shots=0, limit=3)
        self.assertEqual((scores[0].task, scores[0].items, scores[0].shots), ("sums", 3, 0))


class Texts(Case):
    def test_tokens(self):
        with self.compose(purpose="generate") as session:
            ids = session.encode("ab\0é")
            self.assertEqual(session.decode(ids), "ab\0é")
            self.assertEqual(len(ids), 5)
            self.assertIn("�", session.decode(ids[:-1]))
            with self.assertRaisesRegex(TypeError, "a list of integers"):
                session.decode([0.5])
            with self.assertRaises(tandem.Error):
                session.decode([263])

    def test_generation(self):
        with self.compose() as session:
            session.train()
            prompts = ["The ferry", session.encode("The ferry"), "A"]
            answers = session.generate(prompts, max_tokens=5)
            self.assertEqual([a.prompt for a in answers], [0, 1, 2])
            self.assertEqual(answers[0].ids, answers[1].ids)
            self.assertEqual(answers[0].text, session.decode(answers[0].ids))
            # each token is the one that a score calls the most likely
            pair = (session.encode("The ferry"), answers[0].ids)
            (scored,) = session.score([pair])
            self.assertTrue(scored.greedy)
            if not answers[0].stopped:  # else the end counts as well
                # an answer cannot have the ids that the model has and the tokenizer has not
                self.assertLess(scored.logprob, answers[0].logprob)
                self.assertAlmostEqual(scored.logprob, answers[0].logprob, delta=0.2)
            parts = []
            session.generate("The ferry", max_tokens=5, on_text=lambda p, t: parts.append(t))
            self.assertEqual("".join(parts), answers[0].text)
            beams = session.generate("The ferry", max_tokens=4, beams=3)
            self.assertEqual([a.rank for a in beams], [0, 1, 2])
            same = [session.generate("A", max_tokens=9, temperature=1.0, seed=s)[0].ids
                    for s in (1, 1, 2)]
            self.assertEqual(same[0], same[1])
            self.assertNotEqual(same[0], same[2])

    def test_wrong_options(self):
        with self.compose() as session:
            with self.assertRaisesRegex(TypeError, "no option 'max_new_tokens'; it has max_tokens"):
                session.generate("a", max_new_tokens=3)
            with self.assertRaisesRegex(tandem.ConfigError, "prompt 1: token 1 is 999"):
                session.generate([[999]])
            with self.assertRaisesRegex(ValueError, "zero byte"):
                session.generate("a\0b")

    def test_scores(self):
        with self.compose() as session:
            pairs = [("one ", "two"), ("one", " two"), ("one", " three")]
            a, b, c = session.score(pairs)
            self.assertEqual(a.tokens, 4, "the space is the answer's")
            self.assertAlmostEqual(a.logprob, b.logprob, 4)
            self.assertGreater(abs(a.logprob - c.logprob), 0.1)
            (whole,) = session.score([(session.encode("one"), session.encode(" two"))])
            self.assertAlmostEqual(whole.logprob, a.logprob, 4)
            self.assertEqual(session.score([]), [])
            with self.assertRaisesRegex(TypeError, "both texts"):
                session.score([("a", [1])])
            with self.assertRaisesRegex(tandem.ConfigError, "no tokens"):
                session.score([("a", "")])


class Parameters(Case):
    def test_views(self):
        with self.compose() as session:
            parameters = session.parameters
            name = "model.norm.weight"
            view = parameters[name]
            self.assertFalse(view.flags.owndata or view.flags.writeable)
            with self.assertRaises(ValueError):
                view[0] = 1
            parameters[name] = np.arange(24)
            self.assertEqual(view.tolist(), list(range(24)), "a view shows what is written")
            parameters[name] = 2
            self.assertEqual(view.tolist(), [2] * 24)
            with self.assertRaisesRegex(ValueError, r"shape \(24,\), not \(23,\)"):
                parameters[name] = np.ones(23)
            with self.assertRaisesRegex(KeyError, "no parameter 'x'"):
                parameters["x"]
            self.assertEqual(len(parameters), len(list(parameters)))
            self.assertEqual(parameters.shapes[name], (24,))

    def test_memory_that_arrays_look_at(self):
        session = self.compose()
        view = session.parameters["model.norm.weight"]
        part = view[3:5]
        del view
        with self.assertRaisesRegex(BufferError, "1 arrays are views"):
            session.train()
        session.close()
        self.assertEqual(part.tolist(), [1, 1], "its memory lives as long as it")
        with self.assertRaises(tandem.Closed):
            session.train()
        del part

    def test_training_after_a_view(self):
        with self.compose() as session:
            before = np.array(session.parameters["model.embed_tokens.weight"])
            session.train()
            after = session.parameters["model.embed_tokens.weight"]
            self.assertFalse(np.array_equal(before, after))

    def test_copies_where_there_is_nothing_to_look_at(self):
        with self.compose(backend__plugin="reference", purpose="model") as session:
            copy = session.parameters["model.norm.weight"]
            self.assertTrue(copy.base is None or copy.flags.owndata)
            self.assertEqual(copy.tolist(), [1] * 24)

    def test_files(self):
        path = self.at / "w.safetensors"
        with self.compose() as session:
            session.parameters["model.norm.weight"] = 3
            session.save(path)
            session.parameters["model.norm.weight"] = 4
            session.load(path)
            self.assertEqual(session.parameters["model.norm.weight"][0], 3)
            self.assertEqual(session.loaded, path)
            with self.assertRaisesRegex(tandem.FileError, "nowhere"):
                session.load(self.at / "nowhere")
            with self.assertRaisesRegex(ValueError, '"newest" or "best"'):
                session.load(path, step="last")


class Attention(Case):
    """The weights, computed again with NumPy from the parameters: one layer without positions."""

    def weights(self, p, ids):
        def rms(x):
            return x / np.sqrt((x * x).mean(-1, keepdims=True) + 1e-6)

        x = p["model.embed_tokens.weight"][ids].astype(float) * self.scale
        x = rms(x) * p["model.layers.0.input_layernorm.weight"]
        q, k = (np.reshape(x @ p[f"model.layers.0.self_attn.{n}_proj.weight"].astype(float).T,
                           (len(ids), 2, 12)).transpose(1, 0, 2) for n in "qk")
        scores = q @ k.transpose(0, 2, 1) / np.sqrt(12)
        scores[:, ~np.tri(len(ids), dtype=bool)] = -np.inf
        e = np.exp(scores - scores.max(-1, keepdims=True))
        return e / e.sum(-1, keepdims=True)

    def test_against_numpy(self):
        overrides = {"model.layers": 1, "model.position.plugin": "none",
                     "model.attention.qkv_norm": False}
        with self.compose(**{k.replace(".", "__"): v for k, v in overrides.items()}) as session:
            (a,) = session.attention("To be or not", " to be")
            self.assertEqual((a.reads, a.layer, a.own), ("self", 0, a.weights.shape[2]))
            self.scale = 1.0
            expected = self.weights(session.parameters, a.query_ids)
            np.testing.assert_allclose(a.weights, expected, atol=2e-6)
            self.assertGreater(np.ptp(expected[:, -1]), 1e-3, "not uniform: the test can fail")

    def test_halves(self):
        with self.compose() as session:
            all_ = session.attention("abcdef")
            two = session.attention(session.encode("abc"), session.encode("def"))
            np.testing.assert_array_equal(all_[1].weights, two[1].weights)
            (one,) = session.attention("abcdef", layers=["1"], heads=[1])
            np.testing.assert_array_equal(one.weights[0], all_[1].weights[1])
            with self.assertRaisesRegex(tandem.ConfigError, "no head 9"):
                session.attention("abcdef", heads=[9])


if __name__ == "__main__":
    small.main()
