#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Searches the models of this directory completely: each must pass, each of its mutants must fail.

    run.py [--budget SECONDS] [--plain] [--keep DIR] [--jobs N] [MODEL...]

A model says at its head how it is searched and what must be caught:

    // @run NAME FLAG... [| FLAG...]   for spin (-DN=2), and after the bar for the verifier (-a -f -N progress: an LTL formula)
    // @mutant NAME RUN WHAT...        the same search as RUN with -DMUT_NAME besides must fail; WHAT says what is dropped

A search that ran out of memory, depth or budget is no pass and no catch.  Ends with one line of figures; exit status 1 if anything was not
as it must be, 2 if a model or a tool is missing.
"""

import argparse
import concurrent.futures
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
MEMORY_MIB = 8000
DEPTH = 2_000_000
HEAD = re.compile(r"^// @(run|mutant)\s+(.*)$", re.MULTILINE)


class Failure(Exception):
    """A tool failed, or the head of a model says nonsense."""


class OutOfBudget(Exception):
    """The time is over."""


class Search:
    """One compiled verifier and what it found."""

    def __init__(self, model, spin_flags, pan_flags):
        self.model = model
        self.spin_flags = spin_flags
        self.pan_flags = pan_flags
        self.output = ""
        self.seconds = 0.0

    def run(self, directory, quick, deadline):
        """Compiles and searches.  `quick`: an error is expected early, so compiling fast beats searching fast."""
        began = time.monotonic()
        for header in HERE.glob("*.h"):
            shutil.copy(header, directory)
        shutil.copy(self.model, directory)
        self._call(["spin", *self.spin_flags, "-a", self.model.name], directory, deadline)
        flags = ["-O0"] if quick else ["-O2"]
        if "-a" not in self.pan_flags:
            flags.append("-DSAFETY")
        self._call(["gcc", "-w", *flags, "-DVECTORSZ=2048", f"-DMEMLIM={MEMORY_MIB}", "-o", "pan", "pan.c"], directory, deadline)
        self.output = self._call(["./pan", f"-m{DEPTH}", *self.pan_flags], directory, deadline)
        self.seconds = time.monotonic() - began

    @staticmethod
    def _call(command, directory, deadline):
        left = deadline - time.monotonic()
        if left <= 0:
            raise OutOfBudget
        try:
            done = subprocess.run(command, cwd=directory, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=left, check=False)
        except subprocess.TimeoutExpired:
            raise OutOfBudget from None
        if command[0] != "./pan" and (done.returncode != 0 or "Error:" in done.stdout):
            raise Failure(f"{' '.join(command)}:\n{done.stdout}")
        return done.stdout

    def number(self, pattern):
        found = re.search(pattern, self.output)
        return int(found[1]) if found else 0

    @property
    def states(self):
        return self.number(r"(\d+) states, stored")

    @property
    def depth(self):
        return self.number(r"depth reached (\d+)")

    @property
    def complete(self):
        cut = ("too small", "MEMLIM", "out of memory", "aborting", "interrupted", "truncated")
        return "errors:" in self.output and not any(word in self.output for word in cut)

    @property
    def failed(self):
        return self.number(r"errors: (\d+)") > 0

    @property
    def reason(self):
        found = re.search(r"^pan:\d+: (.*?)(?: \(at depth \d+\))?$", self.output, re.MULTILINE)
        return found[1] if found else ""


def read_head(model):
    """The runs and the mutants of a model: {name: (spin flags, pan flags)}, [(name, run, what)]."""
    runs = {}
    mutants = []
    for kind, rest in HEAD.findall(model.read_text(encoding="utf-8")):
        if kind == "run":
            name, *flags = rest.split()
            bar = flags.index("|") if "|" in flags else len(flags)
            runs[name] = (flags[:bar], flags[bar + 1 :])
        else:
            name, run, what = rest.split(None, 2)
            mutants.append((name, run, what))
    text = model.read_text(encoding="utf-8")
    for name, run, _ in mutants:
        if run not in runs or f"MUT_{name}" not in HEAD.sub("", text):
            raise Failure(f"{model.name}: mutant {name}: no such run, or nothing depends on it")
    if not runs or not mutants:
        raise Failure(f"{model.name}: a head without runs or without mutants")
    return runs, mutants


def report(model, name, search, verdict):
    print(
        f"{model:<18} {name:<26} {verdict:<9} {search.states:>10} {search.depth:>7} "
        f"{search.seconds:>6.1f}  {search.reason[:60]}",
        flush=True,
    )


def jobs_of(model, plain_only):
    """What is to be searched: (model, run, mutant or None, spin flags, pan flags)."""
    runs, mutants = read_head(model)
    jobs = [(model, name, None, spin, pan) for name, (spin, pan) in runs.items()]
    if not plain_only:
        jobs += [(model, run, name, [*runs[run][0], f"-DMUT_{name}"], runs[run][1]) for name, run, _ in mutants]
    return jobs


def search_one(job, keep, deadline):
    """Searches one model or mutant."""
    model, run, mutant, spin_flags, pan_flags = job
    search = Search(model, spin_flags, pan_flags)
    with tempfile.TemporaryDirectory(prefix="spin-") as directory:
        search.run(directory, mutant is not None, deadline)
        if keep is not None and search.failed:
            shutil.copytree(directory, keep / f"{model.stem}.{mutant or run}", dirs_exist_ok=True)
    return search


def count(job, search, totals):
    """Reports one search and adds it to the totals."""
    model, run, mutant, _, _ = job
    if mutant is None:
        good = search.complete and not search.failed
        verdict = "passes" if good else "FAILS" if search.failed else "CUT SHORT"
        totals["states"] += search.states
    else:
        good = search.failed
        verdict = "caught" if good else "SURVIVES"
        totals["mutants"] += 1
        totals["caught"] += good
    totals["wrong"] += not good
    report(model.stem, run if mutant is None else f"  {mutant}", search, verdict)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("models", nargs="*", metavar="MODEL", help="by name, such as park; default: all")
    parser.add_argument("--budget", type=float, default=900, metavar="SECONDS", help="fail when this is over (default: %(default)s)")
    parser.add_argument("--plain", action="store_true", help="the models only, not their mutants")
    parser.add_argument("--keep", type=pathlib.Path, metavar="DIR", help="keep the verifiers and trails of what failed: spin -t -p -D... there")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, metavar="N", help="so many searches at a time (default: one for each CPU)")
    args = parser.parse_args()

    for tool in ("spin", "gcc"):
        if shutil.which(tool) is None:
            print(f"spin: there is no {tool}: apt-get install spin gcc", file=sys.stderr)
            return 2
    models = [HERE / f"{name.removesuffix('.pml')}.pml" for name in args.models] or sorted(HERE.glob("*.pml"))
    began = time.monotonic()
    totals = {"mutants": 0, "caught": 0, "states": 0, "wrong": 0}
    print(f"{'model':<18} {'search':<26} {'verdict':<9} {'states':>10} {'depth':>7} {'s':>6}  error found")
    pool = concurrent.futures.ThreadPoolExecutor(args.jobs)
    searched = 0
    try:
        for model in models:
            if not model.exists():
                raise Failure(f"there is no model {model.stem}")
        jobs = [job for model in models for job in jobs_of(model, args.plain)]
        futures = [pool.submit(search_one, job, args.keep, began + args.budget) for job in jobs]
        for job, future in zip(jobs, futures):
            count(job, future.result(), totals)
            searched += 1
    except Failure as error:
        print(f"spin: {error}", file=sys.stderr)
        return 2
    except OutOfBudget:
        print(f"spin: the budget of {args.budget:.0f} s is over: {searched} of {len(jobs)} searches done")
        return 1
    finally:
        pool.shutdown(cancel_futures=True)
    survived = totals["mutants"] - totals["caught"]
    caught = "all caught" if survived == 0 else f"{survived} NOT CAUGHT"
    print(
        f"spin: {len(models)} models, {totals['mutants']} mutants, {caught}, {totals['states']} states, "
        f"{totals['wrong']} wrong, {time.monotonic() - began:.0f} s"
    )
    return 1 if totals["wrong"] else 0


if __name__ == "__main__":
    sys.exit(main())
