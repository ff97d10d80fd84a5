"""Runs the programs: pinned, in rounds, the libraries one after the other within each round."""

import os
import statistics
import subprocess
from collections import defaultdict
from dataclasses import dataclass, field

from workloads import EVERY_CORE, LIBRARIES, ONCE, SLOW

TIME_LIMIT_S = 60
TIMES_ONCE = 15  # so many runs give one value of what happens once in a process


@dataclass(frozen=True)
class Case:
    path: str
    library: str
    asked: str  # what the program calls it: one workload, or two with a comma between them
    variant: str
    traits: int

    @property
    def workloads(self):
        return self.asked.split(",")


@dataclass
class Row:
    workload: str
    variant: str
    library: str
    unit: str
    values: list = field(default_factory=list)

    @property
    def median(self):
        return statistics.median(self.values)

    def json(self):
        return {
            "workload": self.workload,
            "variant": self.variant,
            "library": self.library,
            "unit": self.unit,
            "median": round(self.median, 4),
            "min": round(min(self.values), 4),
            "max": round(max(self.values), 4),
            "rounds": len(self.values),
        }


def list_cases(path, library):
    listed = subprocess.run([path, "--list"], capture_output=True, text=True, check=True)
    for line in listed.stdout.splitlines():
        asked, variant, traits = line.split("\t")
        yield Case(str(path), library, asked, variant, int(traits))


class Failure(Exception):
    pass


class Measurer:
    def __init__(self, rounds, milliseconds, quick):
        self.rounds, self.milliseconds, self.quick = rounds, milliseconds, quick
        self.cores = sorted(os.sched_getaffinity(0))
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith("EVL_")}

    def run_once(self, case):
        """What one run of the program prints: (workload, unit, value), each."""
        cores = self.cores if case.traits & EVERY_CORE else self.cores[-1:]
        command = [case.path, case.asked, case.variant, str(self.milliseconds)]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=TIME_LIMIT_S, env=self.environment,
                preexec_fn=lambda: os.sched_setaffinity(0, cores),
            )
        except subprocess.TimeoutExpired:
            raise Failure(f"did not end within {TIME_LIMIT_S} s") from None
        if done.returncode != 0:
            raise Failure(done.stderr.strip() or f"ended with status {done.returncode}")
        for line in done.stdout.splitlines():
            workload, _, _, unit, value = line.split("\t")
            yield workload, unit, float(value)

    def values(self, case):
        times = TIMES_ONCE if case.traits & ONCE else 1
        found = defaultdict(list)
        for _ in range(times):
            for workload, unit, value in self.run_once(case):
                found[workload, unit].append(value)
        return [(workload, unit, statistics.median(values)) for (workload, unit), values in found.items()]

    def measure(self, cases, progress):
        """Rows by (workload, library, variant), and what failed as (case, message)."""
        rows, failures = {}, {}
        cases = [case for case in cases if not (self.quick and case.traits & SLOW)]
        for number in range(self.rounds):
            turn = number % len(LIBRARIES)
            order = LIBRARIES[turn:] + LIBRARIES[:turn]
            for case in sorted(cases, key=lambda case: order.index(case.library)):
                if case in failures:
                    continue
                progress(number, case)
                try:
                    for workload, unit, value in self.values(case):
                        key = workload, case.library, case.variant
                        rows.setdefault(key, Row(workload, case.variant, case.library, unit)).values.append(value)
                except Failure as failure:
                    failures[case] = str(failure)
        bad = {(workload, case.library, case.variant) for case in failures for workload in case.workloads}
        listed = [(workload, case.library, case.variant) for case in cases for workload in case.workloads]
        return [rows[key] for key in listed if key in rows and key not in bad], list(failures.items())
