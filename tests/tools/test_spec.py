#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
#
# tests/spec.txt: each behaviour, each quirk and each notion of the kernel is in it, and every test that it names exists.
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


def read(text):
    """[(name, file, [tests])], and what is malformed."""
    rows = []
    wrong = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        cells = [cell.strip() for cell in line.split("|")]
        if len(cells) != 4:
            wrong.append(f"line {number}: {len(cells)} cells")
            continue
        rows.append((cells[0], cells[1], [t.strip() for t in cells[2].split(",") if t.strip()]))
    return rows, wrong


def tests_of(text):
    return {f"{suite}.{name}" for suite, name in re.findall(r"^(?:TYPED_)?TEST(?:_F|_P)?\((\w+), (\w+)\)", text, re.MULTILINE)}


def complaints(text, source):
    """What is wrong with a table; source(file): a test's text, or None."""
    rows, wrong = read(text)
    names = {name for name, _, _ in rows}
    known = BEHAVIOURS | QUIRKS | NOTIONS
    wrong += [f"{name} is missing" for name in sorted(known - names)]
    wrong += [f"{name} is no behaviour, no quirk and no notion" for name in sorted(names - known)]
    under_stress = {name for name, file, _ in rows if file.startswith("race/")}  # ./dev stress runs all of these
    wrong += [f"{name} is about a race, and no test of race/ shows it" for name in sorted(RACES & names - under_stress)]
    for name, file, tests in rows:
        if file == "open":
            if name not in NOTIONS or tests or len([1 for other, _, _ in rows if other == name]) != 1:
                wrong.append(f"{name} is open, and shown")
            continue
        there = source(file)
        if there is None:
            wrong.append(f"{name}: {file} is no file")
        elif not tests:
            wrong.append(f"{name}: no test is named")
        else:
            wrong += [f"{name}: {test} is not in {file}" for test in tests if test not in tests_of(there)]
    return wrong


def of_the_tree(file):
    path = TESTS / file
    return path.read_text() if path.is_file() else None


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
        self.assertEqual(broken("Q10 |", "Q30 |"), ["Q10 is missing", "Q30 is no behaviour, no quirk and no notion"])
        self.assertEqual(broken("B24 |", "B49 |"), ["B24 is missing", "B49 is no behaviour, no quirk and no notion"])
        self.assertEqual(broken("B9  | race/test_race.cpp | Race.TwoWaitersOneTarget, Race.AnyWaitByManyTakesEachOnce |\n", ""),
                         ["B9 is about a race, and no test of race/ shows it"])
        self.assertTrue(any("cells" in m for m in broken("B11 | api/test_create.cpp |", "B11 | api/test_create.cpp")))
        self.assertEqual(complaints(self.text + "swtch | open | | not there\n", of_the_tree), ["swtch is open, and shown"])
        self.assertEqual(broken("Q26 | proc/test_list.cpp | Representative.IsNoZombie |", "Q26 | proc/test_list.cpp | |"),
                         ["Q26: no test is named"])
        self.assertEqual(broken("Q26 | proc/test_list.cpp | Representative.IsNoZombie |", "Q26 | open | |"), ["Q26 is open, and shown"])


if __name__ == "__main__":
    unittest.main()
