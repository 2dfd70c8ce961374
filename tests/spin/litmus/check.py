#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Enumerates what memory may do in the litmus tests of this directory: each must come out as it says, each of its mutants otherwise.

    check.py [--show] [--quiet] [TEST[:MUTANT]...]     default: all; --show prints the final states, and one execution that makes the condition
                                                       true; --quiet only what is wrong, and the figures

Tests are in herd7's format, dialect C (c11.py: the model RC11) or X86_64 (x86.py: total store order).  A test's comment says, a line each:

    @code FILE: TEXT          FILE of the tree has TEXT: what the test is about.  When the code changes, so must the test; names() in the comment, too,
                              are looked for in the library
    @expect RESULT            Never, Sometimes or Always: whether the condition after `exists` holds at the end of executions; Race: plain accesses
                              of two threads conflict, and nothing orders them
    @mutant NAME RESULT WHAT  the test with the changes that follow has this result, another one; WHAT says what the library would do
    @change P0: OLD => NEW    in thread P0, where OLD is found once

Ends with one line of figures; exit status 1 if anything was not as it must be, 2 if a test cannot be read.
"""

import argparse
import collections
import dataclasses
import pathlib
import re
import sys
import time

import c11
import x86

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[2]
RESULTS = ("Never", "Sometimes", "Always", "Race")
COMMENT = re.compile(r"\(\*.*?\*\)", re.DOTALL)
HEAD = re.compile(r"^\s*@(\w+)[ \t]*(.*?)[ \t]*(?=\*\)|$)", re.MULTILINE)
THREAD = re.compile(r"\bP(\d+)\s*\(([^)]*)\)\s*\{")
ATOM = re.compile(r"\s*(?:((?:\d+:)?[A-Za-z_]\w*)\s*=\s*(-?\d+)|(/\\|\\/|~|\(|\)))")
PLACE_CALL = re.compile(r"^\s*(\w+)\s*=\s*(-?\d+)\s*$")


class Failure(Exception):
    """A test cannot be read."""


@dataclasses.dataclass
class Mutant:
    name: str
    result: str
    what: str
    changes: list = dataclasses.field(default_factory=list)  # (thread, old, new)


@dataclasses.dataclass
class Answer:
    """What came out of an enumeration."""

    result: str
    executions: int
    states: collections.Counter
    witness: str = ""


class Condition:
    """What stands after `exists`."""

    def __init__(self, text):
        self.tokens, at, text = [], 0, text.strip()
        while at < len(text):
            match = ATOM.match(text, at)
            if not match:
                raise Failure(f"exists: what is {text[at:at + 20]!r}?")
            self.tokens.append((match[1], int(match[2])) if match[1] else match[3])
            at = match.end()
        self.at = 0
        self.tree = self._either()
        if self.at != len(self.tokens):
            raise Failure("exists: something is left over")

    def names(self):
        return {token[0] for token in self.tokens if isinstance(token, tuple)}

    def _level(self, operator, below):
        terms = [below()]
        while self.at < len(self.tokens) and self.tokens[self.at] == operator:
            self.at += 1
            terms.append(below())
        return terms

    def _either(self):
        terms = self._level("\\/", self._both)
        return lambda state: any(term(state) for term in terms)

    def _both(self):
        terms = self._level("/\\", self._single)
        return lambda state: all(term(state) for term in terms)

    def _single(self):
        if self.at == len(self.tokens):
            raise Failure("exists: something is missing")
        token = self.tokens[self.at]
        self.at += 1
        if token == "~":
            inside = self._single()
            return lambda state: not inside(state)
        if token == "(":
            inside = self._either()
            if self.tokens[self.at:self.at + 1] != [")"]:
                raise Failure("exists: a parenthesis is not closed")
            self.at += 1
            return inside
        if not isinstance(token, tuple):
            raise Failure(f"exists: {token} has no place there")
        name, value = token
        return lambda state: state[name] == value


class Test:
    """One file."""

    def __init__(self, text, name):
        self.name = name
        first, _, rest = text.partition("\n")
        self.dialect = first.split()[0] if first.split() else ""
        if self.dialect not in ("C", "X86_64"):
            raise Failure(f"{name}: the dialect {self.dialect!r} is not known")
        self.code, self.mutants, self.expected = [], [], None
        comments = "\n".join(COMMENT.findall(text))
        self.named = set(re.findall(r"\b(\w+)\(\)", "".join(line for line in comments.splitlines() if not line.lstrip().startswith("@"))))
        self._head(comments)
        rest = COMMENT.sub("", rest)
        opened, closed = rest.find("{"), rest.find("}")
        body, found, condition = rest[closed + 1:].rpartition("exists")
        if opened < 0 or closed < opened or not found:
            raise Failure(f"{name}: no initial state, or no condition")
        self.init = {}
        for item in rest[opened + 1:closed].split(";"):
            if item.strip():
                match = PLACE_CALL.match(item)
                if not match:
                    raise Failure(f"{name}: what is {item.strip()!r} in the initial state?")
                self.init[match[1]] = int(match[2])
        self.condition = Condition(condition)
        self.threads = self._threads_of_c(body) if self.dialect == "C" else self._threads_of_x86(body)

    def _head(self, comments):
        for kind, rest in HEAD.findall(comments):
            if kind == "code":
                file, _, code = rest.partition(": ")
                self.code.append((file, code))
            elif kind == "expect":
                self.expected = rest
            elif kind == "mutant":
                words = rest.split(None, 2)
                if len(words) < 3 or words[1] not in RESULTS or words[1] == self.expected:
                    raise Failure(f"{self.name}: @mutant needs a name, a result that differs from @expect, and what it means: {rest}")
                self.mutants.append(Mutant(*words))
            elif kind == "change" and self.mutants:
                match = re.match(r"P(\d+): (.*) =>(?: (.*))?$", rest)
                if not match:
                    raise Failure(f"{self.name}: @change needs P0: OLD => NEW: {rest}")
                self.mutants[-1].changes.append((int(match[1]), match[2], match[3] or ""))
            else:
                raise Failure(f"{self.name}: what is @{kind}?")
        if self.expected not in RESULTS:
            raise Failure(f"{self.name}: no @expect")
        for mutant in self.mutants:
            if not mutant.changes:
                raise Failure(f"{self.name}: mutant {mutant.name} changes nothing")

    @staticmethod
    def _threads_of_c(body):
        threads = []
        for match in THREAD.finditer(body):
            depth, at = 1, match.end()
            while depth and at < len(body):
                depth += {"{": 1, "}": -1}.get(body[at], 0)
                at += 1
            threads.append((match[2], body[match.end():at - 1]))
        return threads

    @staticmethod
    def _threads_of_x86(body):
        rows = [[cell.strip() for cell in row.split("|")] for row in body.split(";") if row.strip()]
        return [("", "\n".join(row[t] for row in rows[1:] if t < len(row))) for t in range(len(rows[0]))]

    def changed(self, mutant):
        """The threads with what `mutant` changes."""
        threads = list(self.threads)
        for thread, old, new in mutant.changes if mutant else ():
            if thread >= len(threads) or threads[thread][1].count(old) != 1:
                raise Failure(f"{self.name}: mutant {mutant.name}: P{thread} has not exactly one {old!r}")
            parameters, body = threads[thread]
            threads[thread] = (parameters, body.replace(old, new))
        return threads

    def enumerate(self, mutant=None):
        """All executions, of the test or of one of its mutants."""
        threads = self.changed(mutant)
        try:
            program = c11.Program(self.init, threads) if self.dialect == "C" else x86.Program(self.init, [body.split("\n") for _, body in threads])
        except (c11.Bad, x86.Bad) as error:
            raise Failure(f"{self.name}: {error}") from error
        unknown = self.condition.names() - program.names()
        if unknown:
            raise Failure(f"{self.name}: exists: there is no {', '.join(sorted(unknown))}")
        states, good, count, race, witness = collections.Counter(), 0, 0, "", ""
        if self.dialect == "C":
            endings = ((execution.final(), execution) for execution in c11.executions(program))
        else:
            endings = ((state, None) for state in x86.final_states(program))
        for state, execution in endings:
            count += 1
            states[" ".join(f"{name}={value}" for name, value in sorted(state.items()))] += 1
            holds = self.condition.tree(state)
            good += holds
            if execution is not None:
                if holds and not witness:
                    witness = execution.text()
                races = execution.races() if not race else []
                if races:
                    race = f"{execution.text()}\n      events {races[0][0]} and {races[0][1]} race"
        if race:
            return Answer("Race", count, states, race)
        return Answer("Never" if not good else "Always" if good == count else "Sometimes", count, states, witness)

    def misfits(self, words):
        """What the comment names and the tree has not; `words`: of the library."""
        for name in sorted(self.named - words):
            yield f"there is no {name}()"
        for file, code in self.code:
            path = ROOT / file
            if not path.is_file() or code not in path.read_text(encoding="utf-8"):
                yield f"{file} has no: {code}"


def words_of_library():
    files = (path for top in ("src", "include") for path in (ROOT / top).rglob("*") if path.is_file())
    return {word for path in files for word in re.findall(r"\w+", path.read_text(encoding="utf-8"))} | {"membarrier"}


def report(test, mutant, show, quiet, words, totals):
    answer = test.enumerate(mutant)
    wanted = mutant.result if mutant else test.expected
    good = answer.result == wanted
    verdict = ("caught" if mutant else "passes") if good else "SURVIVES" if mutant and answer.result == test.expected else "FAILS"
    totals["mutants" if mutant else "tests"] += 1
    totals["executions"] += answer.executions
    totals["wrong"] += not good
    totals["survived"] += mutant is not None and not good
    name = f"  {mutant.name}" if mutant and not quiet else f"{test.name}:{mutant.name}" if mutant else test.name
    if not good or not quiet:
        print(f"{name:<34} {verdict:<9} {answer.result:<10} {answer.executions:>8}" + ("" if good else f"   should be {wanted}"), flush=True)
    if show:
        for state, times in sorted(answer.states.items()):
            print(f"    {times:>6} {state}")
        if answer.witness:
            print(answer.witness)
    if not mutant:
        for misfit in test.misfits(words):
            print(f"{test.name}: the code has changed: {misfit}")
            totals["wrong"] += 1


def main(argv):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--show", action="store_true", help="print final states and a witness")
    parser.add_argument("--quiet", action="store_true", help="print only what is wrong, and the figures")
    parser.add_argument("tests", nargs="*", metavar="TEST[:MUTANT]", help="by name, such as idle; default: all")
    options = parser.parse_args(argv)
    wanted = [name.partition(":") for name in options.tests] or [(path.stem, "", "") for path in sorted(HERE.glob("*.litmus"))]
    began = time.monotonic()
    totals = collections.Counter()
    words = words_of_library()
    if not options.quiet:
        print(f"{'test':<34} {'verdict':<9} {'condition':<10} {'executions':>8}")
    try:
        for name, _, only in wanted:
            path = HERE / f"{name.removesuffix('.litmus')}.litmus"
            if not path.is_file():
                raise Failure(f"there is no test {path.stem}")
            test = Test(path.read_text(encoding="utf-8"), path.stem)
            chosen = [mutant for mutant in test.mutants if only in ("", mutant.name)]
            if only and not chosen:
                raise Failure(f"{test.name} has no mutant {only}")
            for mutant in ([] if only else [None]) + chosen:
                report(test, mutant, options.show, options.quiet, words, totals)
    except Failure as failure:
        print(f"litmus: {failure}", file=sys.stderr)
        return 2
    caught = f"{totals['survived']} NOT CAUGHT" if totals["survived"] else "all caught"
    print(f"litmus: {totals['tests']} tests, {totals['mutants']} mutants, {caught}, {totals['executions']} executions, {totals['wrong']} wrong, "
          f"{time.monotonic() - began:.1f} s")
    return 1 if totals["wrong"] else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
