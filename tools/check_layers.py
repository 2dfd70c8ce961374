#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Checks that the rooms of src/ include downwards only and that l_stat and l_mutex are written by their owners alone.

    check_layers.py [ROOT]        checks ROOT/src and ROOT/include/lwp; prints every violation, exit status 1 if there is one
    check_layers.py --self-test   plants one violation of each rule in a temporary tree and fails unless each is found

The comparison is of text, not of meaning: comments and string literals are removed, then lines are matched.
"""

import pathlib
import re
import sys
import tempfile

# The rooms from the bottom up; rooms of one row do not see each other.
ROOMS = [["base"], ["ctx"], ["core"], ["sched"], ["sync"], ["proc", "io"], ["api"], ["tls", "testing"]]
LEVEL = {room: level for level, row in enumerate(ROOMS) for room in row}

# Libraries of their own on top of ours: they see the public headers and themselves.
APART = {"tls", "testing"}

# Field -> the files (without suffix, below src/) that may write it.
OWNERS = {
    "l_stat": {"core/lwp_state"},
    "l_mutex": {"core/lwp_lock", "core/lwp_state"},
}

SUFFIXES = {".h", ".hpp", ".c", ".cpp", ".inc", ".ipp", ".S"}

TOKEN = re.compile(
    r"""//(?:\\\n|[^\n])*            # a comment, which a backslash may continue
      | /\*.*?\*/
      | R"(?P<tag>[^()\s\\]{0,16})\(.*?\)(?P=tag)"
      | "(?:\\.|[^"\\\n])*"
      | (?<![0-9a-zA-Z_])'(?:\\.|[^'\\\n])+'
    """,
    re.DOTALL | re.VERBOSE,
)
INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*(?:"([^"\n]*)"|<([^>\n]*)>)', re.MULTILINE)


def blank(text, keep_includes):
    """`text` without comments and literals, its line numbers unchanged."""

    def replace(match):
        token = match[0]
        if keep_includes and token.startswith('"'):
            line = text[text.rfind("\n", 0, match.start()) + 1 : match.start()]
            if re.fullmatch(r"[ \t]*#[ \t]*include[ \t]*", line):
                return token
        return " " + "\n" * token.count("\n")

    return TOKEN.sub(replace, text)


def writes_of(field):
    """What counts as a write of `field`, each with its name."""
    assign = r"(?:[-+*/%&|^]|<<|>>)?=(?!=)"
    call = r"(?:\.|->)\s*(?:store|exchange|compare_exchange_\w+|fetch_\w+|wait_and_\w+)\s*\("
    path = r"[\w\])]*(?:\s*(?:->|\.)\s*\w+)*(?:\s*(?:->|\.)\s*)"
    return [
        ("assigned", re.compile(rf"(?:->|\.|[;{{}}(,?:]|^)\s*{field}\s*{assign}", re.MULTILINE)),
        ("stored to", re.compile(rf"\b{field}\s*{call}")),
        ("stepped", re.compile(rf"\b{field}\s*(?:\+\+|--)|(?:\+\+|--)\s*{path}?{field}\b")),
        ("initialized by name", re.compile(rf"[{{,]\s*\.{field}\s*[{{=]")),
        ("exchanged", re.compile(rf"\b(?:exchange|swap|construct_at|memcpy|memset|atomic_\w+)\s*\([^;]*\b{field}\b")),
        # An address or a reference is a way to write it out of this check's sight.
        ("taken by address", re.compile(rf"(?<!&)&\s*(?:{path})?{field}\b")),
        ("bound to a reference", re.compile(rf"(?<!&)&\s*\w+\s*[={{]\s*[^;&|=]*\b{field}\s*[;}}]")),
    ]


WRITES = {field: writes_of(field) for field in OWNERS}


def line_of(text, at):
    return text.count("\n", 0, at) + 1


def includes_of(text):
    """(line, name, quoted) of each include directive."""
    text = blank(text, keep_includes=True)
    for match in INCLUDE.finditer(text):
        quoted = match[1] is not None
        yield line_of(text, match.end()), match[1] if quoted else match[2], quoted


def check_private(root, path):
    """Violations in one file of src/: (line, message)."""
    text = path.read_text(encoding="utf-8")
    inside = path.relative_to(root / "src")
    room = inside.parts[0]
    if len(inside.parts) < 2 or room not in LEVEL:
        yield 1, f"is in no room of src/ ({', '.join(LEVEL)})"
        return

    for line, name, quoted in includes_of(text):
        parts = pathlib.PurePosixPath(name).parts
        target = parts[0] if parts else ""
        if "." in parts or ".." in parts or name.startswith(("./", "/")) or "/./" in name:
            yield line, f"includes {name} by a relative or absolute path"
        elif not quoted:
            if target in LEVEL and (root / "src" / name).exists():
                yield line, f"includes <{name}>: our own rooms are included with quotes"
            elif target == "lwp" and not (root / "include" / name).exists():
                yield line, f"includes <{name}>, which is not in include/"
        elif target not in LEVEL or len(parts) < 2:
            yield line, f'includes "{name}", which does not begin with a room of src/'
        elif not (root / "src" / name).exists():
            yield line, f'includes "{name}", which is not in src/'
        elif target != room and room in APART:
            yield line, f'includes "{name}": {room} is a library of its own and sees <lwp/...> only'
        elif target != room and LEVEL[target] > LEVEL[room]:
            yield line, f'includes "{name}" upwards: {target} is above {room}'
        elif target != room and LEVEL[target] == LEVEL[room]:
            yield line, f'includes "{name}" sideways: {target} and {room} do not see each other'

    code = blank(text, keep_includes=False)
    for field, patterns in WRITES.items():
        if inside.with_suffix("").as_posix() in OWNERS[field]:
            continue
        owners = " and ".join(f"src/{owner}.*" for owner in sorted(OWNERS[field]))
        seen = set()
        for what, pattern in patterns:
            for match in pattern.finditer(code):
                line = line_of(code, match.end())
                if line not in seen:
                    seen.add(line)
                    yield line, f"{field} is {what}; only {owners} may"


def check_public(root, path):
    """Violations in one public header: nothing private may be reachable from it."""
    for line, name, quoted in includes_of(path.read_text(encoding="utf-8")):
        target = name.split("/")[0]
        if quoted:
            yield line, f'includes "{name}": public headers include <lwp/...> and the system\'s headers only'
        elif target in LEVEL or target in ("boost", "src") or ".." in name.split("/"):
            yield line, f"includes <{name}>, which is private"
        elif target == "lwp" and not (root / "include" / name).exists():
            yield line, f"includes <{name}>, which is not in include/"


def check_tree(root):
    """All violations below `root`, as "file:line: message", and the number of files read."""
    found = []
    files = 0
    for top, check in (("src", check_private), ("include/lwp", check_public)):
        for path in sorted((root / top).rglob("*")):
            if path.suffix in SUFFIXES and path.is_file():
                files += 1
                found += [f"{path.relative_to(root)}:{line}: {message}" for line, message in sorted(check(root, path))]
    return found, files


# ---- self-test -------------------------------------------------------------------------------------------------------

CLEAN = {
    "include/lwp/lwp.h": "#include <stddef.h>\n",
    "include/lwp/thread.hpp": "#include <lwp/lwp.h>\n",
    "src/base/list.h": "#include <cstddef>\n",
    "src/ctx/stack.h": '#include "base/list.h"\n',
    "src/core/lwp.h": '#include "base/list.h"\n#include <lwp/lwp.h>\nstruct lwp_t {\n\tlwp_stat l_stat = lwp_stat::idl;\n'
    "\tstd::atomic<spinlock *> l_mutex{nullptr};  // l_mutex = written below\n};\n",
    "src/core/lwp_state.cpp": '#include "core/lwp.h"\nvoid f(lwp_t *l) { l->l_stat = s; l->l_mutex.store(m, release); }\n',
    "src/core/lwp_lock.cpp": '#include "core/lwp.h"\nvoid f(lwp_t *l) { l->l_mutex.store(m, release); }\n',
    "src/sched/run.cpp": '#include "sched/run.h"\n#include "core/lwp.h"\n'
    "bool f(lwp_t *l) { return l->l_stat == s && l->l_mutex.load(acquire) == m && l->l_stat != t; }\n"
    'const char *g = "l->l_stat = s"; /* l->l_stat = s;\n l->l_mutex.store(m); */\nlwp_stat h(lwp_t *l) { lwp_stat was = l->l_stat; return was; }\n'
    "bool i(const lwp_t &o) { return a && o.l_stat <= s && b >= o.l_stat; }\n",
    "src/sched/run.h": "#pragma once\n",
    "src/sync/sleepq.h": '#include "sched/run.h"\n',
    "src/proc/exit.cpp": '#include "sync/sleepq.h"\n',
    "src/io/ring.cpp": '#include "sync/sleepq.h"\n',
    "src/tls/stream.h": "#include <lwp/thread.hpp>\n#include <openssl/ssl.h>\n",
    "src/tls/stream.cpp": '#include "tls/stream.h"\n',
    "src/api/lwp.cpp": '#include "ctx/stack.h"\n#include <lwp/thread.hpp>\n',
}

# (file, a line of it, a part of the message)
PLANTED = [
    ("src/base/up.h", '#include "ctx/stack.h"', "upwards"),
    ("src/core/up.cpp", '  #  include "sched/run.h"', "upwards"),
    ("src/sync/up.cpp", '#include "proc/exit.cpp"', "upwards"),
    ("src/io/side.cpp", '#include "proc/exit.cpp"', "sideways"),
    ("src/proc/side.cpp", '#include "io/ring.cpp"', "sideways"),
    ("src/core/path.cpp", '#include "../base/list.h"', "relative"),
    ("src/core/path.cpp", '#include "lwp.h"', "does not begin with a room"),
    ("src/core/path.cpp", '#include "base/none.h"', "not in src/"),
    ("src/core/path.cpp", "#include <base/list.h>", "with quotes"),
    ("src/stray.cpp", "", "no room"),
    ("src/attic/stray.cpp", "", "no room"),
    ("src/tls/private.cpp", '#include "base/list.h"', "library of its own"),
    ("include/lwp/bad.hpp", '#include "base/list.h"', "public headers include"),
    ("include/lwp/bad.hpp", "#include <boost/context/fiber.hpp>", "private"),
    ("include/lwp/bad.hpp", "#include <lwp/none.hpp>", "not in include/"),
] + [
    ("src/sched/write.cpp", code, message)
    for code, message in (
        ("\tl->l_stat = lwp_stat::run;", "l_stat is assigned"),
        ("\tl->l_stat\n\t\t= lwp_stat::run;", "l_stat is assigned"),
        ("\tthat.l_stat=s;", "l_stat is assigned"),
        ("\tl_stat = s;", "l_stat is assigned"),
        ("\tl->l_stat |= s;", "l_stat is assigned"),
        ("\tl->l_stat.store(s, release);", "l_stat is stored to"),
        ("\t++l->l_stat;", "l_stat is stepped"),
        ("\tlwp_t l{.l_stat = s};", "l_stat is"),
        ("\tf(&l->l_stat);", "l_stat is taken by address"),
        ("\tauto &s = l->l_stat;", "l_stat is bound to a reference"),
        ("\tstd::swap(l->l_stat, s);", "l_stat is exchanged"),
        ("\tl->l_mutex = &lock;", "l_mutex is assigned"),
        ("\tl->l_mutex.store(&lock, release);", "l_mutex is stored to"),
        ("\tl->l_mutex.exchange(&lock);", "l_mutex is stored to"),
        ("\tl->l_mutex.compare_exchange_strong(old, lock);", "l_mutex is stored to"),
    )
] + [("src/core/lwp_lock.h", "\tl->l_stat = s;", "l_stat is assigned")]


def write_tree(root, files):
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def self_test():
    failures = []
    with tempfile.TemporaryDirectory() as directory:
        root = pathlib.Path(directory)
        write_tree(root, CLEAN)
        found, files = check_tree(root)
        if files != len(CLEAN):
            failures.append(f"read {files} files of {len(CLEAN)}")
        failures += [f"wrongly found in the clean tree: {line}" for line in found]
        for name, code, message in PLANTED:
            write_tree(root, {name: f"// planted\n{code}\n"})
            found, _ = check_tree(root)
            (root / name).unlink()
            if len(found) != 1 or not found[0].startswith(name + ":") or message not in found[0]:
                failures.append(f"{name}: {code.strip()!r} should be found once as {message!r}, but: {found}")
    for failure in failures:
        print(failure)
    print(f"self-test: {len(PLANTED)} planted violations, {len(failures)} failures")
    return 1 if failures else 0


def main():
    if sys.argv[1:] == ["--self-test"]:
        return self_test()
    root = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else ".").resolve()
    found, files = check_tree(root)
    for line in found:
        print(line)
    print(f"{files} files, {len(found)} violations")
    if files == 0:
        print(f"nothing to check below {root}")
    return 1 if found or files == 0 else 0


if __name__ == "__main__":
    sys.exit(main())
