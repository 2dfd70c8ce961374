#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Checks that each memory order weaker than seq_cst has a reason beside it.

    check_orders.py [ROOT]        checks ROOT/src and ROOT/include/lwp; prints every order without a reason, exit status 1 if there is one
    check_orders.py --self-test   fails unless orders without a reason are found in a text of this file, and no others

A reason is a comment of at least two words
  - on the lines of the statement, or on the line above it;
  - further above, in the same function and without an empty line between, if it speaks of orders, and stands alone or says that it is for more
    than its line ("relaxed, here and below: ...");
  - at the declaration of the atomic, or above those that are declared together with it: in the same file, else in a header;
  - in place of each "relaxed" of a file: In this file "relaxed" without a reason means: ...
Whether it is true is for readers; that somebody thought of it is for this check.
"""

import pathlib
import re
import sys

SUFFIXES = {".h", ".hpp", ".cpp"}
ORDER = re.compile(r"memory_order(?:_|::)(relaxed|acquire|release|acq_rel|consume)\b")
OBJECT = re.compile(r"(\w+)(?:\[[^\]]*\]|\([^()]*\))*\s*(?:\.|->)\s*(?:load|store|exchange|compare_exchange_\w+|fetch_\w+|test|test_and_set|clear)\s*\($")
DECLARED = re.compile(r"\b(?:std::)?atomic(?:_\w+)?\s*(?:<[^;=]*>)?\s*&?\s*(\w+)\s*(?:\[[^\]]*\]\s*)*(?:\{|;|=|,)")
COMMENT = re.compile(r"//[/!<]*\s*(\S+\s+\S.*)$")
ABOUT_ORDER = re.compile(r"relaxed|acquire|release|acq_rel|pairs|order|fence|barrier", re.IGNORECASE)
FOR_MORE = re.compile(r"below|always|all of|both|twice|each|every", re.IGNORECASE)
FOR_FILE = re.compile(r'^// In this file "relaxed" without a reason means: \S+ \S+', re.MULTILINE)
FUNCTION_END = re.compile(r"^\}")


def has_comment(line):
    return COMMENT.search(line) is not None


def statement_has_comment(lines, at):
    """A comment on line `at`, or on one of those that its statement goes on for."""
    below = at
    while below < len(lines) - 1 and not re.search(r"[;{}]\s*(//.*)?$", lines[below]):
        below += 1
    return any(has_comment(line) for line in lines[at : below + 1])


def explained_here(lines, at):
    """A comment on the statement, or one about orders above it, before an empty line or the end of another function."""
    if statement_has_comment(lines, at):
        return True
    if at > 0 and lines[at - 1].lstrip().startswith("//"):
        return True
    while at >= 0 and lines[at].strip() and not FUNCTION_END.match(lines[at]):
        comment = COMMENT.search(lines[at])
        if comment and ABOUT_ORDER.search(comment[1]) and (lines[at].lstrip().startswith("//") or FOR_MORE.search(comment[1])):
            return True
        at -= 1
    return False


def explained_declaration(lines, at):
    """A comment on it, or the one that stands alone above it and those declared together with it."""
    if statement_has_comment(lines, at):
        return True
    while at > 0:
        at -= 1
        if lines[at].lstrip().startswith("//"):
            return True
        if not lines[at].strip() or has_comment(lines[at]):
            return False
    return False


def object_of(lines, at, column):
    """The atomic whose member is called with the order at this place: the name before the call."""
    text = "\n".join(lines[max(0, at - 3) : at]) + "\n" + lines[at][:column]
    depth = 0
    for index in range(len(text) - 1, -1, -1):
        if text[index] == ")":
            depth += 1
        elif text[index] == "(":
            if depth == 0:
                found = OBJECT.search(text[: index + 1])
                return found[1] if found else None
            depth -= 1
    return None


def declarations(lines):
    """The atomics that are declared here: name -> whether there is a comment."""
    found = {}
    for number, line in enumerate(lines):
        for match in DECLARED.finditer(line.split("//")[0]):
            found[match[1]] = found.get(match[1], False) or explained_declaration(lines, number)
    return found


def missing(files):
    """[(file, line number, order)] of orders without a reason."""
    here = {name: declarations(lines) for name, lines in files.items()}
    in_headers = {atomic for name, found in here.items() if not name.endswith(".cpp") for atomic, good in found.items() if good}
    shared = set(re.findall(r"\bextern\s+atomic<[^;=]*>\s*(\w+)\s*;", "\n".join("\n".join(lines) for lines in files.values())))
    found = []
    for name, lines in files.items():
        for_file = any(FOR_FILE.match(line) for line in lines)
        for number, line in enumerate(lines):
            for order in ORDER.finditer(line.split("//")[0]):
                atomic = object_of(lines, number, order.start())
                declared = here[name].get(atomic) or (atomic in in_headers and (atomic not in here[name] or atomic in shared))
                if not (declared or for_file and order[1] == "relaxed" or explained_here(lines, number)):
                    found.append((name, number + 1, order[1]))
    return found


SELF_TEST = """\
atomic<int> plain{0};
atomic<int> told{0};  // relaxed, always: a hint

void f() {
	told.store(1, std::memory_order_relaxed);
	plain.store(1, std::memory_order_relaxed);  // bad
}

void g() {
	plain.store(1, std::memory_order_relaxed);  // relaxed, here and below: a hint
	if (plain.load(std::memory_order_relaxed) != 0) {
		plain.store(plain.load(std::memory_order_relaxed) + 1,
		    std::memory_order_relaxed);
	}

	plain.store(0, std::memory_order_release);  // bad
	// pairs with nobody
	plain.load(std::memory_order_acquire);

	h();  // relaxed: of something else
	plain.load(
	    std::memory_order_acquire);  // bad
	plain.store(0, std::memory_order_seq_cst);
}
"""


def self_test():
    lines = SELF_TEST.split("\n")
    wanted = [number for number, line in enumerate(lines, 1) if line.endswith("// bad")]
    found = [number for _, number, _ in missing({"f.cpp": [line.removesuffix("  // bad") for line in lines]})]
    if found != wanted:
        print(f"self-test: found {found}, should be {wanted}")
        return 1
    print(f"self-test: {len(wanted)} orders without a reason, all found")
    return 0


def main():
    if sys.argv[1:] == ["--self-test"]:
        return self_test()
    root = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else ".")
    files = {}
    for top in ("src", "include/lwp"):
        for path in sorted((root / top).rglob("*")):
            if path.suffix in SUFFIXES:
                files[str(path.relative_to(root))] = path.read_text(encoding="utf-8").split("\n")
    if not files:
        print(f"{root}: no sources")
        return 2
    bad = missing(files)
    for name, number, order in bad:
        print(f"{name}:{number}: {order}, and no reason: {files[name][number - 1].strip()}")
    print(f"{len(files)} files, {sum(len(ORDER.findall(line)) for lines in files.values() for line in lines)} weak orders, {len(bad)} without a reason")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
