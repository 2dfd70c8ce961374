#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
#
# tests/spec.txt: each behaviour, each quirk, each notion of the kernel and each row of the specification is in it, and every test that it names exists; where a
# row is not as it was, ARCHITECTURE.md has the words that it names.
import pathlib
import re
import unittest

TESTS = pathlib.Path(__file__).resolve().parent.parent

BEHAVIOURS = {f"B{n}" for n in range(1, 49)}
RACES = {f"B{n}" for n in (3, 9, 10, 13, 15, 18, 27, 35, 36, 37, 39, 43, 46)}  # what only many tries show
QUIRKS = {f"Q{n}" for n in range(1, 30)}
NOTIONS = {
    "swapping", "uarea", "trampoline", "cpu_lwp_free", "pmap_activate", "spl", "kernel_lock", "coredump", "reboot", "credentials", "alllwp",
    "emulation hooks", "syscall times", "lockdebug barrier", "ptrace", "exit status", "swtch", "lwp_uc_pool", "limits",
    "procs",
}
STATES = ("IDL", "RUN", "ONPROC", "SLEEP", "STOP", "SUSPENDED", "ZOMB")
# Sections 1, 2 and 4 of the specification, by section.
SECTIONS = {
    "1.1": ("lwpinit",),
    "1.2": ("lwp_suspend", "LSIDL", "LSRUN", "LSONPROC", "LSSLEEP interruptible", "LSSLEEP uninterruptible", "LSSTOP", "LSSUSPENDED", "LSZOMB"),
    "1.3": ("lwp_continue",),
    "1.4": ("lwp_wait1",),
    "1.5": ("newlwp",),
    "1.6": ("lwp_startup",),
    "1.7": ("lwp_exit",),
    "1.8": ("lwp_exit_switchaway",),
    "1.9": ("lwp_free", "lwp_free of the last"),
    "1.10": ("proc_representative_lwp",),
    "1.11": ("lwp_find",),
    "1.12": ("lwp_update_creds",),
    "1.13": ("lwp_locked", "lwp_lock_retry", "lwp_setlock", "lwp_unlock_to", "lwp_relock", "lwp_trylock", "lock order"),
    "1.14": ("lwp_userret",),
    "1.15": ("lwp_need_userret",),
    "1.16": ("lwp_addref", "lwp_delref", "lwp_drainrefs"),
    "1.17": ("lwp_specific_key_create", "lwp_specific_key_delete", "lwp_initspecific", "lwp_finispecific", "lwp_getspecific",
             "_lwp_getspecific_by_lwp", "lwp_setspecific"),
    "2.1": tuple(f"LS{state}" for state in STATES),
    "2.2": tuple(f"{a}>{b}" for a in STATES for b in STATES),
    "4.1": ("sleep table", "syncobj", "sleepq_enter", "sleepq_enqueue", "sleepq_block", "timeout wins over a signal", "sleepq_remove", "sleepq_wake",
            "sleepq_timeout", "sleepq_changepri", "wmesg", "tsleep"),
    "4.2": ("cv_wait", "cv_timedwait", "cv_signal", "cv_broadcast", "cv_destroy", "an error loses no wakeup"),
    "4.3": ("turnstile", "lendpri", "unlendpri", "readers of rwlocks", "kernel priority boost", "invariants", "encoding"),
    "4.4": ("mutex_enter", "mutex_exit", "spin mutexes", "rwlock"),
    "4.5": ("sched_takecpu", "sched_lwp_fork", "sched_lwp_exit", "sched_lwp_collect", "sched_enqueue", "sched_nextlwp", "hooks of time", "sched_nice",
            "yield", "preempt", "setrunnable", "suspendsched", "resched_cpu", "updatertime"),
    "4.6": ("l_rtime", "totals never go backwards", "slptime", "l_pctcpu", "load averages", "RLIMIT_CPU"),
    "4.7": ("bands", "run queue", "slices", "sleep bonus", "slept or not run for a second", "batch", "FIFO", "RR", "4BSD policy", "balancing", "min_catch",
            "cache-hot"),
    "4.8": ("lwp_migrate", "idle LWP", "kernel preemption", "preemption of the application", "mi_switch"),
    "4.9": ("domain", "key_create", "key_delete", "setspecific", "getspecific", "fini", "without the domain lock", "when", "tss"),
    "4.10": ("callout", "timing wheel", "a late timeout hits no other sleep", "fired is reported", "never early, on any vCPU"),
    "4.11": ("proc_stop", "proc_unstop", "exit_lwps", "sigexit"),
}
ROWS = {f"{section} {row}" for section, rows in SECTIONS.items() for row in rows}


def names_of(cell):
    """A cell's names: those of rows may have a comma in them, and each begins with its section."""
    return [name.strip() for name in re.split(r",\s+(?=\d+\.\d+ )", cell)] if cell[:1].isdigit() else [cell]


def read(text):
    """[(name, file, [tests, or words])], and what is malformed."""
    rows = []
    wrong = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        cells = [cell.strip() for cell in line.split("|")]
        if len(cells) != 4:
            wrong.append(f"line {number}: {len(cells)} cells")
            continue
        shown = [cells[2]] if cells[1] == "ARCHITECTURE.md" else [t.strip() for t in cells[2].split(",") if t.strip()]
        rows += [(name, cells[1], shown) for name in names_of(cells[0])]
    return rows, wrong


def tests_of(text):
    return {f"{suite}.{name}" for suite, name in re.findall(r"^(?:TYPED_)?TEST(?:_F|_P)?\((\w+), (\w+)\)", text, re.MULTILINE)}


def complaints(text, source):
    """What is wrong with a table; source(file): a test's text, or None."""
    rows, wrong = read(text)
    names = {name for name, _, _ in rows}
    known = BEHAVIOURS | QUIRKS | NOTIONS | ROWS
    wrong += [f"{name} is missing" for name in sorted(known - names)]
    wrong += [f"{name} is no behaviour, no quirk, no notion and no row" for name in sorted(names - known)]
    under_stress = {name for name, file, _ in rows if file.startswith("race/")}  # ./dev stress runs all of these
    wrong += [f"{name} is about a race, and no test of race/ shows it" for name in sorted(RACES & names - under_stress)]
    for name, file, tests in rows:
        if file == "open":
            if name not in NOTIONS or tests or len([1 for other, _, _ in rows if other == name]) != 1:
                wrong.append(f"{name} is open, and shown")
            continue
        there = source(file)
        if file == "ARCHITECTURE.md":
            if name not in ROWS:
                wrong.append(f"{name} is to be shown by a test")
            elif not tests[0] or tests[0] not in there:
                wrong.append(f"{name}: ARCHITECTURE.md does not say '{tests[0]}'")
            continue
        if there is None:
            wrong.append(f"{name}: {file} is no file")
        elif not tests:
            wrong.append(f"{name}: no test is named")
        else:
            wrong += [f"{name}: {test} is not in {file}" for test in tests if test not in tests_of(there)]
    return wrong


def of_the_tree(file):
    path = TESTS.parent / file if file == "ARCHITECTURE.md" else TESTS / file
    return " ".join(path.read_text().split()) if file == "ARCHITECTURE.md" else path.read_text() if path.is_file() else None


class Spec(unittest.TestCase):
    def setUp(self):
        self.text = (TESTS / "spec.txt").read_text()

    def test_the_table_holds(self):
        self.assertEqual(complaints(self.text, of_the_tree), [])

    def test_what_is_broken_is_found(self):
        def broken(old, new):
            self.assertIn(old, self.text)
            return complaints(self.text.replace(old, new), of_the_tree)

        self.assertEqual(broken("Kauth.Storm |", "Kauth.Calm |"), ["credentials: Kauth.Calm is not in api/test_kauth.cpp"])
        self.assertEqual(broken("Q12 | proc/test_find.cpp", "Q12 | proc/test_lost.cpp"), ["Q12: proc/test_lost.cpp is no file"])
        self.assertEqual(broken("Q10 |", "Q30 |"), ["Q10 is missing", "Q30 is no behaviour, no quirk, no notion and no row"])
        self.assertEqual(broken("B24 |", "B49 |"), ["B24 is missing", "B49 is no behaviour, no quirk, no notion and no row"])
        self.assertEqual(broken("B9  | race/test_race.cpp | Race.TwoWaitersOneTarget, Race.AnyWaitByManyTakesEachOnce |\n", ""),
                         ["B9 is about a race, and no test of race/ shows it"])
        self.assertTrue(any("cells" in m for m in broken("B11 | api/test_create.cpp |", "B11 | api/test_create.cpp")))
        self.assertEqual(complaints(self.text + "swtch | open | | not there\n", of_the_tree), ["swtch is open, and shown"])
        self.assertEqual(broken("Q26 | proc/test_list.cpp | Representative.IsNoZombie |", "Q26 | proc/test_list.cpp | |"),
                         ["Q26: no test is named"])
        self.assertEqual(broken("Q26 | proc/test_list.cpp | Representative.IsNoZombie |", "Q26 | open | |"), ["Q26 is open, and shown"])
        self.assertEqual(broken("1.1 lwpinit |", "1.18 lwpinit |"),
                         ["1.1 lwpinit is missing", "1.18 lwpinit is no behaviour, no quirk, no notion and no row"])
        self.assertEqual(broken("2.2 ONPROC>STOP, 2.2 SLEEP>STOP, ", "2.2 ONPROC>STOP, "), ["2.2 SLEEP>STOP is missing"])
        self.assertEqual(broken("4.7 cache-hot | ARCHITECTURE.md | no rule about", "4.7 cache-hot | ARCHITECTURE.md | a rule about the"),
                         ["4.7 cache-hot: ARCHITECTURE.md does not say 'a rule about the time since an LWP ran'"])
        self.assertEqual(complaints(self.text + "B24 | ARCHITECTURE.md | The rooms | no test\n", of_the_tree), ["B24 is to be shown by a test"])


if __name__ == "__main__":
    unittest.main()
