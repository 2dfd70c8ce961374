# SPDX-License-Identifier: BSD-2-Clause
"""All final states of a litmus test in x86 assembly, after x86-TSO (Owens, Sarkar, Sewell 2009).

A store goes to the end of its CPU's buffer, and from the front of it to memory whenever that likes; a load takes the newest store of its own buffer,
else memory; mfence and locked instructions wait for an empty buffer.  An instruction that only Linux has: `membarrier` is membarrier(2), which makes
every other CPU pass a full barrier at some moment between its beginning and its end, each at its own.

The dialect is herd7's: columns of movl, mfence, xchgl, and `lock xaddl`, with $1, (x) and %eax.
"""

import re

OPERAND = re.compile(r"^(?:\$(-?\d+)|\((\w+)\)|%[er](\w+))$")


class Bad(Exception):
    """The text is no litmus test that we understand."""


def instruction(text):
    """(name, operands), an operand being ("number", 1), ("memory", "x") or ("register", "rax")."""
    words = text.replace(",", " ").split()
    if words[:1] == ["lock"]:
        words[:2] = [" ".join(words[:2])]
    operands = []
    for word in words[1:]:
        match = OPERAND.match(word)
        if not match:
            raise Bad(f"what is {word!r} in {text.strip()!r}?")
        operands.append(("number", int(match[1])) if match[1] else ("memory", match[2]) if match[2] else ("register", "r" + match[3]))
    shape = (words[0], *(kind for kind, _ in operands))
    known = {("mfence",), ("membarrier",), ("movl", "number", "memory"), ("movl", "register", "memory"), ("movl", "memory", "register"),
             ("movl", "number", "register"), ("xchgl", "register", "memory"), ("lock xaddl", "register", "memory")}
    if shape not in known:
        raise Bad(f"no such instruction here: {text.strip()}")
    return words[0], operands


class Program:
    """A litmus test in x86 assembly."""

    def __init__(self, init, columns):
        self.threads = [[instruction(text) for text in column if text.strip()] for column in columns]
        operands = [operand for thread in self.threads for _, operands in thread for operand in operands]
        self.init = {name: 0 for kind, name in operands if kind == "memory"}
        self.init.update(init)
        self.registers = {f"{t}:{name}" for t, thread in enumerate(self.threads) for _, operands in thread for kind, name in operands
                          if kind == "register"}

    def names(self):
        return self.registers | set(self.init)


def final_states(program):
    """Every state in which `program` may end, as dictionaries."""
    places, names = sorted(program.init), sorted(program.registers)
    count = len(program.threads)
    # Memory, registers, and of each CPU: the next instruction, the buffer, whom its membarrier has seen pass (None: it is in none)
    first = (tuple(program.init[p] for p in places), (0,) * len(names), (0,) * count, ((),) * count, (None,) * count)
    seen, todo = {first}, [first]

    def with_item(row, at, value):
        return row[:at] + (value,) + row[at + 1:]

    def successors(state):
        memory, registers, at, buffers, passed = state

        def read(t, operand):
            kind, name = operand
            if kind == "number":
                return name
            if kind == "register":
                return registers[names.index(f"{t}:{name}")]
            own = [value for place, value in buffers[t] if place == name]
            return own[-1] if own else memory[places.index(name)]

        for t in range(count):
            if buffers[t]:
                place, value = buffers[t][0]
                yield with_item(memory, places.index(place), value), registers, at, with_item(buffers, t, buffers[t][1:]), passed
            if at[t] == len(program.threads[t]):
                continue
            name, operands = program.threads[t][at[t]]
            on = with_item(at, t, at[t] + 1)
            if name == "movl":
                value = read(t, operands[0])
                kind, to = operands[1]
                if kind == "memory":
                    yield memory, registers, on, with_item(buffers, t, buffers[t] + ((to, value),)), passed
                else:
                    yield memory, with_item(registers, names.index(f"{t}:{to}"), value), on, buffers, passed
            elif buffers[t]:
                continue  # all others wait for that
            elif name == "mfence":
                yield memory, registers, on, buffers, passed
            elif name == "membarrier":
                if passed[t] is None:
                    yield memory, registers, at, buffers, with_item(passed, t, frozenset({t}))
                    continue
                for other in set(range(count)) - passed[t]:
                    if not buffers[other]:
                        yield memory, registers, at, buffers, with_item(passed, t, passed[t] | {other})
                if len(passed[t]) == count:
                    yield memory, registers, on, buffers, with_item(passed, t, None)
            else:  # locked: xchgl and xaddl
                place, register = places.index(operands[1][1]), names.index(f"{t}:{operands[0][1]}")
                new = registers[register] + (memory[place] if name == "lock xaddl" else 0)
                yield with_item(memory, place, new), with_item(registers, register, memory[place]), on, buffers, passed

    while todo:
        state = todo.pop()
        last = True
        for following in successors(state):
            last = False
            if following not in seen:
                seen.add(following)
                todo.append(following)
        if last:
            yield {**dict(zip(places, state[0])), **dict(zip(names, state[1]))}
