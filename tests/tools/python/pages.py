"""The code that the documentation shows runs as it stands, with fewer steps."""

import contextlib
import io
import re

import small
import tandem
from small import SOURCE, Case

FEWER = {"train.steps": 2, "evaluate.sequences": 2, "backend.threads": 2}


class Pages(Case):
    def blocks(self, page):
        """The page's indented blocks of Python."""
        text = (SOURCE / page).read_text()
        blocks = re.findall(r"(?:^    .*\n|^\n(?=    ))+", text, re.M)
        return [re.sub(r"^    ", "", b, flags=re.M) for b in blocks]

    def run_block(self, block):
        def compose(*sources, overrides=None, **more):
            less = {**(overrides or {}), **FEWER, "run.dir": self.at}
            return tandem.compose(*sources, overrides=less, **more)

        class Package:  # tandem, but what it composes is small
            def __getattr__(self, name):
                return compose if name == "compose" else getattr(tandem, name)

        block, said = block.replace("import tandem\n", ""), io.StringIO()
        with contextlib.redirect_stdout(said):
            exec(compile(block, "the page", "exec"), {"tandem": Package()})
        self.assertTrue(said.getvalue())

    def test_python(self):
        (block,) = [b for b in self.blocks("docs/python.md") if "tandem.compose" in b]
        self.run_block(block)
        self.assertTrue((self.at / "no-output-norm/checkpoints").exists())

    def test_readme(self):
        (block,) = [b for b in self.blocks("README.md") if "tandem.compose" in b]
        self.run_block(block)

    def test_every_exception_is_on_the_page(self):
        page = (SOURCE / "docs/python.md").read_text()
        for name in tandem.__all__:
            kind = getattr(tandem, name)
            if isinstance(kind, type) and issubclass(kind, BaseException) and name != "SessionError":
                self.assertIn(name, page)


if __name__ == "__main__":
    small.main()
