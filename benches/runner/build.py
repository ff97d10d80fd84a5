"""Compiles the programs, one for each source file and library, and finds out which versions they use."""

import os
import shlex
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from workloads import LIBRARIES

SOURCES = Path(__file__).resolve().parent.parent
CFLAGS = ["-std=c99", "-D_GNU_SOURCE", "-O2", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-pthread"]
PACKAGES = {"libuv": ("libuv",), "libevent": ("libevent", "libevent_pthreads"), "sd-event": ("libsystemd",)}


def pkg_config(*arguments):
    done = subprocess.run(["pkg-config", *arguments], capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"bench: pkg-config {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout.strip()


def package_flags(packages):
    """Flags to compile and link with what pkg-config finds. Its headers are the system's, so that they may warn."""
    compile_flags = [flag.replace("-I", "-isystem", 1) for flag in shlex.split(pkg_config("--cflags", *packages))]
    link_flags = shlex.split(pkg_config("--libs", *packages))
    for package in packages:
        link_flags.append(f"-Wl,-rpath,{pkg_config('--variable=libdir', package)}")
    return compile_flags, link_flags


class Programs:
    def __init__(self, directory, evl_include, evl_library):
        self.directory = Path(directory)
        self.flags = {"raw": ([], [])}
        self.flags["evl"] = (
            [f"-I{evl_include}"],
            [f"-L{evl_library}", "-levl", "-Wl,--disable-new-dtags", f"-Wl,-rpath,{evl_library}"],
        )
        for library, packages in PACKAGES.items():
            self.flags[library] = package_flags(packages)
        has_libev = subprocess.run(["pkg-config", "--exists", "libev"]).returncode == 0
        self.flags["libev"] = package_flags(("libev",)) if has_libev else ([], ["-lev", "-lm"])
        self.newest_input = max(
            path.stat().st_mtime for path in [*SOURCES.rglob("*.[ch]"), Path(evl_include) / "evl.h"]
        )

    def path(self, program, library):
        return self.directory / f"{program}-{library}"

    def build(self, programs):
        self.directory.mkdir(parents=True, exist_ok=True)
        with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
            jobs = [pool.submit(self.compile, program, library) for program in programs for library in LIBRARIES]
            for job in jobs:
                job.result()

    def compile(self, program, library):
        output = self.path(program, library)
        compile_flags, link_flags = self.flags[library]
        define = "-DBENCH_" + library.upper().replace("-", "_")
        command = [os.environ.get("CC", "cc"), *CFLAGS, define, *compile_flags, str(SOURCES / f"{program}.c")]
        command += ["-o", str(output), *link_flags]
        record = output.with_suffix(".command")
        text = shlex.join(command)
        if output.exists() and record.exists() and record.read_text() == text:
            if output.stat().st_mtime > self.newest_input:
                return
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            raise SystemExit(f"bench: {text}\n{done.stderr}")
        record.write_text(text)

    def versions(self, program):
        versions = {}
        for library in LIBRARIES[:-1]:
            command = [self.path(program, library), "--version"]
            told = subprocess.run(command, capture_output=True, text=True, check=True)
            versions[library] = told.stdout.strip() or pkg_config("--modversion", *PACKAGES[library])
        return versions

    def shared_library(self, program, library):
        """The file of the library that the program loads."""
        stem = {"evl": "libevl.", "sd-event": "libsystemd.", "libevent": "libevent"}.get(library, library + ".")
        listed = subprocess.run(["ldd", self.path(program, library)], capture_output=True, text=True, check=True)
        for line in listed.stdout.splitlines():
            name, arrow, where = line.strip().partition(" => ")
            if arrow and name.startswith(stem) and "pthreads" not in name:
                return Path(where.split(" (")[0])
        return None
