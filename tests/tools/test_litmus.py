#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""tests/spin/litmus: the checker knows what the literature knows, agrees with the axioms taken literally, and with the machine."""

import itertools
import pathlib
import random
import re
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "spin" / "litmus"))
import c11  # noqa: E402
import check  # noqa: E402
import x86  # noqa: E402

SHORT = {"rlx": "relaxed", "acq": "acquire", "rel": "release", "ar": "acq_rel", "sc": "seq_cst"}
CALLS = {"st": "atomic_store_explicit", "ld": "atomic_load_explicit", "xchg": "atomic_exchange_explicit", "add": "atomic_fetch_add_explicit",
         "cas": "atomic_compare_exchange_strong_explicit", "fence": "atomic_thread_fence"}


def c_test(threads, condition, expected="Never", name="c"):
    """A test whose threads are written in short: st(x,1,rlx); a = ld(y,acq); fence(sc); light; heavy; *d = 1.  Places begin with x to z, or d."""
    bodies = []
    for t, text in enumerate(threads):
        text = re.sub(r"\b(\w+)\((.*?)(rlx|acq|rel|ar|sc)\)", lambda m: f"{CALLS[m[1]]}({m[2]}memory_order_{SHORT[m[3]]})", text)
        text = re.sub(r"(\w+,)(rlx|acq|rel|ar|sc),", lambda m: f"{m[1]}memory_order_{SHORT[m[2]]},", text)
        text = re.sub(r"\blight\b", "atomic_signal_fence(memory_order_seq_cst)", text)
        text = re.sub(r"\bheavy\b", "membarrier()", text)
        text = re.sub(r"(?<![\w*=!<>])([a-c]) = ", r"int \1 = ", text)
        bodies.append(f"P{t}(atomic_int *x, atomic_int *y, atomic_int *z, int *d) {{\n\tint e = 0;\n\t{text};\n}}\n")
    return check.Test(f"C {name}\n(*\n@expect {expected} *)\n{{ }}\n{''.join(bodies)}exists ({condition})\n", name)


# name, threads, condition, result
SB, MP, LB, W22 = "0:a=0 /\\ 1:a=0", "1:a=1 /\\ 1:b=0", "0:a=1 /\\ 1:a=1", "x=1 /\\ y=1"
IRIW = "1:a=1 /\\ 1:b=0 /\\ 2:a=1 /\\ 2:b=0"
CATALOGUE = [
    ("SB rlx", ["st(x,1,rlx); a = ld(y,rlx)", "st(y,1,rlx); a = ld(x,rlx)"], SB, "Sometimes"),
    ("SB rel acq", ["st(x,1,rel); a = ld(y,acq)", "st(y,1,rel); a = ld(x,acq)"], SB, "Sometimes"),
    ("SB sc", ["st(x,1,sc); a = ld(y,sc)", "st(y,1,sc); a = ld(x,sc)"], SB, "Never"),
    ("SB sc, one load acquire", ["st(x,1,sc); a = ld(y,sc)", "st(y,1,sc); a = ld(x,acq)"], SB, "Sometimes"),
    ("SB fences", ["st(x,1,rlx); fence(sc); a = ld(y,rlx)", "st(y,1,rlx); fence(sc); a = ld(x,rlx)"], SB, "Never"),
    ("SB one fence", ["st(x,1,rlx); fence(sc); a = ld(y,rlx)", "st(y,1,rlx); a = ld(x,rlx)"], SB, "Sometimes"),
    ("SB acq_rel fences", ["st(x,1,rlx); fence(ar); a = ld(y,rlx)", "st(y,1,rlx); fence(ar); a = ld(x,rlx)"], SB, "Sometimes"),
    ("SB sc accesses against a fence", ["st(x,1,sc); a = ld(y,sc)", "st(y,1,rlx); fence(sc); a = ld(x,rlx)"], SB, "Never"),
    ("SB acq_rel exchanges", ["a = xchg(x,1,ar); a = ld(y,rlx)", "a = xchg(y,1,ar); a = ld(x,rlx)"], SB, "Sometimes"),
    ("SB sc exchanges, relaxed loads", ["a = xchg(x,1,sc); a = ld(y,rlx)", "a = xchg(y,1,sc); a = ld(x,rlx)"], SB, "Sometimes"),
    ("SB reads that add nothing, acq_rel", ["st(x,1,rlx); a = add(y,0,ar)", "st(y,1,rlx); a = add(x,0,ar)"], SB, "Sometimes"),
    ("SB light and heavy", ["st(x,1,rlx); light; a = ld(y,rlx)", "st(y,1,rlx); heavy; a = ld(x,rlx)"], SB, "Never"),
    ("SB two light", ["st(x,1,rlx); light; a = ld(y,rlx)", "st(y,1,rlx); light; a = ld(x,rlx)"], SB, "Sometimes"),
    ("SB light against a fence", ["st(x,1,rlx); light; a = ld(y,rlx)", "st(y,1,rlx); fence(sc); a = ld(x,rlx)"], SB, "Sometimes"),
    ("SB two heavy", ["st(x,1,rlx); heavy; a = ld(y,rlx)", "st(y,1,rlx); heavy; a = ld(x,rlx)"], SB, "Never"),
    ("SB of three, one heavy", ["st(x,1,rlx); light; a = ld(y,rlx)", "st(y,1,rlx); light; a = ld(z,rlx)", "st(z,1,rlx); heavy; a = ld(x,rlx)"],
     "0:a=0 /\\ 1:a=0 /\\ 2:a=0", "Sometimes"),
    ("SB of three, two heavy", ["st(x,1,rlx); light; a = ld(y,rlx)", "st(y,1,rlx); heavy; a = ld(z,rlx)", "st(z,1,rlx); heavy; a = ld(x,rlx)"],
     "0:a=0 /\\ 1:a=0 /\\ 2:a=0", "Never"),
    ("SB of three, light, fence, heavy: Linux forbids it, our rule of pairs does not",
     ["st(x,1,rlx); light; a = ld(y,rlx)", "st(y,1,rlx); fence(sc); a = ld(z,rlx)", "st(z,1,rlx); heavy; a = ld(x,rlx)"],
     "0:a=0 /\\ 1:a=0 /\\ 2:a=0", "Sometimes"),
    ("MP rlx", ["st(x,1,rlx); st(y,1,rlx)", "a = ld(y,rlx); b = ld(x,rlx)"], MP, "Sometimes"),
    ("MP rel acq", ["st(x,1,rlx); st(y,1,rel)", "a = ld(y,acq); b = ld(x,rlx)"], MP, "Never"),
    ("MP rel rlx", ["st(x,1,rlx); st(y,1,rel)", "a = ld(y,rlx); b = ld(x,rlx)"], MP, "Sometimes"),
    ("MP rlx acq", ["st(x,1,rlx); st(y,1,rlx)", "a = ld(y,acq); b = ld(x,rlx)"], MP, "Sometimes"),
    ("MP fences", ["st(x,1,rlx); fence(rel); st(y,1,rlx)", "a = ld(y,rlx); fence(acq); b = ld(x,rlx)"], MP, "Never"),
    ("MP fence before the wrong store", ["fence(rel); st(x,1,rlx); st(y,1,rlx)", "a = ld(y,rlx); fence(acq); b = ld(x,rlx)"], MP, "Sometimes"),
    ("MP fence after both loads", ["st(x,1,rlx); st(y,1,rel)", "a = ld(y,rlx); b = ld(x,rlx); fence(acq)"], MP, "Sometimes"),
    ("MP light and heavy", ["st(x,1,rlx); light; st(y,1,rlx)", "a = ld(y,rlx); heavy; b = ld(x,rlx)"], MP, "Never"),
    ("MP plain, rel acq", ["*d = 1; st(y,1,rel)", "if (ld(y,acq) == 1) { a = *d; }"], "1:a=2", "Never"),
    ("MP plain, rlx", ["*d = 1; st(y,1,rlx)", "if (ld(y,acq) == 1) { a = *d; }"], "1:a=2", "Race"),
    ("MP plain, without a look", ["*d = 1; st(y,1,rel)", "a = ld(y,acq); b = *d"], MP, "Race"),
    ("plain stores", ["*d = 1", "*d = 2"], "d=1", "Race"),
    ("plain loads", ["a = *d", "a = *d"], "0:a=0", "Always"),
    ("LB rlx: RC11 forbids it, C11 does not", ["a = ld(x,rlx); st(y,1,rlx)", "a = ld(y,rlx); st(x,1,rlx)"], LB, "Never"),
    ("out of thin air", ["a = ld(x,rlx); st(y,a,rlx)", "a = ld(y,rlx); st(x,a,rlx)"], LB, "Never"),
    ("CoRR", ["st(x,1,rlx)", "a = ld(x,rlx); b = ld(x,rlx)"], MP, "Never"),
    ("CoWW", ["st(x,1,rlx); st(x,2,rlx)"], "x=1", "Never"),
    ("CoWR", ["st(x,1,rlx); a = ld(x,rlx)", "st(x,2,rlx)"], "0:a=2 /\\ x=1", "Never"),
    ("CoRW1", ["a = ld(x,rlx); st(x,1,rlx)"], "0:a=1", "Never"),
    ("CoRW2", ["a = ld(x,rlx); st(x,1,rlx)", "st(x,2,rlx)"], "0:a=2 /\\ x=2", "Never"),
    ("two readers, two orders", ["st(x,1,rlx)", "st(x,2,rlx)", "a = ld(x,rlx); b = ld(x,rlx)", "a = ld(x,rlx); b = ld(x,rlx)"],
     "2:a=1 /\\ 2:b=2 /\\ 3:a=2 /\\ 3:b=1", "Never"),
    ("2+2W rlx", ["st(x,1,rlx); st(y,2,rlx)", "st(y,1,rlx); st(x,2,rlx)"], W22, "Sometimes"),
    ("2+2W rel", ["st(x,1,rel); st(y,2,rel)", "st(y,1,rel); st(x,2,rel)"], W22, "Sometimes"),
    ("2+2W sc", ["st(x,1,sc); st(y,2,sc)", "st(y,1,sc); st(x,2,sc)"], W22, "Never"),
    ("2+2W fences", ["st(x,1,rlx); fence(sc); st(y,2,rlx)", "st(y,1,rlx); fence(sc); st(x,2,rlx)"], W22, "Never"),
    ("R fences", ["st(x,1,rlx); fence(sc); st(y,1,rlx)", "st(y,2,rlx); fence(sc); a = ld(x,rlx)"], "y=2 /\\ 1:a=0", "Never"),
    ("R acq_rel fences", ["st(x,1,rlx); fence(ar); st(y,1,rlx)", "st(y,2,rlx); fence(ar); a = ld(x,rlx)"], "y=2 /\\ 1:a=0", "Sometimes"),
    ("S rel acq", ["st(x,2,rlx); st(y,1,rel)", "a = ld(y,acq); st(x,1,rlx)"], "1:a=1 /\\ x=2", "Never"),
    ("S rlx", ["st(x,2,rlx); st(y,1,rlx)", "a = ld(y,acq); st(x,1,rlx)"], "1:a=1 /\\ x=2", "Sometimes"),
    ("IRIW rlx", ["st(x,1,rlx)", "a = ld(x,rlx); b = ld(y,rlx)", "a = ld(y,rlx); b = ld(x,rlx)", "st(y,1,rlx)"], IRIW, "Sometimes"),
    ("IRIW rel acq", ["st(x,1,rel)", "a = ld(x,acq); b = ld(y,acq)", "a = ld(y,acq); b = ld(x,acq)", "st(y,1,rel)"], IRIW, "Sometimes"),
    ("IRIW sc", ["st(x,1,sc)", "a = ld(x,sc); b = ld(y,sc)", "a = ld(y,sc); b = ld(x,sc)", "st(y,1,sc)"], IRIW, "Never"),
    ("IRIW fences", ["st(x,1,rlx)", "a = ld(x,rlx); fence(sc); b = ld(y,rlx)", "a = ld(y,rlx); fence(sc); b = ld(x,rlx)", "st(y,1,rlx)"], IRIW, "Never"),
    ("IRIW acq sc: RC11 allows it, C11 does not", ["st(x,1,sc)", "a = ld(x,acq); b = ld(y,sc)", "a = ld(y,acq); b = ld(x,sc)", "st(y,1,sc)"], IRIW,
     "Sometimes"),
    ("Z6.U: RC11 allows it, C11 does not", ["st(x,1,sc); st(y,1,rel)", "a = add(y,1,sc); b = ld(y,rlx)", "st(y,3,sc); a = ld(x,sc)"],
     "1:a=1 /\\ 1:b=3 /\\ 2:a=0", "Sometimes"),
    ("RWC fences: RC11 forbids it, C11 does not", ["st(x,1,rlx)", "a = ld(x,rlx); fence(sc); b = ld(y,rlx)", "st(y,1,rlx); fence(sc); a = ld(x,rlx)"],
     "1:a=1 /\\ 1:b=0 /\\ 2:a=0", "Never"),
    ("RWC rel acq", ["st(x,1,rel)", "a = ld(x,acq); b = ld(y,acq)", "st(y,1,rel); a = ld(x,acq)"], "1:a=1 /\\ 1:b=0 /\\ 2:a=0", "Sometimes"),
    ("W+RWC fences", ["st(x,1,rlx); st(y,1,rel)", "a = ld(y,acq); fence(sc); b = ld(z,rlx)", "st(z,1,rlx); fence(sc); a = ld(x,rlx)"],
     "1:a=1 /\\ 1:b=0 /\\ 2:a=0", "Never"),
    ("WRC rel acq", ["st(x,1,rel)", "a = ld(x,acq); st(y,1,rel)", "a = ld(y,acq); b = ld(x,rlx)"], "1:a=1 /\\ 2:a=1 /\\ 2:b=0", "Never"),
    ("WRC rlx first", ["st(x,1,rlx)", "a = ld(x,rlx); st(y,1,rel)", "a = ld(y,acq); b = ld(x,rlx)"], "1:a=1 /\\ 2:a=1 /\\ 2:b=0", "Never"),
    ("WRC rlx", ["st(x,1,rlx)", "a = ld(x,rlx); st(y,1,rlx)", "a = ld(y,rlx); b = ld(x,rlx)"], "1:a=1 /\\ 2:a=1 /\\ 2:b=0", "Sometimes"),
    ("ISA2", ["st(x,1,rlx); st(y,1,rel)", "a = ld(y,acq); st(z,1,rel)", "a = ld(z,acq); b = ld(x,rlx)"], "1:a=1 /\\ 2:a=1 /\\ 2:b=0", "Never"),
    ("ISA2 rlx in the middle", ["st(x,1,rlx); st(y,1,rel)", "a = ld(y,rlx); st(z,1,rel)", "a = ld(z,acq); b = ld(x,rlx)"],
     "1:a=1 /\\ 2:a=1 /\\ 2:b=0", "Sometimes"),
    ("two additions", ["a = add(x,1,rlx)", "a = add(x,1,rlx)"], "x=2", "Always"),
    ("two additions read the same", ["a = add(x,1,rlx)", "a = add(x,1,rlx)"], SB, "Never"),
    ("nothing between an exchange and what it read", ["a = xchg(x,2,rlx)", "st(x,1,rlx); b = ld(x,rlx); c = ld(x,rlx)"],
     "0:a=0 /\\ 1:b=2", "Never"),
    ("one compare-exchange wins", ["e = 0; a = cas(x,&e,1,rlx,rlx)", "e = 0; a = cas(x,&e,2,rlx,rlx)"], "0:a=1 /\\ 1:a=1", "Never"),
    ("one loses, and knows to whom", ["e = 0; a = cas(x,&e,1,rlx,rlx)", "e = 0; a = cas(x,&e,2,rlx,rlx)"], "~(0:a=1 \\/ 0:e=2)", "Never"),
    ("a compare-exchange that fails acquires as it says", ["st(x,1,rlx); st(y,1,rel)", "e = 0; a = cas(y,&e,2,rlx,acq); b = ld(x,rlx)"],
     "1:e=1 /\\ 1:b=0", "Never"),
    ("a compare-exchange that fails does not acquire", ["st(x,1,rlx); st(y,1,rel)", "e = 0; a = cas(y,&e,2,acq,rlx); b = ld(x,rlx)"],
     "1:e=1 /\\ 1:b=0", "Sometimes"),
    ("release sequence through another's addition", ["st(x,1,rlx); st(y,1,rel)", "a = add(y,1,rlx)", "a = ld(y,acq); b = ld(x,rlx)"],
     "2:a=2 /\\ 1:a=1 /\\ 2:b=0", "Never"),
    ("none through another's store", ["st(x,1,rlx); st(y,1,rel)", "a = ld(y,rlx); st(y,2,rlx)", "a = ld(y,acq); b = ld(x,rlx)"],
     "1:a=1 /\\ 2:a=2 /\\ 2:b=0", "Sometimes"),
    ("none through one's own store: C++20, C11 had it", ["st(x,1,rlx); st(y,1,rel); st(y,2,rlx)", "a = ld(y,acq); b = ld(x,rlx)"], "1:a=2 /\\ 1:b=0",
     "Sometimes"),
    ("a fence's, through an addition", ["st(x,1,rlx); fence(rel); a = add(y,1,rlx)", "b = add(y,1,rlx)", "a = ld(y,rlx); fence(acq); b = ld(x,rlx)"],
     "0:a=0 /\\ 2:a=2 /\\ 2:b=0", "Never"),
    ("a lock by exchange", ["if (xchg(x,1,acq) == 0) { *d = 1; st(x,0,rel); }", "if (xchg(x,1,acq) == 0) { *d = 2; st(x,0,rel); }"], "d=3", "Never"),
    ("a lock with a relaxed release", ["if (xchg(x,1,acq) == 0) { *d = 1; st(x,0,rlx); }", "if (xchg(x,1,acq) == 0) { *d = 2; st(x,0,rel); }"], "d=3", "Race"),
    ("a lock with a relaxed exchange", ["if (xchg(x,1,rlx) == 0) { *d = 1; st(x,0,rel); }", "if (xchg(x,1,acq) == 0) { *d = 2; st(x,0,rel); }"], "d=3", "Race"),
    ("a count of references", ["b = *d; a = add(x,1,ar); if (a == 1) { *d = 2; }", "b = *d; a = add(x,1,ar); if (a == 1) { *d = 2; }"], "d=2", "Always"),
    ("a count of references that does not acquire", ["b = *d; a = add(x,1,rel); if (a == 1) { *d = 2; }",
                                                     "b = *d; a = add(x,1,rel); if (a == 1) { *d = 2; }"], "d=2", "Race"),
    ("the last of a count sees all", ["st(y,1,rlx); a = add(x,1,ar); b = ld(z,rlx)", "st(z,1,rlx); a = add(x,1,ar); b = ld(y,rlx)"],
     "(0:a=1 /\\ 0:b=0) \\/ (1:a=1 /\\ 1:b=0)", "Never"),
    ("the last of a relaxed count does not", ["st(y,1,rlx); a = add(x,1,rlx); b = ld(z,rlx)", "st(z,1,rlx); a = add(x,1,rlx); b = ld(y,rlx)"],
     "(0:a=1 /\\ 0:b=0) \\/ (1:a=1 /\\ 1:b=0)", "Sometimes"),
    ("Peterson, sc", ["st(x,1,sc); st(z,2,sc); a = ld(y,sc); b = ld(z,sc)", "st(y,1,sc); st(z,1,sc); a = ld(x,sc); b = ld(z,sc)"],
     "(0:a=0 \\/ 0:b=1) /\\ (1:a=0 \\/ 1:b=2)", "Never"),
    ("Peterson, rel acq", ["st(x,1,rel); st(z,2,rel); a = ld(y,acq); b = ld(z,acq)", "st(y,1,rel); st(z,1,rel); a = ld(x,acq); b = ld(z,acq)"],
     "(0:a=0 \\/ 0:b=1) /\\ (1:a=0 \\/ 1:b=2)", "Sometimes"),
]

X86_CATALOGUE = [
    ("SB", ["movl $1,(x); movl (y),%eax", "movl $1,(y); movl (x),%eax"], "0:rax=0 /\\ 1:rax=0", "Sometimes"),
    ("SB mfences", ["movl $1,(x); mfence; movl (y),%eax", "movl $1,(y); mfence; movl (x),%eax"], "0:rax=0 /\\ 1:rax=0", "Never"),
    ("SB one mfence", ["movl $1,(x); mfence; movl (y),%eax", "movl $1,(y); movl (x),%eax"], "0:rax=0 /\\ 1:rax=0", "Sometimes"),
    ("SB xchgl", ["movl $1,%ebx; xchgl %ebx,(x); movl (y),%eax", "movl $1,%ebx; xchgl %ebx,(y); movl (x),%eax"], "0:rax=0 /\\ 1:rax=0", "Never"),
    ("SB membarrier", ["movl $1,(x); movl (y),%eax", "movl $1,(y); membarrier; movl (x),%eax"], "0:rax=0 /\\ 1:rax=0", "Never"),
    ("SB of three, one membarrier", ["movl $1,(x); movl (y),%eax", "movl $1,(y); movl (z),%eax", "movl $1,(z); membarrier; movl (x),%eax"],
     "0:rax=0 /\\ 1:rax=0 /\\ 2:rax=0", "Sometimes"),
    ("SB of three, two membarriers", ["movl $1,(x); movl (y),%eax", "movl $1,(y); membarrier; movl (z),%eax",
                                      "movl $1,(z); membarrier; movl (x),%eax"], "0:rax=0 /\\ 1:rax=0 /\\ 2:rax=0", "Never"),
    ("MP", ["movl $1,(x); movl $1,(y)", "movl (y),%eax; movl (x),%ebx"], "1:rax=1 /\\ 1:rbx=0", "Never"),
    ("LB", ["movl (x),%eax; movl $1,(y)", "movl (y),%eax; movl $1,(x)"], "0:rax=1 /\\ 1:rax=1", "Never"),
    ("2+2W", ["movl $1,(x); movl $2,(y)", "movl $1,(y); movl $2,(x)"], "x=1 /\\ y=1", "Never"),
    ("R", ["movl $1,(x); movl $1,(y)", "movl $2,(y); movl (x),%eax"], "y=2 /\\ 1:rax=0", "Sometimes"),
    ("IRIW", ["movl $1,(x)", "movl (x),%eax; movl (y),%ebx", "movl (y),%eax; movl (x),%ebx", "movl $1,(y)"],
     "1:rax=1 /\\ 1:rbx=0 /\\ 2:rax=1 /\\ 2:rbx=0", "Never"),
    ("RWC", ["movl $1,(x)", "movl (x),%eax; movl (y),%ebx", "movl $1,(y); movl (x),%eax"], "1:rax=1 /\\ 1:rbx=0 /\\ 2:rax=0", "Sometimes"),
    ("WRC", ["movl $1,(x)", "movl (x),%eax; movl $1,(y)", "movl (y),%eax; movl (x),%ebx"], "1:rax=1 /\\ 2:rax=1 /\\ 2:rbx=0", "Never"),
    ("own store first: n6", ["movl $1,(x); movl (x),%eax; movl (y),%ebx", "movl $2,(y); movl $2,(x)"], "0:rax=1 /\\ 0:rbx=0 /\\ x=1", "Sometimes"),
    ("n5", ["movl $1,(x); movl (x),%eax", "movl $2,(x); movl (x),%eax"], "0:rax=2 /\\ 1:rax=1", "Never"),
    ("two additions", ["movl $1,%eax; lock xaddl %eax,(x)", "movl $1,%eax; lock xaddl %eax,(x)"], "0:rax=0 /\\ 1:rax=0", "Never"),
]


def x86_test(threads, condition, expected="Never", name="x86"):
    columns = [[text.strip() for text in thread.split(";")] for thread in threads]
    rows = [" | ".join(f"P{t}" for t in range(len(columns)))]
    rows += [" | ".join(row) for row in itertools.zip_longest(*columns, fillvalue="")]
    return check.Test(f"X86_64 {name}\n(*\n@expect {expected} *)\n{{ }}\n" + "".join(f" {row} ;\n" for row in rows) + f"exists ({condition})\n", name)


class Catalogue(unittest.TestCase):
    def test_c(self):
        for name, threads, condition, result in CATALOGUE:
            with self.subTest(name):
                self.assertEqual(c_test(threads, condition, result, name).enumerate().result, result)

    def test_x86(self):
        for name, threads, condition, result in X86_CATALOGUE:
            with self.subTest(name):
                self.assertEqual(x86_test(threads, condition, result, name).enumerate().result, result)

    def test_no_execution_comes_twice(self):
        for name, threads, condition, _ in CATALOGUE:
            texts = [str(sorted(enumeration_key(e))) for e in c11.executions(program_of(c_test(threads, condition)))]
            self.assertEqual(len(texts), len(set(texts)), name)


def program_of(test):
    return c11.Program(test.init, test.threads)


def enumeration_key(execution):
    """What an execution is, whatever the order in which its events came."""
    seen, name = {}, {}
    for number, event in enumerate(execution.events):
        seen[event.thread] = seen.get(event.thread, 0) + 1
        name[number] = f"{event.thread}.{seen[event.thread]}"
    for number, source in enumerate(execution.source):
        if source is not None:
            yield f"{name[number]} reads {name[source]}"
    for place, row in execution.stores.items():
        yield f"{place}: " + " ".join(name[store] for store in row)


# ---- the axioms, taken literally ------------------------------------------------------------------------------------------
# A program is a list of threads, each a list of (kind, place, order, value): load, store, add, fence.


def compose(*relations):
    result = relations[0]
    for relation in relations[1:]:
        to = {}
        for a, b in relation:
            to.setdefault(a, []).append(b)
        result = {(a, c) for a, b in result for c in to.get(b, ())}
    return result


def closure(relation):
    result = set(relation)
    while True:
        more = result | compose(result, result)
        if more == result:
            return result
        result = more


def acyclic(relation):
    return all(a != b for a, b in closure(relation))


def literal(program):
    """Final states (values read, thread by thread, and memory) after RC11's definitions, over every reads-from and every modification order."""
    places = sorted({place for thread in program for _, place, _, _ in thread if place})
    events = [(-1, "W", place, PLAIN, 0) for place in places]  # (thread, kind, place, order, value)
    sb, rmw = set(), set()
    for t, thread in enumerate(program):
        mine = []
        for kind, place, order, value in thread:
            for part in {"load": "R", "store": "W", "add": "RW", "fence": "F"}[kind]:
                mine.append(len(events))
                events.append((t, part, place, order, value))
            if kind == "add":
                rmw.add((mine[-2], mine[-1]))
        sb |= {(a, b) for a, b in itertools.combinations(mine, 2)} | {(i, b) for i in range(len(places)) for b in mine}
    reads = [e for e, event in enumerate(events) if event[1] == "R"]
    writes = {place: [e for e, event in enumerate(events) if event[1] == "W" and event[2] == place] for place in places}
    ident = lambda wanted: {(e, e) for e, event in enumerate(events) if wanted(event)}  # noqa: E731
    everybody = ident(lambda e: True)
    same = {(a, b) for a, x in enumerate(events) for b, y in enumerate(events) if x[2] and x[2] == y[2]}
    released, acquired = ident(lambda e: e[3] in c11.RELEASES), ident(lambda e: e[3] in c11.ACQUIRES)
    fences, atomic = ident(lambda e: e[1] == "F"), ident(lambda e: e[1] in "RW" and e[3] != PLAIN)
    strong = ident(lambda e: e[3] in c11.STRONG)
    strong_fences, strong_accesses = strong & fences, strong - fences
    found = set()
    for sources in itertools.product(*(writes[events[r][2]] for r in reads)):
        rf = set(zip(sources, reads))
        if not acyclic(sb | rf):
            continue
        sequence = closure(compose(rf, rmw)) | everybody
        sw = compose(released, compose(fences, sb) | everybody, ident(lambda e: e[1] == "W" and e[3] != PLAIN), sequence, rf, atomic,
                     compose(sb, fences) | everybody, acquired)
        hb = closure(sb | {(a, b) for a, b in sw if a != b})
        values = {}

        def value(e):
            if e not in values:
                if events[e][1] == "R":
                    values[e] = value(sources[reads.index(e)])
                else:
                    before = [r for r, w in rmw if w == e]
                    values[e] = events[e][4] + (value(before[0]) if before else 0)
            return values[e]

        for rows in itertools.product(*(itertools.permutations(writes[p][1:]) for p in places)):
            mo = set()
            for place, row in zip(places, rows):
                mo |= set(itertools.combinations((writes[place][0], *row), 2))
            rb = {(r, c) for s, r in rf for b, c in mo if b == s}
            eco = closure(rf | mo | rb)
            if any(a == b for a, b in hb | compose(hb, eco)) or rmw & compose(rb, mo):
                continue
            far = sb - same
            scb = sb | compose(far, hb, far) | hb & same | mo | rb
            maybe = hb | everybody
            base = compose(strong_accesses | compose(strong_fences, maybe), scb, strong_accesses | compose(maybe, strong_fences))
            between = hb | compose(hb, eco, hb)
            light = ident(lambda e: e[3] == "light")
            heavy = ident(lambda e: e[3] == "heavy")
            of_fences = compose(strong_fences, between, strong_fences) | compose(light, between, heavy) | compose(heavy, between, light)
            if acyclic(base | of_fences):
                memory = tuple(value((writes[p][0], *row)[-1]) for p, row in zip(places, rows))
                found.add((tuple(value(r) for r in reads), memory))
    return found


PLAIN = c11.PLAIN


def random_program(rng, threads, most):
    """Threads of at most `most` events, which add up to at most nine."""
    result, left = [], 9
    for _ in range(threads):
        thread = []
        for _ in range(rng.randint(1, most)):
            kind = rng.choice(["load", "load", "store", "store", "add", "fence"])
            orders = {"load": ["relaxed", "acquire", "seq_cst"], "store": ["relaxed", "release", "seq_cst"],
                      "add": ["relaxed", "acquire", "release", "acq_rel", "seq_cst"], "fence": ["acquire", "release", "acq_rel", "seq_cst", "light", "heavy"]}
            cost = 2 if kind == "add" else 1
            if cost <= left:
                left -= cost
                thread.append((kind, None if kind == "fence" else rng.choice("xy"), rng.choice(orders[kind]), 0 if kind in ("load", "fence") else rng.randint(1, 2)))
        result.append(thread)
    return result


def as_c(program):
    bodies = []
    for thread in program:
        text, loads = "", 0
        for kind, place, order, value in thread:
            if order in ("light", "heavy"):
                text += "atomic_signal_fence(memory_order_seq_cst);" if order == "light" else "membarrier();"
                continue
            order = f"memory_order_{order}"
            if kind in ("load", "add"):
                text += f"int r{loads} = "
                loads += 1
            text += {"load": f"atomic_load_explicit({place}, {order});", "store": f"atomic_store_explicit({place}, {value}, {order});",
                     "add": f"atomic_fetch_add_explicit({place}, {value}, {order});", "fence": f"atomic_thread_fence({order});"}[kind]
        bodies.append(("atomic_int *x, atomic_int *y", text))
    return c11.Program({}, bodies)


def states_of(program, places, state):
    loads = [sum(1 for kind, *_ in thread if kind in ("load", "add")) for thread in program]
    return (tuple(state[f"{t}:r{r}"] for t, count in enumerate(loads) for r in range(count)), tuple(state[place] for place in places))


def as_x86(program):
    """As compilers translate it: fences of seq_cst and behind stores of seq_cst, else none."""
    columns = []
    for thread in program:
        column, loads = [], 0
        for kind, place, order, value in thread:
            if kind == "fence":
                column += {"seq_cst": ["mfence"], "heavy": ["membarrier"]}.get(order, [])
            elif kind == "store":
                column += [f"movl ${value},({place})"] + (["mfence"] if order == "seq_cst" else [])
            else:
                column += [f"movl ({place}),%e{loads}"] if kind == "load" else [f"movl ${value},%e{loads}", f"lock xaddl %e{loads},({place})"]
                loads += 1
        columns.append(column)
    return x86.Program({}, columns)


class Agreement(unittest.TestCase):
    def programs(self, count, seed):
        rng = random.Random(seed)
        for _ in range(count):
            yield random_program(rng, rng.randint(2, 3), 4)

    def test_with_the_axioms(self):
        for program in self.programs(COUNT, 1):
            places = sorted({place for thread in program for _, place, _, _ in thread if place})
            ours = {states_of(program, places, e.final()) for e in c11.executions(as_c(program))}
            self.assertEqual(ours, literal(program), program)

    def test_what_the_machine_does_the_model_allows(self):
        for program in self.programs(3 * COUNT, 2):
            places = sorted({place for thread in program for _, place, _, _ in thread if place})
            model = {states_of(program, places, e.final()) for e in c11.executions(as_c(program))}
            machine = {states_of(program, places, state) for state in x86.final_states(as_x86(program))}
            self.assertLessEqual(machine, model, program)


COUNT = 150


class Files(unittest.TestCase):
    def refused(self, text, why):
        with self.assertRaisesRegex(check.Failure, why):
            check.Test(text, "t").enumerate()

    def test_what_makes_no_sense_is_refused(self):
        c = "C t\n(*\n@expect Never *)\n{ }\nP0(atomic_int *x, int *d) {\n%s\n}\nexists (%s)\n"
        self.refused("C t\n{ }\nP0(atomic_int *x) { }\nexists (x=1)\n", "no @expect")
        self.refused("LISA t\n", "dialect")
        self.refused(c % ("int a = atomic_load_explicit(y, memory_order_relaxed);", "x=1"), "y: not an atomic")
        self.refused(c % ("int a = atomic_load_explicit(x, memory_order_consume);", "x=1"), "no memory order")
        self.refused(c % ("*x = 1;", "x=1"), "not a plain")
        self.refused(c % ("while (1) { }", "x=1"), "while")
        self.refused(c % ("", "y=1"), "there is no y")
        self.refused(c % ("", "(x=1"), "parenthesis")

    def test_a_mutant_that_does_not_fit_is_refused(self):
        text = c_text = "C t\n(*\n@expect Always\n@mutant m Never what it does\n@change P0: 2 => 3 *)\n{ }\nP0(atomic_int *x) { atomic_store(x, %s); }\nexists (x=2)\n"
        test = check.Test(text % 2, "t")
        self.assertEqual((test.enumerate().result, test.enumerate(test.mutants[0]).result), ("Always", "Never"))
        test = check.Test(c_text % 1, "t")
        with self.assertRaisesRegex(check.Failure, "not exactly one"):
            test.enumerate(test.mutants[0])
        self.refused(text.replace("Never", "Always") % 2, "differs")

    def test_code_that_has_changed_is_told(self):
        test = check.Test("C t\n(* f() and g()\n@code dev: set -euo pipefail\n@code dev: no such line\n@expect Never *)\n{ }\nP0(atomic_int *x) { }\nexists (x=1)\n", "t")
        self.assertEqual(list(test.misfits({"f"})), ["there is no g()", "dev has no: no such line"])


if __name__ == "__main__":
    unittest.main()
