"""python -m evl [-m module | -c code | script.py] [argument]...: runs a program with asyncio's policy making loops of evl's."""

import os
import runpy
import sys
import types

import evl

_NAME = "python -m evl"


def _run(code, file=None):
    """Runs code as the program: what it leaves behind, threads and what is called at the end, finds it as __main__."""
    program = types.ModuleType("__main__")
    program.__builtins__ = __builtins__
    if file is not None:
        program.__file__ = file
    sys.modules["__main__"] = program
    exec(code, program.__dict__)


def _run_script(path):
    sys.path[0] = os.path.dirname(os.path.abspath(path))
    if os.path.isdir(path):
        # A directory or archive with a __main__.py.
        return runpy.run_path(path, run_name="__main__")
    try:
        with open(path, "rb") as file:
            source = file.read()
    except OSError as error:
        print(f"{_NAME}: can't open file {path!r}: {error.strerror}", file=sys.stderr)
        return 2
    if source.startswith(b"PK"):
        return runpy.run_path(path, run_name="__main__")
    return _run(compile(source, path, "exec"), path)


def main():
    """Returns an exit status, or anything else for success."""
    arguments = sys.argv[1:]
    if not arguments or arguments[0] in ("-h", "--help"):
        print(__doc__, file=sys.stderr)
        return 0 if arguments else 2
    if arguments[0] in ("-V", "--version"):
        print(f"evl {evl.__version__}, libevl {evl.libevl_version}, Python {sys.version.split()[0]}")
        return 0
    first, *rest = arguments
    if first in ("-m", "-c") and not rest:
        print(f"{_NAME}: argument expected for the {first} option", file=sys.stderr)
        return 2
    if first.startswith("-") and first not in ("-m", "-c"):
        print(f"{_NAME}: unknown option {first}; the interpreter's own stand before -m evl", file=sys.stderr)
        return 2
    evl.install()
    if first == "-m":
        sys.argv = rest
        return runpy._run_module_as_main(rest[0])
    if first == "-c":
        sys.argv = ["-c", *rest[1:]]
        sys.path[0] = ""
        return _run(compile(rest[0], "<string>", "exec"))
    sys.argv = arguments
    return _run_script(first)


if __name__ == "__main__":
    status = main()
    sys.exit(status if isinstance(status, int) else 0)
