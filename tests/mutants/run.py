#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Breaks the library's code, one mutant at a time, and fails unless the schedule explorer, the reference model, the fault sweep, or the test that it
names, finds each.

    run.py [--of model] [--budget SECONDS] [--least N] [--jobs N] --build DIR [MUTANT...]    builds and runs; names or beginnings of names
    run.py --fuzz PROGRAM [--seconds N] --build DIR [MUTANT]...    the same, but libFuzzer is to find each schedule (./dev fuzz --mutants); of the explorer's
    run.py --fit                                                                             only looks whether each text is still there once

mutants.txt has the mutants for the explorer, the fault sweep and tests, model.txt those for the model.  DIR is a configured build (Ninja).  The programs that mutants name are built
there first, so that what is to find a mutant is what the sources say now; what a mutant changes is compiled into a temporary directory.  A mutant of a header
compiles everything again that includes it.  A mutant none of whose code is in the program that is run is broken, not a survivor.

Ends with one line of figures.  Exit status 1 if a mutant survived, does not fit or does not compile, or fewer than --least were run in time.
"""

import argparse
import concurrent.futures
import os
import pathlib
import re
import shlex
import subprocess
import sys
import tempfile
import time
import zlib

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
SCHEDULES = ["--count", "3000", "--search", "6000", "--first"]
SEQUENCES = ["--count", "60000", "--first"]
FUZZ = ["-max_len=128", "-len_control=0", "-entropic=0", "-reduce_inputs=0", "-timeout=30", "-print_final_stats=1"]  # as ./dev fuzz schedules
FAULTS = ["--count", "1", "--patience", "10", "--jobs", "1", "--first"]
RUN_MOST = 240  # seconds; a mutant that hangs the explorer itself is found, too
TEST_MOST = 100  # the same of a test, which waits for up to a minute before it says that something does not come
MUTANT = re.compile(r"^mutant (\S+)\nfile (\S+)\nby ([^\n]+)\n<<<<\n(.*?)\n====\n(.*?)\n?>>>>$", re.MULTILINE | re.DOTALL)


def scenario_names():
    """As the sources say."""
    text = "".join(p.read_text() for p in sorted((ROOT / "tests" / "explore").glob("scenario_*.cpp")))
    return re.findall(r"^(?:SCENARIO|SCENARIO_TSO|SCENARIO_SPARES|RAW)\((\w+)", text, re.MULTILINE)


SCENARIOS = scenario_names()


class Mutant:
    """One way to break one file."""

    def __init__(self, match, of):
        self.of = of
        self.name, self.file, self.by, self.old, self.new = match.groups()
        self.by = self.by.split()
        self.test = self.by[1] if self.by[0] == "test" and len(self.by) > 1 else ""
        self.faults = self.by[1:] if self.by[0] == "faults" else []  # workloads
        self.target = self.test or ("faults" if self.faults else of)

    def command(self, program):
        """What runs the killers, and for how long at most."""
        if self.test:
            return [program, "--gtest_filter=" + ":".join(self.by[2:])], TEST_MOST
        if self.faults:
            return [program, *FAULTS, *self.faults], RUN_MOST
        return [program, *(SEQUENCES if self.of == "model" else [*SCHEDULES, *self.by])], RUN_MOST

    def tests_misfit(self):
        """The same of the tests that are to find it."""
        folder, _, name = self.test.partition("_")
        path = ROOT / "tests" / folder / f"test_{name}.cpp"
        if not path.is_file():
            return f"{path} is no file"
        text = path.read_text()
        for test in self.by[2:] or ["nothing.named"]:
            suite, _, case = test.partition(".")
            # Suite.Case, Suite/<type>.Case, Where/Suite.Case/<parameter>
            suites, case = suite.split("/"), case.split("/")[0]
            if not any(f"({s}, {case})" in text for s in suites):
                return f"no test of {path.name} is called {test}"
        return ""

    def misfit(self):
        """What is wrong with it; empty if it fits."""
        path = ROOT / self.file
        if not path.is_file():
            return f"{self.file} is no file"
        if self.test and self.tests_misfit():
            return self.tests_misfit()
        for name in self.faults:
            if f'{{"{name}", ' not in (ROOT / "tests" / "faults" / "workloads.cpp").read_text():
                return f"no workload is called {name}"
        for name in self.by if self.target == "explore" else ():
            if not any(scenario.startswith(name) for scenario in SCENARIOS):
                return f"no scenario begins with {name}"
        count = path.read_text().count(self.old)
        return "" if count == 1 else f"its text is there {count} times in {self.file}"


def read_mutants(of):
    name = "model.txt" if of == "model" else "mutants.txt"
    text = (HERE / name).read_text()
    mutants = [Mutant(m, of) for m in MUTANT.finditer(text)]
    if len(mutants) != len(re.findall(r"^mutant ", text, re.MULTILINE)):
        sys.exit(f"{name}: an entry is malformed")
    names = [m.name for m in mutants]
    if len(set(names)) != len(names):
        sys.exit(f"{name}: a name is there twice")
    return mutants


def without_precompiled(words):
    """A compiler's command that reads headers as they are now: what was compiled before the mutant is not it."""
    kept = []
    words = iter(words)
    for word in words:
        if word == "-include":
            next(words)
        elif word != "-Winvalid-pch":
            kept.append(word)
    return kept


def symbols(path, kinds):
    """The names that a file defines, of some kinds as nm(1) has them."""
    out = subprocess.run(["nm", "--no-sort", "--defined-only", path], stdout=subprocess.PIPE, text=True, check=True).stdout
    words = (line.split() for line in out.splitlines())
    return {w[2] for w in words if len(w) == 3 and w[1] in kinds}


class Build:
    """How a program of a build directory is made."""

    def __init__(self, directory, target):
        self.directory = pathlib.Path(directory).resolve()
        lines = subprocess.run(["ninja", "-t", "commands", target], cwd=self.directory, stdout=subprocess.PIPE, text=True, check=True).stdout
        self.compile = {}  # source -> (command, object)
        self.precompiled = []  # sources that headers which were compiled before go into
        for line in lines.splitlines():
            words = shlex.split(line)
            if "-c" in words and "-o" in words and "c++-header" not in words:
                source = (self.directory / words[words.index("-c") + 1]).resolve()
                kept = without_precompiled(words)
                if kept != words:
                    self.precompiled.append(source)
                words = kept
                self.compile[source] = (words, words[words.index("-o") + 1])
        link = shlex.split(lines.splitlines()[-1])
        # CMake writes ": && command && :".
        self.link = link[link.index("&&") + 1 : len(link) - 1 - link[::-1].index("&&")]
        self.program = self.directory / self.link[self.link.index("-o") + 1]
        self.defines = None  # what is in the program, once somebody asks

    def has_code_of(self, obj, fresh):
        """Whether an object is in the program as it is built, or, if it is in an archive, was taken from there: it has a name that only it may define."""
        if obj in self.link:
            return True
        if self.defines is None:
            self.defines = symbols(self.program, "TDBRtdbr")  # what is hidden is no longer global
        return not self.defines.isdisjoint(symbols(fresh, "TDBR"))

    def sources_of(self, header):
        """Those that include a header, as the compiler noted it."""
        out = subprocess.run(["ninja", "-t", "deps"], cwd=self.directory, stdout=subprocess.PIPE, text=True, check=True).stdout
        found = []
        target = None
        for line in out.splitlines():
            if line and not line[0].isspace():
                target = line.split(":")[0]
            elif line.strip() and (self.directory / line.strip()).resolve() == header:
                found.append(target)
        through = self.precompiled if any(target.endswith(".gch") for target in found) else []
        return [source for source, (_, obj) in self.compile.items() if obj in found or source in through]


def fuzzed(program, options, scratch):
    """What libFuzzer makes of an explorer with a mutant, in the committed schedules and whatever it comes to from there."""
    corpus = scratch / "corpus"
    corpus.mkdir()
    began = time.monotonic()
    done = subprocess.run([options.fuzz, *FUZZ, f"-max_total_time={options.seconds}", f"-artifact_prefix={scratch}/", str(corpus),
                           str(ROOT / "tests" / "fuzz" / "corpus" / "schedules")],
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", check=False,
                          env=os.environ | {"LWP_EXPLORE": program})
    inputs = re.search(r"number_of_executed_units: +(\d+)", done.stdout)
    tried = f" ({inputs[1] if inputs else 'few'} inputs, {time.monotonic() - began:.0f} s)"
    failed = re.search(r"^FAILED  (.*)$", done.stdout, re.MULTILINE)
    if failed:
        return "killed", failed[1][:150] + tried
    if done.returncode != 0:
        return "broken", done.stdout[-500:]
    return "SURVIVED", "no schedule fails" + tried


def outcome(mutant, build, options):
    """("killed", by what) or another word and why."""
    with tempfile.TemporaryDirectory() as name:
        scratch = pathlib.Path(name)
        changed = scratch / mutant.file
        changed.parent.mkdir(parents=True)
        changed.write_text((ROOT / mutant.file).read_text().replace(mutant.old, mutant.new))
        source = (ROOT / mutant.file).resolve()
        affected = [source] if source in build.compile else build.sources_of(source)
        if not affected:
            return "broken", "nothing is compiled from it"
        link = list(build.link)
        there = False  # some of it is in the program
        for number, one in enumerate(affected):
            words, obj = build.compile[one]
            words = [w for w in words if w != "-Werror"]
            at = words.index("-c")
            fresh = str(scratch / f"{number}.o")
            words[at + 1] = str(changed if one == source else one)
            words[words.index("-o") + 1] = fresh
            if "-MF" in words:
                words[words.index("-MF") + 1] = fresh + ".d"
            words[at:at] = ["-w", "-g0"]
            first = next(i for i, w in enumerate(words) if w.startswith("-I"))
            words[first:first] = [f"-I{scratch / 'src'}", f"-I{scratch / 'include'}"]
            done = subprocess.run(words, cwd=build.directory, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
            if done.returncode != 0:
                return "broken", "it does not compile:\n" + done.stdout[:2000]
            there = there or build.has_code_of(obj, fresh)
            if obj in link:
                link = [fresh if w == obj else w for w in link]
            else:  # in an archive, which is asked only for what is not there yet
                link.insert(next(i for i, w in enumerate(link) if w.endswith(".o")), fresh)
        if not there:
            return "broken", f"nothing of it is in {mutant.target}"
        program = str(scratch / "program")
        link[link.index("-o") + 1] = program
        link.append("-Wl,--strip-debug")  # what takes the linker most of its time
        done = subprocess.run(link, cwd=build.directory, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        if done.returncode != 0:
            return "broken", "it does not link:\n" + done.stdout[:2000]
        if options.fuzz:
            return fuzzed(program, options, scratch)
        command, most = mutant.command(program)
        try:
            done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", timeout=most,
                                  check=False, env=os.environ | {"LWP_VCPUS": "2"})
        except subprocess.TimeoutExpired:
            return "killed", f"{mutant.target} does not end"
        if done.returncode == 2 and not mutant.test:
            return "broken", done.stdout[:500]
        if mutant.test:
            if " 0 tests from " in done.stdout:
                return "broken", "no such test"
            first = re.search(r"Failure\n(.*)|^(lwp: .*)$", done.stdout, re.MULTILINE)
            return ("SURVIVED", " ".join(mutant.by[2:])) if done.returncode == 0 else (
                "killed", (first[1] or first[2])[:150] if first else f"exit status {done.returncode}")
        failed = re.search(r"^FAILED  (.*)$", done.stdout, re.MULTILINE)
        if failed:
            count = re.search(r"(\d+) schedules", done.stdout)
            return "killed", failed[1][:150] + (f" ({count[1]} schedules)" if count else "")
        if done.returncode != 0:
            return "killed", f"exit status {done.returncode}"
        return "SURVIVED", done.stdout.strip().splitlines()[-1]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fit", action="store_true")
    parser.add_argument("--of", choices=["explore", "model"], default="explore")
    parser.add_argument("--fuzz")
    parser.add_argument("--seconds", type=int, default=120)  # for one
    parser.add_argument("--build")
    parser.add_argument("--budget", type=float, default=1e9)
    parser.add_argument("--least", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("names", nargs="*")
    options = parser.parse_args()

    mutants = read_mutants(options.of)
    if options.fit:
        mutants += read_mutants("model")
    misfits = [(m.name, m.misfit()) for m in mutants if m.misfit()]
    for name, why in misfits:
        print(f"{name}: {why}")
    if options.fit or misfits:
        print(f"mutants: {len(mutants)}, {len(misfits)} do not fit")
        return 1 if misfits else 0
    if options.fuzz:
        mutants = [m for m in mutants if m.target == "explore"]
    if options.names:
        mutants = [m for m in mutants if any(m.name.startswith(n) for n in options.names)]
    if not options.build or not mutants:
        parser.error("--build is needed, and a mutant")
    mutants.sort(key=lambda m: zlib.crc32(m.name.encode()))  # a budget that ends early has seen some of everything
    targets = sorted({m.target for m in mutants})
    subprocess.run(["ninja", "-j", str(options.jobs), *targets], cwd=options.build, check=True, stdout=subprocess.DEVNULL)
    builds = {target: Build(options.build, target) for target in targets}
    began = time.monotonic()
    counts = {}

    def one(mutant):
        if time.monotonic() - began > options.budget:
            return mutant, "not run", ""
        return mutant, *outcome(mutant, builds[mutant.target], options)

    with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        for mutant, word, why in pool.map(one, mutants):
            counts[word] = counts.get(word, 0) + 1
            if word != "not run":
                print(f"{word:8}  {mutant.name}: {why}", flush=True)
    killed = counts.get("killed", 0)
    run = len(mutants) - counts.get("not run", 0)
    print(f"mutants: {killed} of {run} killed, {counts.get('SURVIVED', 0)} survived, {counts.get('broken', 0)} broken, "
          f"{counts.get('not run', 0)} not run, {time.monotonic() - began:.0f} s")
    return 0 if killed == run and run >= min(options.least, len(mutants)) else 1


if __name__ == "__main__":
    sys.exit(main())
