"""Random programs for an event loop, as data: made from a seed, printed, and made smaller.

A program is a list of operations (`main`) that is carried out outside of the loop, and runs it, and a list of bodies,
which are the operations that callbacks carry out. An operation is a tuple: its name and its arguments. Operations speak
of handles, contexts and tokens by the number of the variable that holds them (a slot), and of time in ticks.

A body may schedule itself, so the interpreter gives a program fuel: a number of calls after which it only stops.
"""

import dataclasses
import random

# A tick is 1/512 s: a whole number of nanoseconds (1953125) and exact in binary floating point.
TICKS_PER_SECOND = 512
TICK_NS = 1953125

SLOTS = 5
CONTEXTS = 3
TOKENS = 2
VARIABLES = 2  # Variable 0 has no default, variable 1 has.

# Name of every operation: names of its arguments.
OPERATIONS = {
    # scheduling; slot None: no handle is asked for; context None: the current one is captured
    "soon": ("slot", "body", "context"),
    "threadsafe": ("slot", "body", "context"),
    "later": ("slot", "body", "context", "delay"),
    "at": ("slot", "body", "context", "when"),
    "burst": ("count", "spread", "keep_every"),
    # handles
    "cancel": ("slot",),
    "cancel_self": (),
    "cancelled": ("slot",),
    "timer_state": ("slot",),
    "forget": ("slot",),
    # the loop
    "stop": (),
    "stop_threadsafe": (),
    "advance": ("ticks",),
    "state": (),
    "run": (),
    "run_once": ("timeout",),
    "run_until_idle": (),
    "close_while_running": (),
    # failures
    "raise": ("number",),
    "exit": ("code",),
    "set_handler": ("handler",),  # a body, or None: the default handler
    "report": ("number",),
    "report_default": ("number",),
    # context variables
    "set": ("variable", "value", "token"),
    "get": ("variable",),
    "reset": ("variable", "token"),
    "copy_context": ("context",),
    "new_context": ("context",),
    "within": ("context", "body"),
    # descriptors; first: what the callback does before its body
    "reader": ("channel", "slot", "body", "first"),
    "writer": ("channel", "slot", "body", "first"),
    "remove_reader": ("channel",),
    "remove_writer": ("channel",),
    "pause_reader": ("channel",),
    "pause_writer": ("channel",),
    "resume_reader": ("channel",),
    "resume_writer": ("channel",),
    "write": ("channel",),
    "read": ("channel",),
    "drain": ("channel",),
    "fill": ("channel",),
    "close_read_end": ("channel",),
    "close_write_end": ("channel",),
    "renew": ("channel",),
}

# How often an operation is chosen, by family: each program stresses other families.
FAMILIES = {
    "soon": {"soon": 8, "threadsafe": 2},
    "timers": {"later": 8, "at": 3},
    "burst": {"burst": 1},
    "handles": {"cancel": 6, "cancel_self": 1, "cancelled": 3, "timer_state": 2, "forget": 1},
    "loop": {"stop": 2, "stop_threadsafe": 0.5, "advance": 1, "state": 1, "close_while_running": 0.1, "run": 0.5},
    "failures": {"raise": 2, "exit": 0.5, "set_handler": 1.5, "report": 0.7, "report_default": 0.4},
    "contexts": {"set": 3, "get": 4, "reset": 2, "copy_context": 1, "new_context": 0.5, "within": 2},
    "watching": {
        "reader": 4, "writer": 2, "remove_reader": 1, "remove_writer": 1,
        "pause_reader": 0.5, "pause_writer": 0.5, "resume_reader": 0.5, "resume_writer": 0.5,
        "write": 5, "read": 2, "drain": 0.5, "fill": 0.5,
        "close_read_end": 0.2, "close_write_end": 0.4, "renew": 0.3,
    },
}  # fmt: skip
NOT_IN_MAIN = {"raise", "exit", "cancel_self", "close_while_running", "run"}

DELAYS = (-5, -2, -1, 0, 0, 0, 1, 1, 1, 2, 2, 3, 4, 5, 8, 13, 100, 512 * 60)


@dataclasses.dataclass(frozen=True)
class Program:
    """What both event loops carry out."""

    seed: int
    start: int  # the clock's first tick
    debug: bool
    fuel: int
    channels: tuple  # "pipe" or "socket" each
    main: tuple
    bodies: tuple  # of tuples of operations


def generate(seed):
    """The program of a seed."""
    return _Generator(seed).program()


class _Generator:
    def __init__(self, seed):
        self.seed = seed
        self.random = random.Random(seed)
        self.channels = tuple(self.random.choice(("pipe", "pipe", "socket")) for _ in range(self.random.randint(1, 3)))
        self.body_count = self.random.randint(3, 14)
        weights = {}
        for family, operations in FAMILIES.items():
            factor = self.random.choice((0, 0.2, 0.5, 1, 1, 3))
            if family == "burst":
                factor = self.random.choice((0, 0, 0, 0.5))
            elif family in ("soon", "timers"):
                factor += 0.2
            weights.update({name: weight * factor for name, weight in operations.items()})
        self.body_names, self.body_weights = zip(*weights.items())
        in_main = {name: weight for name, weight in weights.items() if name not in NOT_IN_MAIN}
        self.main_names, self.main_weights = zip(*in_main.items())
        self.with_contexts = weights["within"] > 0

    def program(self):
        start = self.random.choice((0, 1, 1000, 512 * 86400 * 400))
        self.start = start
        bodies = [self.body(index) for index in range(self.body_count)]
        bodies.append((("run",),))  # main runs it within a context
        return Program(
            seed=self.seed,
            start=start,
            debug=self.random.random() < 0.05,
            fuel=self.random.choice((30, 60, 90)),
            channels=self.channels,
            main=tuple(self.main()),
            bodies=tuple(bodies),
        )

    def main(self):
        if self.with_contexts and self.random.random() < 0.5:
            yield ("copy_context", 0)
            yield ("set", 1, 77, None)
            yield ("copy_context", 1)
        for _ in range(self.random.randint(1, 3)):
            for _ in range(self.random.randint(0, 6)):
                yield self.operation(self.random.choice(("soon", "later", "later", "at", "threadsafe")), -1)
            for _ in range(self.random.randint(1, 8)):
                yield self.operation(self.random.choices(self.main_names, self.main_weights)[0], -1)
            kind = self.random.choice(("run", "run", "run", "run_once", "run_until_idle"))
            yield self.operation(kind, -1)
        if self.with_contexts:
            yield ("within", self._context(-1) or 0, self.body_count)
        yield ("run",)

    def body(self, index):
        length = self.random.choice((0, 1, 1, 2, 2, 3, 4, 6))
        names = self.random.choices(self.body_names, self.body_weights, k=length)
        return tuple(self.operation(name, index) for name in names)

    def operation(self, name, index):
        """An operation of the body with this index, or of main (-1), with random arguments."""
        return (name, *(getattr(self, "_" + argument)(index) for argument in OPERATIONS[name]))

    # One function an argument.

    def _slot(self, _):
        return self.random.choice((None, *range(SLOTS)))

    def _body(self, index):
        # Mostly a later body, so that most programs end before their fuel does.
        if index + 1 < self.body_count and self.random.random() < 0.93:
            return self.random.randrange(index + 1, self.body_count)
        return self.random.randrange(self.body_count)

    def _handler(self, index):
        return None if self.random.random() < 0.2 else self._body(index)

    def _context(self, _):
        return self.random.choice((None, None, None, *range(CONTEXTS)))

    def _delay(self, _):
        return self.random.choice(DELAYS)

    def _when(self, _):
        return self.start + self.random.choice((-3, 0, 1, 2, 3, 5, 8, 13, 21, 120))

    def _count(self, _):
        return self.random.choice((20, 150, 300, 1500, 3000))

    def _spread(self, _):
        return self.random.choice((1, 7, 40, 40, 300, 1000, 100_000, 512 * 3600 * 24 * 30))

    def _keep_every(self, _):
        return self.random.choice((1, 2, 3, 20))

    def _ticks(self, _):
        return self.random.choice((0, 1, 1, 2, 5))

    def _timeout(self, _):
        return self.random.choice((0, 0, 1, 3, 10, None))

    def _number(self, _):
        return self.random.randrange(1, 100)

    def _code(self, _):
        return self.random.randrange(0, 10)

    def _variable(self, _):
        return self.random.randrange(VARIABLES)

    def _value(self, _):
        return self.random.randrange(1, 1000)

    def _token(self, _):
        return self.random.choice((None, *range(TOKENS)))

    def _channel(self, _):
        return self.random.randrange(len(self.channels))

    def _first(self, _):
        return self.random.choice(("read", "drain", "remove", "remove", None))


def show(program):
    """The program as text, without bodies that nothing refers to."""
    lines = [
        f"program {program.seed}: clock starts at {program.start}, fuel {program.fuel}, "
        f"debug {'on' if program.debug else 'off'}, channels: {', '.join(program.channels)}",
        "main:",
        *("    " + _show_operation(operation) for operation in program.main),
    ]
    for index in sorted(_reachable(program)):
        lines.append(f"body {index}:" + ("" if program.bodies[index] else " nothing"))
        lines.extend("    " + _show_operation(operation) for operation in program.bodies[index])
    return "\n".join(lines)


def _show_operation(operation):
    name, *arguments = operation
    return name + "(" + ", ".join(f"{key}={value}" for key, value in zip(OPERATIONS[name], arguments)) + ")"


def _references(operations):
    for name, *arguments in operations:
        for key, value in zip(OPERATIONS[name], arguments):
            if key in ("body", "handler") and value is not None:
                yield value


def _reachable(program):
    found, waiting = set(), list(_references(program.main))
    while waiting:
        index = waiting.pop()
        if index not in found:
            found.add(index)
            waiting.extend(_references(program.bodies[index]))
    return found


def shrink(program, fails):
    """A smaller program for which fails(program) still holds: removes operations as long as that works."""
    changed = True
    while changed:
        changed = False
        for candidate in _smaller(program):
            if fails(candidate):
                program, changed = candidate, True
                break
    return program


def _smaller(program):
    """Candidates, the boldest first."""
    if program.debug:
        yield dataclasses.replace(program, debug=False)
    reachable = sorted(_reachable(program))
    for index in reachable:
        if program.bodies[index]:
            yield _with_body(program, index, ())
    for shorter in _shorter(program.main):
        yield dataclasses.replace(program, main=shorter)
    for index in reachable:
        for shorter in _shorter(program.bodies[index]):
            yield _with_body(program, index, shorter)
    for main in _simpler(program.main):
        yield dataclasses.replace(program, main=main)
    for index in reachable:
        for body in _simpler(program.bodies[index]):
            yield _with_body(program, index, body)
    if program.start:
        yield dataclasses.replace(program, start=0)
    for fuel in (program.fuel // 2, program.fuel - 1):
        if 0 < fuel < program.fuel:
            yield dataclasses.replace(program, fuel=fuel)


def _with_body(program, index, body):
    bodies = list(program.bodies)
    bodies[index] = body
    return dataclasses.replace(program, bodies=tuple(bodies))


def _shorter(operations):
    """The operations without a half, a quarter, ... and without one of them."""
    size = len(operations) // 2
    while size >= 1:
        for begin in range(0, len(operations), size):
            yield operations[:begin] + operations[begin + size :]
        size //= 2
    if len(operations) == 1:
        yield ()


# What an argument may be replaced by, to make a program easier to read.
_PLAIN = {
    "soon": {"slot": None, "context": None},
    "threadsafe": {"slot": None, "context": None},
    "later": {"slot": None, "context": None, "delay": 0},
    "at": {"slot": None, "context": None},
    "burst": {"count": 20, "spread": 7},
    "reader": {"slot": None, "first": None},
    "writer": {"slot": None, "first": None},
    "set": {"token": None},
}


def _simpler(operations):
    """The operations with one argument made simpler."""
    for position, (name, *arguments) in enumerate(operations):
        for key, plain in _PLAIN.get(name, {}).items():
            number = OPERATIONS[name].index(key)
            if arguments[number] != plain:
                simpler = [*arguments[:number], plain, *arguments[number + 1 :]]
                yield (*operations[:position], (name, *simpler), *operations[position + 1 :])
