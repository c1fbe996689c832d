"""The package's declarations are those of embed.h: written anew they are the same, and a C compiler
agrees with every size and offset."""

import ctypes
import re
import subprocess
import sys

import small
from small import SOURCE, Case
from tandem import _embed, _version

HEADERS = SOURCE / "core/include"


def structs():
    return {n: s for n, s in vars(_embed).items()
            if isinstance(s, type) and issubclass(s, ctypes.Structure) and hasattr(s, "_fields_")}


class Declarations(Case):
    def test_written_anew_they_are_the_same(self):
        copy = self.at / "tandem"
        copy.mkdir()
        (self.at / "declare").write_bytes((SOURCE / "tools/python/declare").read_bytes())
        subprocess.run([sys.executable, self.at / "declare", HEADERS / "tandem"], check=True)
        self.assertEqual((copy / "_embed.py").read_text(),
                         (SOURCE / "tools/python/tandem/_embed.py").read_text(),
                         "run tools/python/declare, and commit what it writes")

    def compile(self, lines):
        text = "#include <stddef.h>\n#include <tandem/embed.h>\n" + "\n".join(lines) + "\n"
        return subprocess.run(["cc", "-std=c11", "-fsyntax-only", f"-I{HEADERS}", "-x", "c", "-"],
                              input=text, text=True, stderr=subprocess.PIPE)

    def test_a_compiler_agrees(self):
        lines = []
        for name, struct in structs().items():
            lines.append(f"_Static_assert(sizeof({name}) == {ctypes.sizeof(struct)}, \"{name}\");")
            for field, *_ in struct._fields_:
                at = getattr(struct, field)
                lines.append(f"_Static_assert(offsetof({name}, {field}) == {at.offset} && "
                             f"sizeof((({name} *)0)->{field}) == {at.size}, \"{name}.{field}\");")
        for name, value in vars(_embed).items():
            if name.startswith("TD_") and isinstance(value, int):
                lines.append(f"_Static_assert({name} == {value}, \"{name}\");")
        self.assertGreater(len(lines), 200)
        done = self.compile(lines)
        self.assertEqual(done.returncode, 0, done.stderr)
        wrong = self.compile(lines + ["_Static_assert(sizeof(td_error) == 1, \"wrong\");"])
        self.assertNotEqual(wrong.returncode, 0, "the compiler has to notice")

    def test_all_functions(self):
        """By a simpler reading of the header than that of `declare`."""
        text = "".join((HEADERS / "tandem" / f).read_text()
                       for f in ("embed.h", "embed_analysis.h"))
        text = re.sub(r"/\*.*?\*/", "", text, flags=re.S)
        names = set(re.findall(r"\b(td_(?:session|library)_\w+)\(", text))
        self.assertEqual(names, set(_embed.FUNCTIONS))

    def test_the_version_is_the_projects(self):
        text = (SOURCE / "CMakeLists.txt").read_text()
        self.assertEqual(re.search(r"project\(tandem VERSION ([\d.]+)", text)[1], _version.VERSION)

    def test_what_declare_cannot_read_is_an_error(self):
        headers = self.at / "headers"
        headers.mkdir()
        for name in ("error.h", "host.h", "embed.h", "embed_analysis.h"):
            (headers / name).write_bytes((HEADERS / "tandem" / name).read_bytes())
        with open(headers / "embed_analysis.h", "a") as file:
            file.write("union td_surprise { int a; };\n")
        done = subprocess.run([sys.executable, SOURCE / "tools/python/declare", headers],
                              stderr=subprocess.PIPE, text=True)
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("union td_surprise", done.stderr)


if __name__ == "__main__":
    small.main()
