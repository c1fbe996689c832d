"""What ends a computation: Ctrl-C, exceptions in callbacks, stop(). A run that was stopped and resumed
is the uninterrupted one."""

import filecmp
import os
import signal
import subprocess
import sys
import threading

import small
import tandem
from small import Case


def interrupt_at(step):
    def callback(s):
        if s.step == step:
            os.kill(os.getpid(), signal.SIGINT)

    return callback


class Stops(Case):
    def expect_same_runs(self, a, b):
        for file in ("model.safetensors", "optimizer.safetensors"):
            at = f"checkpoints/step-00000008/{file}"
            self.assertTrue(filecmp.cmp(self.at / a / at, self.at / b / at, False), file)

    def test_an_interrupted_run_is_saved_and_goes_on(self):
        with self.compose("whole") as session:
            session.train()
        with self.compose("parts") as session:
            with self.assertRaises(KeyboardInterrupt) as caught:
                session.train(callback=interrupt_at(3))
            self.assertEqual(caught.exception.trained.step, 3)
            self.assertTrue(caught.exception.trained.stopped)
            self.assertIs(signal.getsignal(signal.SIGINT), signal.default_int_handler)
            self.assertEqual(session.train(resume=True).step, 8)
        self.expect_same_runs("whole", "parts")

    def test_between_micro_batches(self):
        """A signal that arrives while nothing of Python runs: the next callback notices."""
        with self.compose(train__micro_batch=1, train__steps=100000) as session:
            timer = threading.Timer(0.7, os.kill, (os.getpid(), signal.SIGINT))
            timer.start()
            with self.assertRaises(tandem.Interrupted) as caught:
                session.train()
            timer.join()
            self.assertGreaterEqual(caught.exception.trained.step, 0)

    def test_a_handler_of_the_program_stays(self):
        seen = []
        before = signal.signal(signal.SIGINT, lambda *_: seen.append(1))
        self.addCleanup(signal.signal, signal.SIGINT, before)
        with self.compose() as session:
            self.assertEqual(session.train(callback=interrupt_at(3)).step, 8)
        self.assertEqual(seen, [1])

    def test_an_exception_in_a_callback(self):
        def callback(step):
            if step.step == 2:
                raise LookupError("in the callback")

        with self.compose() as session:
            with self.assertRaisesRegex(LookupError, "in the callback"):
                session.train(callback=callback)
            self.assertEqual(session.train(callback=lambda s: s.step == 5, resume=True).step, 5)
            self.assertEqual(tandem.Run(self.at / "run").steps[-1], 5)
            with self.assertRaises(ZeroDivisionError):
                session.generate("a", on_text=lambda *_: 1 / 0)
            self.assertEqual(len(session.generate("a", max_tokens=2)), 1)

    def test_stop_from_another_thread(self):
        with self.compose(train__steps=100000) as session:
            started = threading.Event()
            threading.Thread(target=lambda: (started.wait(), session.stop())).start()
            trained = session.train(callback=lambda s: started.set())
            self.assertTrue(trained.stopped)
            self.assertLess(trained.step, 100000)

    def test_in_a_callback(self):
        with self.compose() as session:
            seen = []

            def callback(step):
                seen.append(session.parameters["model.norm.weight"].tolist())
                seen.append(session.generate("a", max_tokens=1)[0].ids)
                for call in (session.evaluate, session.train, session.close,
                             lambda: session.load(self.at), session.describe):
                    with self.assertRaisesRegex(tandem.Busy, "in a callback of training"):
                        call()

            session.train(callback=callback)
            self.assertEqual(len(seen), 16)
            self.assertNotEqual(seen[0], seen[14], "each step has other values")

    def test_generating_in_a_callback_changes_nothing(self):
        with self.compose("whole") as session:
            session.train()
        with self.compose("parts") as session:
            session.train(callback=lambda s: session.generate("a", max_tokens=2) and None)
        self.expect_same_runs("whole", "parts")

    def test_progress(self):
        """On a terminal: here it is asked for, and the standard error is a pipe."""
        script = ("import sys; sys.path.insert(0, {0!r}); import small\n"
                  "c = small.Case(); c.setUp()\n"
                  "s = c.compose()\n"
                  "s.train(progress=True); s.evaluate(); c.doCleanups()\n")
        path = os.path.dirname(os.path.abspath(__file__))
        done = subprocess.run([sys.executable, "-c", script.format(path)], stderr=subprocess.PIPE,
                              stdout=subprocess.PIPE)
        self.assertEqual((done.returncode, done.stdout), (0, b""), done.stderr)
        self.assertIn(b"\rstep 8/8  loss ", done.stderr)
        self.assertEqual(done.stderr.count(b"\n"), 1, "one line, and none of evaluate")


if __name__ == "__main__":
    small.main()
