"""python -m evl"""

import os
import subprocess
import sys
import tempfile
import unittest


def run(*arguments, cwd=None):
    ran = subprocess.run(
        [sys.executable, "-m", "evl", *arguments], capture_output=True, text=True, timeout=60, cwd=cwd)
    return ran.returncode, ran.stdout, ran.stderr


class Main(unittest.TestCase):
    def setUp(self):
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.directory = directory.name

    def write(self, text, name="script.py"):
        path = os.path.join(self.directory, name)
        with open(path, "w") as file:
            file.write(text)
        return path

    SHOW = "import asyncio, sys\nasync def main():\n    print(type(asyncio.get_running_loop()).__module__, __name__, *sys.argv[1:])\n" \
           "asyncio.run(main())\n"

    def test_programs(self):
        path = self.write(self.SHOW)
        expected = (0, "evl.loop __main__ a -b\n", "")
        self.assertEqual(run(path, "a", "-b"), expected)
        self.assertEqual(run("-m", "script", "a", "-b", cwd=self.directory), expected)
        self.assertEqual(run("-c", self.SHOW, "a", "-b"), expected)
        self.write(self.SHOW, "__main__.py")
        self.assertEqual(run(self.directory, "a", "-b"), expected)

    def test_what_a_program_leaves_behind(self):
        path = self.write(
            "import atexit, pickle, threading, time\n"
            "def function(): pass\n"
            "def later():\n"
            "    threading.main_thread().join()\n"
            "    print(pickle.loads(pickle.dumps(function)) is function)\n"
            "atexit.register(lambda: print(__name__))\n"
            "threading.Thread(target=later).start()\n")
        self.assertEqual(run(path), (0, "True\n__main__\n", ""))

    def test_ends(self):
        self.assertEqual(run(self.write("import sys\nsys.exit(7)\n"))[0], 7)
        code, _, error = run(self.write("1 / 0\n"))
        self.assertEqual(code, 1)
        self.assertIn("ZeroDivisionError", error)

    def test_what_is_no_program(self):
        for arguments, text in (
                (("nosuch.py",), "can't open file 'nosuch.py': No such file or directory"), (("-m",), "argument expected"),
                (("-c",), "argument expected"), (("-X", "dev"), "unknown option -X"), (("-m", "nosuch"), "No module named nosuch")):
            code, output, error = run(*arguments, cwd=self.directory)
            self.assertNotEqual(code, 0)
            self.assertEqual((output, error.count("\n")), ("", 1), error)
            self.assertIn(text, error)

    def test_help(self):
        self.assertIn("python -m evl", run("--help")[2])
        self.assertRegex(run("--version")[1], r"^evl \S+, libevl \S+, Python ")


if __name__ == "__main__":
    unittest.main()
