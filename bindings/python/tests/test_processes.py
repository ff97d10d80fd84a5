"""Children: who they are, and what runs in them before their program."""

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
import textwrap
import unittest

import evl


def output(command, **options):
    """What a shell's command line writes."""
    async def main():
        child = await asyncio.create_subprocess_shell(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **options)
        return (await child.communicate())[0].decode()
    return evl.run(main())


class Children(unittest.TestCase):
    def test_umask(self):
        before = os.umask(0o22)
        try:
            self.assertEqual(output("umask", umask=0o27), "0027\n")
            self.assertEqual(output("umask", umask=0), "0000\n")
            self.assertEqual(output("umask"), "0022\n")
        finally:
            self.assertEqual(os.umask(before), 0o22)

    def test_preexec_fn(self):
        self.assertEqual(output("/bin/pwd -P", preexec_fn=lambda: os.chdir("/")), "/\n")
        self.assertEqual(
            output("trap - INT; kill -INT $$; echo ignored", preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN)),
            "ignored\n")

    def test_preexec_fn_with_descriptors(self):
        reader, writer = os.pipe()
        self.assertEqual(output("echo child", preexec_fn=lambda: os.write(writer, b"before")), "child\n")
        os.close(writer)
        self.assertEqual(os.read(reader, 100), b"before")
        os.close(reader)

    def test_preexec_fn_that_fails(self):
        with self.assertRaisesRegex(subprocess.SubprocessError, "Exception occurred in preexec_fn."):
            output("echo never", preexec_fn=lambda: 1 / 0)
        with self.assertRaises(TypeError):
            output("echo never", preexec_fn=1)
        with self.assertRaises(ChildProcessError):
            os.waitpid(-1, os.WNOHANG)

    def test_preexec_fn_of_a_program_that_is_not_there(self):
        async def main():
            await asyncio.create_subprocess_exec("no_such_program_anywhere", preexec_fn=lambda: None)
        with self.assertRaises(FileNotFoundError) as raised:
            evl.run(main())
        self.assertEqual(raised.exception.filename, "no_such_program_anywhere")

    def test_pipesize(self):
        async def main():
            child = await asyncio.create_subprocess_exec("cat", stdin=subprocess.PIPE, stdout=subprocess.PIPE, pipesize=1 << 17)
            try:
                import fcntl
                sizes = [fcntl.fcntl(child._transport.get_pipe_transport(fd)._fileno(), fcntl.F_GETPIPE_SZ) for fd in (0, 1)]
            finally:
                await child.communicate(b"")
            return sizes
        self.assertEqual(evl.run(main()), [1 << 17, 1 << 17])

    @unittest.skipIf(os.geteuid() != 0, "only root becomes somebody else")
    def test_users_and_groups(self):
        self.assertEqual(output("id -u; id -g; id -G", user="nobody", group=65533, extra_groups=["daemon", 7]),
                         "65534\n65533\n65533 1 7\n")
        self.assertEqual(output("id -G", extra_groups=[]), f"{os.getegid()}\n")
        with tempfile.TemporaryDirectory() as directory:
            os.chmod(directory, 0o700)
            self.assertIn("denied", output(f"ls {directory}", user=65534, group=65534, extra_groups=[]))

    @unittest.skipIf(os.geteuid() == 0, "root becomes whoever it likes")
    def test_users_without_permission(self):
        with self.assertRaises(PermissionError):
            output("id", user=0)

    def test_numbers_that_are_too_large(self):
        for options in ({"user": 2**32}, {"group": 2**32}, {"extra_groups": [2**32]}, {"user": 2**32 - 1}, {"user": 2**64}):
            with self.subTest(**options), self.assertRaises(OverflowError):
                output("id", **options)
        for number in (-1, 2**32 + 1):
            with self.assertRaises(ValueError):
                output("id", pass_fds=[number])

    def test_passed_descriptors_that_are_not_open(self):
        # In a process where nothing else opens any.
        ran = subprocess.run([sys.executable, "-c", textwrap.dedent("""
            import asyncio, errno, evl, os
            async def run(*args, **options):
                child = await asyncio.create_subprocess_exec(*args, **options)
                return await child.wait()
            async def main():
                await run("true")
                first = os.dup(0)
                os.close(first)
                # Among them are those of the pipes that are made for the child.
                for number in range(first, first + 4):
                    if os.path.exists(f"/proc/self/fd/{number}"):
                        continue
                    for options in ({}, {"preexec_fn": int}):
                        try:
                            await run("sleep", "1", stdin=asyncio.subprocess.PIPE, pass_fds=[number], **options)
                        except OSError as error:
                            assert error.errno == errno.EBADF, error
                        else:
                            raise AssertionError(f"{number} was passed on")
            evl.run(main())
        """)], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
        self.assertEqual(ran.returncode, 0, ran.stderr)

    def test_what_is_not_there_is_named(self):
        async def start(program, directory):
            await asyncio.create_subprocess_exec(program, cwd=directory)
        for program, directory, missing in (("/nowhere/program", "/", 0), ("/bin/true", "/nowhere", 1)):
            with self.assertRaises(FileNotFoundError) as raised:
                evl.run(start(program, directory))
            self.assertEqual(raised.exception.filename, (program, directory)[missing])

    def test_names_that_are_no_text(self):
        with tempfile.TemporaryDirectory() as directory:
            odd = os.path.join(os.fsencode(directory), b"\xff")
            os.mkdir(odd)
            os.symlink("/bin/pwd", os.path.join(odd, b"\xfe"))
            for cwd in (odd, os.fsdecode(odd)):
                async def main():
                    child = await asyncio.create_subprocess_exec(
                        "pwd", "-P", cwd=cwd, executable=os.path.join(cwd, os.fsencode("./") + b"\xfe" if cwd is odd else "./\udcfe"),
                        stdout=subprocess.PIPE)
                    return (await child.communicate())[0]
                self.assertEqual(evl.run(main()), os.path.realpath(odd) + b"\n")

    def test_environments(self):
        self.assertEqual(output("echo $NAME", env={"NAME": "va=lue"}), "va=lue\n")
        with self.assertRaisesRegex(ValueError, "illegal environment variable name"):
            output("true", env={"a=b": "c"})
        with self.assertRaises(ValueError):
            output("true", env={"a": "b\0c"})
        with self.assertRaisesRegex(ValueError, "embedded null byte"):
            output("true", cwd="a\0b")

    def test_what_is_no_user(self):
        for options in (dict(user=-1), dict(group=-2), dict(extra_groups=[-3]), dict(startupinfo=object()), dict(creationflags=1)):
            with self.assertRaises(ValueError, msg=options):
                output("id", **options)
        for options in (dict(user=1.5), dict(group=b"x"), dict(extra_groups="daemon")):
            with self.assertRaises(TypeError, msg=options):
                output("id", **options)
        with self.assertRaises(KeyError):
            output("id", user="no such user at all")


if __name__ == "__main__":
    unittest.main()
