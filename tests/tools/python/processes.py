"""Several sessions, threads, forked children: what works, and what is refused."""

import copy
import gc
import os
import pickle
import sys
import threading
import traceback

import small
import tandem
from small import Case


class Sessions(Case):
    def nll(self, name, **overrides):
        with self.compose(name, **overrides) as session:
            return session.train().evaluation.nll

    def test_two_at_once_on_two_threads(self):
        alone = [self.nll("a"), self.nll("b", train__seed=2)]
        together = [None, None]

        def work(k, name, seed):
            together[k] = self.nll(name, train__seed=seed)

        threads = [threading.Thread(target=work, args=a) for a in ((0, "c", 1), (1, "d", 2))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(together, alone)
        self.assertNotEqual(*alone)

    def test_one_inside_another(self):
        with self.compose("outer") as outer, self.compose("inner") as inner:
            seen = []
            outer.train(callback=lambda s: seen.append(inner.evaluate().nll))
            self.assertEqual(len(set(seen)), 1, "the outer one's steps do not touch it")

    def test_a_second_thread_is_refused(self):
        with self.compose(train__steps=1000) as session:
            inside, seen = threading.Event(), []

            def other():
                inside.wait()
                for call in (session.evaluate, session.close, lambda: session.parameters["x"]):
                    try:
                        call()
                    except tandem.Busy as why:
                        seen.append(str(why))
                session.stop()

            thread = threading.Thread(target=other)
            thread.start()
            session.train(callback=lambda s: inside.set())
            thread.join()
            self.assertEqual(len(seen), 3)
            self.assertIn("another thread is in training", seen[0])
            self.assertTrue(session.evaluate().nll > 0, "and it still works")

    def test_a_session_may_change_threads(self):
        with self.compose() as session:
            a = session.evaluate().nll
            seen = []
            thread = threading.Thread(target=lambda: seen.append(session.evaluate().nll))
            thread.start()
            thread.join()
            self.assertEqual(seen, [a])


class Forks(Case):
    def child(self, work):
        """Fork, as a DataLoader does, and return what the child says."""
        end, start = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                said = work() or "nothing"
            except BaseException:
                said = traceback.format_exc()
            os.write(start, said.encode())
            os._exit(0)
        os.close(start)
        with os.fdopen(end) as pipe:
            said = pipe.read()
        os.waitpid(pid, 0)
        return said

    def test_a_forked_session_is_refused(self):
        session = self.compose()
        expected = session.evaluate().nll

        def work():
            told = []
            for call in (session.evaluate, session.train, lambda: session.config,
                         lambda: session.parameters["model.norm.weight"]):
                try:
                    call()
                    told.append("worked")
                except tandem.Forked as why:
                    told.append(str(why))
            session.close()
            return "\n".join(told)

        said = self.child(work)
        self.assertEqual(said.count("its threads were not forked"), 4, said)
        self.assertEqual(session.evaluate().nll, expected, "the parent's still works")
        session.close()

    def test_a_forked_child_may_drop_it_and_open_its_own(self):
        session = self.compose("parent")
        expected = session.evaluate().nll

        def work():
            nonlocal session
            del session
            gc.collect()
            with self.compose("child") as own:
                return repr(own.evaluate().nll)

        self.assertEqual(self.child(work), repr(expected))
        self.assertEqual(session.evaluate().nll, expected)

    def test_arrays_survive_a_fork(self):
        """What a DataLoader's worker does get: a copy of the memory."""
        with self.compose() as session:
            view = session.parameters["model.norm.weight"]
            self.assertEqual(self.child(lambda: str(view.sum())), "24.0")
            del view

    def test_no_copies(self):
        with self.compose() as session:
            for make in (pickle.dumps, copy.copy, copy.deepcopy):
                with self.assertRaisesRegex(TypeError, "cannot be copied or sent"):
                    make(session)

    def test_many_sessions_are_closed(self):
        """Each has threads, so a leak would show."""
        def threads():
            return len(os.listdir("/proc/self/task"))

        self.compose().evaluate()
        gc.collect()
        before = threads()
        for _ in range(5):
            self.compose().evaluate()
        gc.collect()
        self.assertEqual(threads(), before)


if __name__ == "__main__":
    if not sys.platform.startswith("linux"):
        sys.exit("these tests read /proc")
    small.main()
