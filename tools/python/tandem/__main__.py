"""The command `tandem`, as the wheel carries it: python -m tandem COMMAND .."""

import os
import sys


def main() -> None:
    from . import _library

    path = _library.command()
    os.execv(path, [path, *sys.argv[1:]])


if __name__ == "__main__":
    main()
