"""Measures evl beside its peers. script/bench prepares what this needs, and runs it."""

import argparse
import datetime
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import chart
import report
from build import Programs
from measure import Measurer, Row, list_cases
from workloads import LIBRARIES, WORKLOADS

ROOT = Path(__file__).resolve().parent.parent.parent


def arguments():
    names = [workload.name for workload in WORKLOADS]
    parser = argparse.ArgumentParser(
        prog="script/bench", description="Measures evl beside libuv, libev, libevent, sd-event and the bare mechanism.",
        epilog="workloads: " + " ".join(names),
    )
    parser.add_argument("--quick", action="store_true", help="three shorter rounds, not five; without what is slow")
    parser.add_argument(
        "--only", metavar="WORKLOAD", action="append", choices=names, help="measure this one; may be given again"
    )
    parser.add_argument(
        "--json", metavar="FILE", type=Path, default=ROOT / "build/bench.json",
        help="where rows are written (default: build/bench.json)",
    )
    parser.add_argument(
        "--svg", metavar="FILE", type=Path,
        help="where the chart is drawn (default: docs/bench.svg, with --only build/bench.svg)",
    )
    parser.add_argument("--evl-library", type=Path, required=True, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.svg is None:
        given.svg = ROOT / ("build/bench.svg" if given.only else "docs/bench.svg")
    return given


def machine():
    model = "unknown processor"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    system = os.uname()
    cores = len(os.sched_getaffinity(0))
    return f"{model}, {cores} core{'s' * (cores != 1)}, {system.sysname} {system.release} {system.machine}"


def first_line(*command):
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[0]


class Progress:
    """Where it is, on stderr: a line that is written over on a terminal, a line a workload elsewhere."""

    def __init__(self, rounds):
        self.rounds, self.terminal, self.begin = rounds, sys.stderr.isatty(), time.monotonic()
        self.group, self.told = "", ""

    def __call__(self, number, case):
        where = f"{self.group}, round {number + 1} of {self.rounds}"
        elapsed = f"{time.monotonic() - self.begin:4.0f} s"
        if self.terminal:
            line = f"{elapsed}  {where}: {case.library}, {case.variant}"
            print(f"\r{line[:110]:110}", end="", file=sys.stderr, flush=True)
        elif self.told != where:
            print(f"{elapsed}  {where}", file=sys.stderr, flush=True)
            self.told = where

    def clear(self):
        if self.terminal:
            print(f"\r{'':110}\r", end="", file=sys.stderr, flush=True)


def library_sizes(programs):
    with tempfile.TemporaryDirectory() as directory:
        for library in LIBRARIES[:-1]:
            found = programs.shared_library("loop", library)
            if found is not None:
                copy = Path(directory) / "stripped"
                shutil.copy(found, copy)
                subprocess.run(["strip", "--strip-unneeded", copy], check=True)
                yield Row("so_kib", found.name, library, "KiB", [copy.stat().st_size / 1024])


def measure_all(given, wanted, programs):
    """Measures and shows one group of workloads after the other. Returns all rows and all failures."""
    rounds = 3 if given.quick else 5
    measurer = Measurer(rounds, 100 if given.quick else 200, given.quick)
    progress = Progress(rounds)
    rows, failures = [], []
    cases = [
        case
        for program in dict.fromkeys(workload.program for workload in wanted)
        for library in LIBRARIES
        for case in list_cases(programs.path(program, library), library)
    ]
    names = [workload.name for workload in wanted]
    left = list(wanted)
    while left:
        # All cases of a workload, and of what these measure in the same run.
        group, size = {left[0].name}, 0
        while size != len(group):
            size = len(group)
            group.update(name for case in cases if group & set(case.workloads) for name in case.workloads)
        progress.group = " and ".join(workload.name for workload in left if workload.name in group)
        found, failed = measurer.measure([case for case in cases if group & set(case.workloads)], progress)
        progress.clear()
        if "so_kib" in group:
            found = list(library_sizes(programs))
        rows += [row for row in found if row.workload in names]
        failures += failed
        for workload in left:
            if workload.name in group:
                report.show_workload(report.Results(rows), workload)
        for case, message in failed:
            print(f"  FAILED: {case.library}, {case.variant}: {message}")
        sys.stdout.flush()
        left = [workload for workload in left if workload.name not in group]
    return rows, failures


def main():
    given = arguments()
    wanted = [workload for workload in WORKLOADS if given.only is None or workload.name in given.only]
    programs = Programs(ROOT / "build/bench", ROOT / "include", given.evl_library)
    print("compiling the programs", file=sys.stderr)
    programs.build(dict.fromkeys(workload.program for workload in wanted))
    versions = programs.versions(wanted[0].program)
    told = ", ".join(f"{library} {version}" for library, version in versions.items())
    compilers = f"{first_line(os.environ.get('CC', 'cc'), '--version')}; {first_line('rustc', '--version')}"
    print(f"{machine()}\n{told}\n{compilers}", flush=True)

    rows, failures = measure_all(given, wanted, programs)
    results = report.Results(rows)
    report.show_summary(results, wanted)
    given.json.parent.mkdir(parents=True, exist_ok=True)
    given.json.write_text("[\n" + ",\n".join(json.dumps(row.json()) for row in rows) + "\n]\n")
    command = " ".join(["script/bench", *["--quick"] * given.quick, *[f"--only {name}" for name in given.only or ()]])
    today = datetime.date.today().isoformat()
    lines = [f"{today}, {command}, medians of {3 if given.quick else 5} rounds; {machine()}", told]
    given.svg.parent.mkdir(parents=True, exist_ok=True)
    given.svg.write_text(chart.draw(results, wanted, "evl beside other event loops", lines))
    print(f"rows: {shown(given.json)}; chart: {shown(given.svg)}")
    for case, message in failures:
        print(f"FAILED: {case.asked}, {case.library}, {case.variant}: {message}")
    return 1 if failures else 0


def shown(path):
    path = path.resolve()
    return path.relative_to(ROOT) if path.is_relative_to(ROOT) else path


if __name__ == "__main__":
    sys.exit(main())
