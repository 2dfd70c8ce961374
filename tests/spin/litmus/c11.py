# SPDX-License-Identifier: BSD-2-Clause
"""All executions of a litmus test in C, after RC11 (Lahav, Vafeiadis, Kang, Hur, Dreyer 2017) with C++20's release sequences.

The dialect is herd7's, as far as our files need it: threads P0, P1... of atomic_*_explicit() calls (without the suffix: seq_cst), fences, plain
accesses *x, registers, if and else.  No loops: who would wait looks once, and the rest of the thread depends on what it saw.  Three additions:
  - atomic_compare_exchange_strong_explicit(x, &r, ...) has its expected value in a register;
  - atomic_signal_fence(memory_order_seq_cst) and membarrier() are the light and the heavy half of an asymmetric fence: each orders like a
    sequentially consistent one, but of two of these fences one must be heavy (Linux' membarrier(2) gives that: all others pass a full barrier
    between its beginning and its end, so before or after each light one; and a little more, of which we make no use).

An execution is built event by event, each after its predecessors in program order and what it reads from: RC11 forbids cycles of the two, so this
reaches all.  What is no read is added at once: nothing it could do later is lost, since later stores may be placed before it in modification order.  A
read takes any store that is there and that coherence allows, or waits for a newer one; each execution comes about in one way only.  New events are last
in happens-before, so that and coherence need no closures: who happens before an event is known when it is added.  What is left for the end are the
axiom about sequentially consistent events, and races of plain accesses.
"""

import re

ORDERS = {f"memory_order_{name}": name for name in ("relaxed", "acquire", "release", "acq_rel", "seq_cst")}
ACQUIRES = {"acquire", "acq_rel", "seq_cst", "heavy"}
RELEASES = {"release", "acq_rel", "seq_cst", "heavy"}
STRONG = {"seq_cst", "heavy"}
PLAIN = "plain"
FETCHES = {"add": lambda old, v: old + v, "sub": lambda old, v: old - v, "or": lambda old, v: old | v, "and": lambda old, v: old & v}


class Bad(Exception):
    """The text is no litmus test that we understand."""


# ---- text ------------------------------------------------------------------------------------------------------------

TOKEN = re.compile(r"\s*(?:(\d+)|([A-Za-z_]\w*)|(==|!=|<=|>=|&&|\|\||[-+*&|~!<>=(){},;]))")
LEVELS = [["||"], ["&&"], ["|"], ["&"], ["==", "!="], ["<", ">", "<=", ">="], ["+", "-"], ["*"]]
BINARY = {
    "|": lambda a, b: a | b, "&": lambda a, b: a & b, "==": lambda a, b: int(a == b), "!=": lambda a, b: int(a != b),
    "<": lambda a, b: int(a < b), ">": lambda a, b: int(a > b), "<=": lambda a, b: int(a <= b), ">=": lambda a, b: int(a >= b),
    "+": lambda a, b: a + b, "-": lambda a, b: a - b, "*": lambda a, b: a * b,
}
UNARY = {"!": lambda a: int(not a), "~": lambda a: ~a, "-": lambda a: -a}


class Parser:
    """A thread's body as nested tuples."""

    def __init__(self, text, atomics, plains):
        self.tokens, at, text = [], 0, text.rstrip()
        while at < len(text):
            match = TOKEN.match(text, at)
            if not match:
                raise Bad(f"what is this: {text[at:at + 30].strip()!r}")
            self.tokens.append(match[1] or match[2] or match[3])
            at = match.end()
        self.at = 0
        self.atomics = atomics
        self.plains = plains
        self.registers = set()

    def peek(self, ahead=0):
        return self.tokens[self.at + ahead] if self.at + ahead < len(self.tokens) else ""

    def take(self, wanted=None):
        token = self.peek()
        if wanted is not None and token != wanted:
            raise Bad(f"{wanted!r} is missing before {' '.join(self.tokens[self.at:self.at + 5])!r}")
        self.at += 1
        return token

    def body(self):
        statements = []
        while self.peek() not in ("}", ""):
            statements.append(self.statement())
        return ("block", statements)

    def statement(self):
        if self.peek() == "{":
            self.take()
            block = self.body()
            self.take("}")
            return block
        if self.peek() == ";":
            self.take()
            return ("block", [])
        if self.peek() == "if":
            self.take()
            self.take("(")
            condition = self.expression()
            self.take(")")
            then, otherwise = self.statement(), ("block", [])
            if self.peek() == "else":
                self.take()
                otherwise = self.statement()
            return ("if", condition, then, otherwise)
        if self.peek() == "int":
            self.take()
            self.registers.add(self.peek())
        if self.peek() == "*":
            self.take()
            place = self.plain()
            self.take("=")
            result = ("store", place, self.expression(), PLAIN)
        elif self.peek(1) == "=":
            name = self.take()
            if name not in self.registers:
                raise Bad(f"{name} is no register")
            self.take("=")
            result = ("set", name, self.expression())
        elif self.peek(1) == ";":
            result = ("set", self.take(), ("number", 0))
        else:
            result = ("do", self.expression())
        self.take(";")
        return result

    def expression(self, level=0):
        if level == len(LEVELS):
            return self.unary()
        left = self.expression(level + 1)
        while self.peek() in LEVELS[level]:
            operator = self.take()
            left = ("binary", operator, left, self.expression(level + 1))
        return left

    def unary(self):
        token = self.take()
        if token in UNARY:
            return ("unary", token, self.unary())
        if token == "*":
            return ("load", self.plain(), PLAIN)
        if token == "(":
            inside = self.expression()
            self.take(")")
            return inside
        if token.isdigit():
            return ("number", int(token))
        if self.peek() == "(":
            self.take()
            return self.call(token)
        if token in self.registers:
            return ("register", token)
        raise Bad(f"{token!r} is no register of this thread")

    def plain(self):
        name = self.take()
        if name not in self.plains:
            raise Bad(f"*{name}: not a plain variable of this thread")
        return name

    def place(self):
        name = self.take()
        if name not in self.atomics:
            raise Bad(f"{name}: not an atomic of this thread")
        return name

    def order(self, explicit):
        if not explicit:
            return "seq_cst"
        if self.tokens[self.at - 1] != "(":
            self.take(",")
        name = self.take()
        if name not in ORDERS:
            raise Bad(f"{name} is no memory order")
        return ORDERS[name]

    def call(self, name):
        explicit = name.endswith("_explicit")
        base = name.removesuffix("_explicit").removeprefix("atomic_")
        if name == "membarrier":
            result = ("fence", "heavy")
        elif base == "thread_fence":
            result = ("fence", self.order(True))
        elif base == "signal_fence":
            if self.order(True) != "seq_cst":
                raise Bad("a light fence is seq_cst here")
            result = ("fence", "light")
        elif base == "load":
            result = ("load", self.place(), self.order(explicit))
        elif base in ("store", "exchange") or base.removeprefix("fetch_") in FETCHES:
            place = self.place()
            self.take(",")
            value = self.expression()
            result = (base, place, value, self.order(explicit))
        elif base == "compare_exchange_strong":
            place = self.place()
            self.take(",")
            self.take("&")
            expected = self.take()
            if expected not in self.registers:
                raise Bad(f"{expected} is no register")
            self.take(",")
            value = self.expression()
            good, bad = self.order(explicit), self.order(explicit)
            result = ("cas", place, expected, value, good, bad)
        else:
            raise Bad(f"there is no {name}()")
        self.take(")")
        return result


class Thread:
    """Runs its body; what it asks of memory are (kind, place, order, value or function)."""

    def __init__(self, parameters, body):
        atomics = set(re.findall(r"atomic_int\s*\*\s*(\w+)", parameters))
        plains = set(re.findall(r"(?<!\w)int\s*\*\s*(\w+)", parameters))
        parser = Parser(body, atomics, plains)
        self.tree = parser.body()
        if parser.peek():
            raise Bad(f"what is {parser.peek()!r}?")
        self.registers = parser.registers
        self.places = atomics | plains
        self.known = {}

    def run(self, registers):
        yield from self.execute(self.tree, registers)

    def execute(self, s, registers):
        if s[0] == "block":
            for inner in s[1]:
                yield from self.execute(inner, registers)
        elif s[0] == "if":
            yield from self.execute(s[2] if (yield from self.value(s[1], registers)) else s[3], registers)
        elif s[0] == "set":
            registers[s[1]] = yield from self.value(s[2], registers)
        else:
            yield from self.value(s[1] if s[0] == "do" else s, registers)

    def value(self, e, registers):
        kind = e[0]
        if kind == "number":
            return e[1]
        if kind == "register":
            return registers.get(e[1], 0)
        if kind == "unary":
            return UNARY[e[1]]((yield from self.value(e[2], registers)))
        if kind == "binary":
            left = yield from self.value(e[2], registers)
            if e[1] in ("&&", "||"):
                if bool(left) == (e[1] == "||"):
                    return int(bool(left))
                return int(bool((yield from self.value(e[3], registers))))
            return BINARY[e[1]](left, (yield from self.value(e[3], registers)))
        if kind == "fence":
            yield ("fence", None, e[1], None)
            return 0
        if kind == "load":
            return (yield ("load", e[1], e[2], None))
        if kind == "cas":
            new = yield from self.value(e[3], registers)
            expected = registers.get(e[2], 0)
            old = yield ("rmw", e[1], (e[4], e[5]), lambda old: new if old == expected else None)
            registers[e[2]] = old
            return int(old == expected)
        operand = yield from self.value(e[2], registers)
        if kind == "store":
            yield ("store", e[1], e[3], operand)
            return 0
        change = FETCHES[kind.removeprefix("fetch_")] if kind != "exchange" else lambda old, v: v
        return (yield ("rmw", e[1], (e[3], e[3]), lambda old: change(old, operand)))

    def after(self, done):
        """What it asks next, when it was answered `done` so far: a question; or its registers, when it has ended."""
        if done not in self.known:
            registers = {name: 0 for name in self.registers}
            run = self.run(registers)
            try:
                question = next(run)
                for answer in done:
                    question = run.send(answer)
                self.known[done] = (question, None)
            except StopIteration:
                self.known[done] = (None, registers)
        return self.known[done]


class Program:
    """A litmus test in C: initial values and threads."""

    def __init__(self, init, threads):
        self.threads = [Thread(parameters, body) for parameters, body in threads]
        self.init = {place: 0 for thread in self.threads for place in sorted(thread.places)}
        self.init.update(init)

    def names(self):
        return {f"{t}:{name}" for t, thread in enumerate(self.threads) for name in thread.registers} | set(self.init)


# ---- executions ------------------------------------------------------------------------------------------------------


class Event:
    __slots__ = ("thread", "kind", "place", "order", "value", "rmw")

    def __init__(self, thread, kind, place, order, value, rmw=False):
        self.thread, self.kind, self.place, self.order, self.value, self.rmw = thread, kind, place, order, value, rmw


def bits(mask):
    while mask:
        low = mask & -mask
        yield low.bit_length() - 1
        mask ^= low


class Execution:
    """Events so far.  Masks are sets of events, by their numbers."""

    def __init__(self, program):
        self.program = program
        self.events = []
        self.before = []  # of each event: what happens before it
        self.source = []  # of each read: the store it reads
        self.syncs = []  # of each store: the events that an acquiring reader of it synchronizes with
        self.stores = {}  # of each place: its stores in modification order
        for place, value in program.init.items():
            self.stores[place] = (len(self.events),)
            self.events.append(Event(-1, "store", place, PLAIN, value))
            self.before.append(0)
            self.source.append(None)
            self.syncs.append(0)
        count = len(program.threads)
        self.done = [()] * count  # the answers that each thread got
        self.past = [(1 << len(self.events)) - 1] * count  # its events, and what happens before them
        self.fence = [0] * count  # its last releasing fence
        self.heard = [0] * count  # what an acquiring fence of it would synchronize with
        self.old = [0] * count  # stores that its next read does not read: that is another execution

    def copy(self):
        new = object.__new__(Execution)
        new.program = self.program
        for name in ("events", "before", "source", "syncs", "done", "past", "fence", "heard", "old"):
            setattr(new, name, getattr(self, name)[:])
        new.stores = dict(self.stores)
        return new

    def _add(self, event, source=None, syncs=0):
        number = len(self.events)
        self.events.append(event)
        self.before.append(self.past[event.thread])
        self.source.append(source)
        self.syncs.append(syncs)
        self.past[event.thread] |= 1 << number
        return number

    def _hear(self, thread, from_events):
        for event in bits(from_events):
            self.past[thread] |= self.before[event] | 1 << event

    def _answer(self, thread, value):
        self.done[thread] += (value,)

    def _earliest(self, thread, place):
        """Where in modification order the newest store stands that the thread must know of."""
        past, newest = self.past[thread], 0
        order = self.stores[place]
        for number in bits(past):
            event = self.events[number]
            if event.place == place:
                store = number if event.kind == "store" else self.source[number]
                newest = max(newest, order.index(store))
        return newest

    def add_fence(self, thread, order):
        if order in ACQUIRES:
            self._hear(thread, self.heard[thread])
        number = self._add(Event(thread, "fence", None, order, None))
        if order in RELEASES:
            self.fence[thread] = 1 << number
        self._answer(thread, None)

    def with_store(self, thread, place, order, value):
        """The executions that come of a store, one for each place that it may have in modification order."""
        for at in range(self._earliest(thread, place) + 1, len(self.stores[place]) + 1):
            if at == len(self.stores[place]) or not self.events[self.stores[place][at]].rmw:  # nothing between a read-modify-write and its source
                new = self.copy()
                new._store(thread, place, order, value, at, False, 0)
                new._answer(thread, None)
                yield new

    def _store(self, thread, place, order, value, at, rmw, syncs):
        number = self._add(Event(thread, "store", place, order, value, rmw))
        if order in RELEASES:
            syncs |= 1 << number
        if order != PLAIN:
            syncs |= self.fence[thread]
        self.syncs[number] = syncs
        row = self.stores[place]
        self.stores[place] = row[:at] + (number,) + row[at:]

    def with_read(self, thread, place, orders, change):
        """The executions that come of a read, or read-modify-write, of one of the stores that are there."""
        row = self.stores[place]
        for at in range(self._earliest(thread, place), len(row)):
            source = row[at]
            if self.old[thread] >> source & 1:
                continue
            old = self.events[source].value
            result = change(old) if change else None
            if result is not None and at + 1 < len(row) and self.events[row[at + 1]].rmw:
                continue  # another one has read it
            order = orders if change is None else orders[0] if result is not None else orders[1]
            new = self.copy()
            new.old[thread] = 0
            new.heard[thread] |= self.syncs[source] if order != PLAIN else 0
            if order in ACQUIRES:
                new._hear(thread, self.syncs[source])
            new._add(Event(thread, "load", place, order, old), source)
            if result is not None:
                new._store(thread, place, order, result, at + 1, True, self.syncs[source])
            new._answer(thread, old)
            yield new

    def final(self):
        state = {place: self.events[row[-1]].value for place, row in self.stores.items()}
        for t, thread in enumerate(self.program.threads):
            state.update({f"{t}:{name}": value for name, value in thread.after(self.done[t])[1].items()})
        return state

    def races(self):
        """Pairs of conflicting events, one of them plain, neither before the other."""
        found = []
        for b, second in enumerate(self.events):
            for a, first in enumerate(self.events[:b]):
                if (first.place is not None and first.place == second.place and first.thread not in (-1, second.thread) and
                        "store" in (first.kind, second.kind) and PLAIN in (first.order, second.order) and not self.before[b] >> a & 1):
                    found.append((a, b))
        return found

    def strongly_consistent(self):
        """RC11's axiom SC: psc_base and psc_F together have no cycle."""
        events, count = self.events, len(self.events)
        strong = sum(1 << e for e in range(count) if events[e].order in STRONG)
        light = sum(1 << e for e in range(count) if events[e].order == "light")
        if (strong | light) & ((strong | light) - 1) == 0:
            return True
        fences = sum(1 << e for e in range(count) if events[e].kind == "fence")
        heavy = sum(1 << e for e in range(count) if events[e].order == "heavy")
        hb = [0] * count
        for e in range(count):
            for earlier in bits(self.before[e]):
                hb[earlier] |= 1 << e
        same = [sum(1 << b for b in range(count) if events[a].place is not None and events[a].place == events[b].place) for a in range(count)]
        sb = [sum(1 << b for b in range(a + 1, count) if events[a].thread in (-1, events[b].thread)) for a in range(count)]
        later, readers = [0] * count, [0] * count  # mo and rf
        for row in self.stores.values():
            for at, store in enumerate(row):
                later[store] = sum(1 << other for other in row[at + 1:])
        for e, source in enumerate(self.source):
            if source is not None:
                readers[source] |= 1 << e
        rb = [later[self.source[e]] if self.source[e] is not None else 0 for e in range(count)]

        def after(mask, relation):
            result = 0
            for e in bits(mask):
                result |= relation[e]
            return result

        def eco(mask):
            first = after(mask, later) | after(mask, rb)
            return first | after(mask, readers) | after(first, readers)

        elsewhere = [sb[e] & ~same[e] for e in range(count)]
        scb = [sb[e] | after(after(elsewhere[e], hb), elsewhere) | hb[e] & same[e] | later[e] | rb[e] for e in range(count)]
        edges = [0] * count
        for e in bits(strong):
            reached = after(1 << e | (hb[e] if fences >> e & 1 else 0), scb)
            edges[e] = (reached | after(reached, hb) & fences) & strong
        for e in bits(fences & (strong | light)):
            reached = (hb[e] | after(eco(hb[e]), hb)) & fences
            edges[e] |= reached & (strong if strong >> e & 1 else heavy)
            if heavy >> e & 1:
                edges[e] |= reached & light
        left = strong | light
        while left:
            free = [e for e in bits(left) if not edges[e] & left]
            if not free:
                return False
            for e in free:
                left &= ~(1 << e)
        return True

    def text(self):
        """The events in an order in which they may be read, one a line."""
        lines = []
        for number, e in enumerate(self.events):
            if e.thread >= 0:
                what = f"fence {e.order}" if e.kind == "fence" else f"{'rmw ' if e.rmw else ''}{e.kind} {e.place} {e.order}: {e.value}"
                source = self.source[number]
                if source is not None:
                    writer = self.events[source].thread
                    what += " (the initial value)" if writer < 0 else f" (stored by P{writer}, event {source})"
                lines.append(f"  {number:>3} P{e.thread} {what}")
        lines += [f"      {place}: " + ", ".join(str(self.events[s].value) for s in row) for place, row in sorted(self.stores.items()) if len(row) > 2]
        return "\n".join(lines)


def executions(program):
    """Every execution of `program` that RC11 allows, once."""
    todo = [Execution(program)]
    while todo:
        now = todo.pop()
        reads = []
        for t, thread in enumerate(program.threads):
            question, _ = thread.after(now.done[t])
            while question is not None and question[0] == "fence":
                now.add_fence(t, question[2])
                question, _ = thread.after(now.done[t])
            if question is not None:
                if question[0] == "store":
                    todo.extend(now.with_store(t, *question[1:]))
                    break
                reads.append((t, question))
        else:
            if not reads and now.strongly_consistent():
                yield now
            for t, (_, place, orders, change) in reads:
                todo.extend(now.with_read(t, place, orders, change))
                now.old[t] |= sum(1 << store for store in now.stores[place])
