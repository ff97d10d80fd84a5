"""Builds the extension against libevl: what EVL_PREFIX names, or pkg-config knows, or was built in the tree around this folder."""

import os
import pathlib
import subprocess

from setuptools import Extension, setup

here = pathlib.Path(__file__).resolve().parent


def from_prefix():
    prefix = os.environ.get("EVL_PREFIX")
    return prefix and (pathlib.Path(prefix, "include"), pathlib.Path(prefix, "lib"))


def from_pkg_config():
    try:
        return [
            pathlib.Path(subprocess.run(
                ["pkg-config", f"--variable={name}", "evl"], capture_output=True, text=True, check=True).stdout.strip())
            for name in ("includedir", "libdir")
        ]
    except (OSError, subprocess.CalledProcessError):
        return None


def from_tree():
    root = here.parent.parent
    for libraries in (root / "build/prefix/lib", pathlib.Path(os.environ.get("CARGO_TARGET_DIR", root / "target"), "release")):
        if any(libraries.glob("libevl.*")):
            return root / "include", libraries
    raise SystemExit("no libevl: install it, build it (script/test package), or say where it is by EVL_PREFIX")


include_dir, library_dir = from_prefix() or from_pkg_config() or from_tree()
if not (include_dir / "evl.h").exists():
    raise SystemExit(f"no evl.h in {include_dir}: EVL_PREFIX or pkg-config leads to no libevl")
archive = library_dir / "libevl.a"
if archive.exists() and not os.environ.get("EVL_SHARED"):
    # Nothing else is needed where the wheel is installed.
    link = {"extra_objects": [str(archive)], "libraries": ["pthread", "dl", "m"], "extra_link_args": ["-Wl,--exclude-libs,ALL"]}
else:
    link = {"libraries": ["evl"], "library_dirs": [str(library_dir)], "runtime_library_dirs": [str(library_dir)]}

folder = here / "src/evl/_evl"
setup(ext_modules=[
    Extension(
        "evl._evl", sorted(str(path.relative_to(here)) for path in folder.glob("*.c")),
        depends=[*(str(path.relative_to(here)) for path in folder.glob("*.h")), str(archive), str(include_dir / "evl.h")],
        include_dirs=[str(include_dir)],
        extra_compile_args=[
            "-std=gnu11", "-O2", "-fexceptions", "-fvisibility=hidden", "-Wall", "-Wextra", "-Wno-cast-function-type"], **link),
])
