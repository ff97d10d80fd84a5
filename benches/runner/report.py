"""Tables of what was measured, and whether evl reached its limits."""

from workloads import LIBRARIES, PEERS, form_of


def number(value):
    return f"{value:.0f}" if value >= 1000 else f"{value:.1f}" if value >= 100 else f"{value:.2f}"


class Results:
    def __init__(self, rows):
        self.rows = rows

    def of(self, workload, library=None, form=None):
        return [
            row for row in self.rows
            if row.workload == workload and (library is None or row.library == library)
            and (form is None or form_of(row.variant) == form)
        ]

    def best(self, workload, library, form=""):
        """evl's plain variant, which comes first; of the others the fastest."""
        rows = self.of(workload, library, form)
        if library == "evl":
            return rows[0] if rows else None
        return min(rows, key=lambda row: row.median, default=None)

    def ratio(self, workload, library, form=""):
        evl, other = self.best(workload, "evl", form), self.best(workload, library, form)
        return evl.median / other.median if evl and other and other.median > 0 else None


def judge(results, workload, limit):
    """(whether evl reached the limit, or None when it cannot be told; and a line about it)."""
    evl = results.best(workload.name, "evl", limit.form)
    what = f"{limit.form}: " if limit.form else ""
    if evl is None:
        return None, f"{what}not measured"
    if limit.at_most:
        reached = evl.median <= limit.at_most
        line = f"{what}{number(evl.median)} of at most {number(limit.at_most)} {evl.unit}"
        return reached, line + overlap(reached, evl, limit.at_most)
    libraries = PEERS if limit.of == "peers" else (limit.of,)
    others = [row for row in (results.best(workload.name, library, limit.form) for library in libraries) if row]
    if not others:
        return None, f"{what}{limit.of} not measured"
    other = min(others, key=lambda row: row.median)
    ratio = evl.median / other.median
    reached = ratio < limit.times if limit.strict else ratio <= limit.times
    bound = "less than" if limit.strict else "at most"
    line = f"{what}{ratio:.2f} of {bound} {limit.times:.4g} times {other.library} ({number(other.median)} {other.unit})"
    return reached, line + overlap(reached, evl, limit.times * max(other.values))


def overlap(reached, evl, bound):
    return "" if reached or min(evl.values) > bound else ", but within the spread of the rounds"


def show_workload(results, workload):
    """Every variant of a workload. The last column: how many times as much as this one evl takes."""
    rows = results.of(workload.name)
    if not rows:
        return
    width = max(len(row.variant) for row in rows) + 2
    print(f"\n{workload.name}, {rows[0].unit}: {workload.what}")
    print(f"  {'':9}{'':{width}}{'median':>10}{'min':>10}{'max':>10}   evl takes")
    for row in sorted(rows, key=lambda row: LIBRARIES.index(row.library)):
        evl = results.best(workload.name, "evl", form_of(row.variant))
        ratio = f"{evl.median / row.median:8.2f} x" if evl and evl is not row and row.median > 0 else ""
        values = "".join(f"{number(value):>10}" for value in (row.median, min(row.values), max(row.values)))
        print(f"  {row.library:9}{row.variant:{width}}{values} {ratio}")
    for limit in workload.limits:
        reached, line = judge(results, workload, limit)
        print(f"  {verdict(reached)}: {line}")


def verdict(reached):
    return {True: "reached", False: "MISSED", None: "unknown"}[reached]


def show_summary(results, workloads):
    """A line a workload. Returns how many limits were reached, and how many there are."""
    print("\nevl beside the best variant of each other library: evl takes so many times as much")
    print(f"  {'':19}{'evl':>14}" + "".join(f"{library:>10}" for library in LIBRARIES[1:]) + "   limits")
    reached_count = count = 0
    for workload in workloads:
        evl = results.best(workload.name, "evl")
        if evl is None and not results.of(workload.name):
            continue
        shown = f"{number(evl.median)} {evl.unit:5}" if evl else "-"
        ratios = [results.ratio(workload.name, library) for library in LIBRARIES[1:]]
        cells = "".join(f"{ratio:>10.2f}" if ratio is not None else f"{'-':>10}" for ratio in ratios)
        judged = [judge(results, workload, limit) for limit in workload.limits]
        reached_count += sum(reached is True for reached, _ in judged)
        count += len(judged)
        said = "; ".join(f"{verdict(reached)} {line}" if reached is not True else "reached" for reached, line in judged)
        print(f"  {workload.name:19}{shown:>14}{cells}   {said}")
    print(f"\n{reached_count} of {count} limits reached")
    return reached_count, count
