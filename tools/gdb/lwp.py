# SPDX-License-Identifier: BSD-2-Clause
"""LWPs in gdb, of a running program and in a core file; `source` it, or let gdb load it beside the library.

    info lwps [-all] [ID | NAME | STATE]...   a line for each LWP, newest last; of many only how many wait for what, unless -all
    lwp [ID]                                  that LWP's stack is the one to look at (bt, frame, info locals), or says which it is
    lwp off                                   the thread's own again
    lwp apply (all | ID...) COMMAND           COMMAND at each of them, in the newest frame that is not the library's
    $lwp(ID)                                  the address of its lwp_t

Needs no debug information of the library: lwp_debug_info (src/proc/debugger.h) says where everything is.  What it shows of an LWP that does not run are the
frames from where it was switched out; of one that runs, or waits in its kernel thread (adopted, preempted in libc, blocked), its thread is selected.
Nothing is written to the program, and no function of it is called.
"""

import collections
import fnmatch
import functools
import struct

import gdb
import gdb.unwinder
from gdb.FrameDecorator import FrameDecorator

VERSION = 1
STATES = {1: "idl", 2: "run", 3: "sleep", 4: "stop", 5: "zomb", 7: "onproc", 8: "suspended"}
LISTED = 200  # more than so many are counted, not listed

# What jump_fcontext of Boost.Context keeps on the stack of a context that is switched out, by offset from its saved stack pointer.
X86_64 = {"r12": 0x08, "r13": 0x10, "r14": 0x18, "r15": 0x20, "rbx": 0x28, "rbp": 0x30, "rip": 0x38}
X86_64_SIZE = 0x40


class Memory:
    """The program's memory, and the words of lwp_debug_info."""

    def __init__(self):
        try:
            info = int(gdb.parse_and_eval("(unsigned long)&lwp_debug_info"))
        except gdb.error:
            raise gdb.GdbError("lwp: there is no lwp_debug_info: the program does not have the library, or an older one") from None
        self.inferior = gdb.selected_inferior()
        try:
            version, words, table, self.parts, self.nparts = struct.unpack("<16xIIQQQ", self.read(info, 48))
        except gdb.MemoryError:
            raise gdb.GdbError("lwp: the program does not run") from None
        if version != VERSION:
            raise gdb.GdbError(f"lwp: this script is for version {VERSION} of lwp_debug_info, the program has {version}")
        self.word = {}
        for i in range(words):
            name, value = struct.unpack("<24sQ", self.read(table + 32 * i, 32))
            self.word[name.rstrip(b"\0").decode()] = value

    def read(self, address, size):
        return self.inferior.read_memory(address, size).tobytes()

    def pointer(self, address):
        return struct.unpack("<Q", self.read(address, 8))[0]

    def number(self, address, form="<i"):
        return struct.unpack(form, self.read(address, struct.calcsize(form)))[0]

    @functools.lru_cache(maxsize=256)
    def text(self, address):
        """A string of the program, or "" where there is none to be had."""
        try:
            return self.inferior.read_memory(address, 64).tobytes().split(b"\0")[0].decode(errors="replace") if address else ""
        except gdb.MemoryError:
            pass
        try:
            return gdb.Value(address).cast(gdb.lookup_type("char").pointer()).string(length=64).split("\0")[0]
        except gdb.error:
            return ""


class Lwp:
    """One LWP, as its lwp_t said when it was read."""

    def __init__(self, memory, address):
        word = memory.word
        image = memory.read(address, word["lwp.size"])

        def at(name, form):
            return struct.unpack_from(form, image, word[name])[0]

        self.memory = memory
        self.address = address
        self.id = at("lwp.ln_lid", "<i")
        self.next = at("lwp.ln_next", "<Q")
        self.state = STATES.get(at("lwp.l_stat", "<B"), "?")
        self.name = image[word["lwp.l_name"] :][: word["lwp.name_size"]].split(b"\0")[0].decode(errors="replace")
        self.priority = at("lwp.l_priority", "<h")
        self.vcpu = at("lwp.l_cpu", "<Q")
        self.wchan = at("lwp.l_wchan", "<Q")
        self.wmesg = at("lwp.l_wmesg", "<Q") if self.wchan else 0
        self.syncobj = at("lwp.l_syncobj", "<Q") if self.wchan else 0
        self.frozen = at("lwp.l_frozen", "<Q")
        self.proc = at("lwp.l_proc", "<Q")
        self.sp = at("lwp.sp", "<Q")

    def waits_for(self):
        """(what kind of thing, why in a word), or None."""
        if not self.wchan:
            return None
        kind = self.memory.text(self.memory.pointer(self.syncobj + self.memory.word["syncobj.so_name"])) if self.syncobj else ""
        return kind, self.memory.text(self.wmesg)

    def thread(self):
        """The gdb thread that has its stack, or None if it is switched out."""
        memory = self.memory
        vcpu = 0
        if self.state == "onproc" or (self.vcpu and self.vcpu_index() < 0):
            vcpu = self.vcpu  # of a kernel thread of the application: always
        elif self.frozen and memory.number(self.frozen + memory.word["vcpu.vc_frozen"], "<B"):
            vcpu = self.frozen  # it waits in a signal handler of that kernel thread
        if not vcpu:
            return None
        tid = memory.number(vcpu + memory.word["vcpu.vc_tid"])
        for thread in memory.inferior.threads():
            if thread.ptid[1] == tid:
                return thread
        return None

    def vcpu_index(self):
        return self.memory.number(self.vcpu + self.memory.word["vcpu.vc_index"], "<h")

    def title(self):
        return f"LWP {self.id} '{self.name}' ({self.state})"


def lwps(memory):
    """All of them, by id: the buckets of each part's id table."""
    word = memory.word
    found = []
    first = 1 << word["part.first_bits"]
    part = memory.pointer(memory.parts)
    for _ in range(memory.number(memory.nparts, "<I")):
        buckets = memory.number(part + word["part.layout"], "<Q") & 0xFFFFFFFF
        begin, size, segment = 0, first, 0
        while begin < buckets:
            here = min(size, buckets - begin)
            table = memory.pointer(part + word["part.segment"] + 8 * segment)
            for (address,) in struct.iter_unpack("<Q", memory.read(table, 8 * here)):
                while address:
                    lwp = Lwp(memory, address)
                    found.append(lwp)
                    address = lwp.next
            begin += here
            size = first << segment  # segment s > 0 is as large as all before it together
            segment += 1
        part += word["part.size"]
    return sorted(found, key=lambda lwp: lwp.id)


def lwp_by(memory, text):
    try:
        number = int(str(text), 0)
    except ValueError:
        raise gdb.GdbError(f"lwp: '{text}' is no id of an LWP") from None
    for lwp in lwps(memory):
        if lwp.id == number:
            return lwp
    raise gdb.GdbError(f"lwp: there is no LWP {number}")


class Chosen:
    """The LWP whose frames stand above those of the selected thread, if one was chosen that is switched out."""

    lwp = None
    thread = None
    top = None  # (pc, sp) of the thread itself: the frame that the LWP's frames are put above

    @classmethod
    def set(cls, lwp):
        cls.drop()
        thread = gdb.selected_thread()
        frame = gdb.newest_frame()
        cls.top = int(frame.read_register("rip")), int(frame.read_register("rsp"))
        cls.lwp, cls.thread = lwp, thread.ptid
        FILTER.enabled = True
        gdb.invalidate_cached_frames()

    @classmethod
    def drop(cls, _event=None):
        if cls.lwp is not None:
            cls.lwp = None
            FILTER.enabled = False
            gdb.invalidate_cached_frames()


class FrameId:
    def __init__(self, sp, pc):
        self.sp = gdb.Value(sp)
        self.pc = gdb.Value(pc)


class SwitchedOut(gdb.unwinder.Unwinder):
    """Says that what called the thread's newest frame is the chosen LWP's last switch."""

    def __init__(self):
        super().__init__("lwp")

    def __call__(self, pending):
        lwp = Chosen.lwp
        if lwp is None or gdb.selected_thread() is None or gdb.selected_thread().ptid != Chosen.thread:
            return None
        if (int(pending.read_register("rip")), int(pending.read_register("rsp"))) != Chosen.top:
            return None
        word = gdb.lookup_type("long")
        saved = lwp.memory.read(lwp.sp, X86_64_SIZE)
        # The id of this frame says that it is just below the LWP's: gdb wants stacks to grow in one direction.
        info = pending.create_unwind_info(FrameId(lwp.sp, Chosen.top[0]))
        for register, offset in X86_64.items():
            info.add_saved_register(register, gdb.Value(saved[offset : offset + 8], word))
        info.add_saved_register("rsp", gdb.Value((lwp.sp + X86_64_SIZE).to_bytes(8, "little"), word))
        return info


class Named(FrameDecorator):
    """A frame by the name of its function alone, as a backtrace without filters has it."""

    def function(self):
        return self.inferior_frame().name() or super().function()


class WithoutTheThread:
    """Leaves the thread's own frame out of the backtrace of an LWP; on while one is chosen."""

    name = "lwp"
    priority = 1000
    enabled = False

    def filter(self, frames):
        for frame in frames:
            if frame.inferior_frame().level() != 0:
                yield Named(frame)


FILTER = WithoutTheThread()
gdb.frame_filters[FILTER.name] = FILTER


def select(lwp):
    """Its frames are what gdb shows from now on."""
    Chosen.drop()
    thread = lwp.thread()
    if thread is not None:
        thread.switch()
        own_frame(gdb.newest_frame()).select()
        return
    if lwp.state in ("onproc", "idl", "zomb") or lwp.vcpu_index() < 0:
        raise gdb.GdbError(f"lwp: {lwp.title()} has no stack to look at")
    if gdb.selected_inferior().architecture().name() != "i386:x86-64":
        raise gdb.GdbError("lwp: the stacks of LWPs that do not run are known on x86-64 only")
    if lwp.memory.number(lwp.sp + X86_64["rip"], "<Q") == 0:
        raise gdb.GdbError(f"lwp: the stack of {lwp.title()} is not in this core file (gcore of older gdbs leaves out what has guard pages)")
    Chosen.set(lwp)
    frame = gdb.newest_frame().older()
    if frame is None:
        Chosen.drop()
        raise gdb.GdbError(f"lwp: the stack of {lwp.title()} cannot be unwound")
    own_frame(frame).select()


def own_frame(newest):
    """The newest frame that is not the library's, or the newest."""
    frame = newest
    while frame is not None:
        outer = frame  # whose code it is: what is inlined goes by the function that it is in
        while outer.type() == gdb.INLINE_FRAME and outer.older() is not None:
            outer = outer.older()
        if not of_library(frame) and not of_library(outer):
            return frame
        frame = frame.older()
    return newest


def of_library(frame):
    if frame.name() is None or frame.name().startswith(OF_LIBRARY):
        return True
    # Of a library built with -g1 the lines know functions without their namespaces; its table of symbols knows them whole.
    return frame.type() == gdb.NORMAL_FRAME and gdb.execute(f"info symbol {frame.pc():#x}", to_string=True).startswith(OF_LIBRARY)


OF_LIBRARY = ("lwp::", "_lwp_", "lwp_")


class InfoLwps(gdb.Command):
    """LWPs of the program: info lwps [-all] [ID | NAME | STATE]...
NAME is a pattern as of file names.  More than 200 are counted by what they wait for, unless -all."""

    def __init__(self):
        super().__init__("info lwps", gdb.COMMAND_STATUS)

    def invoke(self, argument, _from_tty):
        memory = Memory()
        wanted = gdb.string_to_argv(argument)
        every = "-all" in wanted
        wanted = [w for w in wanted if w != "-all"]
        shown = [l for l in lwps(memory) if not wanted or any(self.fits(l, w) for w in wanted)]
        if not shown:
            print("No LWPs." if not wanted else "No such LWPs.")
        elif len(shown) > LISTED and not every:
            self.count(shown)
        else:
            self.list(shown)

    @staticmethod
    def fits(lwp, wanted):
        return wanted in (str(lwp.id), lwp.state) or fnmatch.fnmatchcase(lwp.name, wanted)

    @staticmethod
    def list(shown):
        print(f"  {'Id':>6}  {'State':<9}  {'Name':<15}  Where, or what it waits for")
        for lwp in shown:
            thread = lwp.thread()
            waits = lwp.waits_for()
            where = ""
            if lwp.state in ("run", "onproc") and lwp.vcpu:
                where = f"vCPU {lwp.vcpu_index()}" if lwp.vcpu_index() >= 0 else ""
            if waits is not None:
                kind, why = waits
                where = " ".join(w for w in (kind, f"{lwp.wchan:#x}", f"({why})" if why and why != kind else "") if w)
            if thread is not None:
                where += f"{', ' if where else ''}thread {thread.num}"
            mark = "*" if Chosen.lwp is not None and Chosen.lwp.id == lwp.id else " "
            print(f"{mark} {lwp.id:>6}  {lwp.state:<9}  {lwp.name:<15}  {where}".rstrip())

    @staticmethod
    def count(shown):
        groups = collections.Counter()
        for lwp in shown:
            groups[(lwp.state, *(lwp.waits_for() or ("", "")))] += 1
        print(f"{len(shown)} LWPs:")
        for (state, kind, why), n in groups.most_common():
            what = " ".join(w for w in (kind, f"({why})" if why and why != kind else "") if w)
            print(f"  {n:>8}  {state:<9}  {what}".rstrip())


class LwpCommand(gdb.Command):
    """Looks at the stack of an LWP: lwp [ID | off].  Without an argument, says which it is."""

    def __init__(self):
        super().__init__("lwp", gdb.COMMAND_STACK, prefix=True)

    def invoke(self, argument, _from_tty):
        argument = argument.strip()
        if argument == "":
            if Chosen.lwp is not None:
                print(Chosen.lwp.title())
                return
            current = gdb.selected_thread()
            for lwp in lwps(Memory()):
                thread = lwp.thread()
                if thread is not None and current is not None and thread.num == current.num:
                    print(lwp.title())
                    return
            print("No LWP is chosen, and the thread runs none.")
            return
        lwp = lwp_by(Memory(), argument)
        select(lwp)
        print(f"[{lwp.title()}]")
        gdb.execute("frame")


class LwpOff(gdb.Command):
    """The stack of the thread itself again: lwp off."""

    def __init__(self):
        super().__init__("lwp off", gdb.COMMAND_STACK)

    def invoke(self, _argument, _from_tty):
        Chosen.drop()
        if gdb.selected_thread() is not None:
            gdb.newest_frame().select()


class LwpApply(gdb.Command):
    """A command at each of some LWPs: lwp apply (all | ID...) COMMAND."""

    def __init__(self):
        super().__init__("lwp apply", gdb.COMMAND_STACK)

    def invoke(self, argument, from_tty):
        words = argument.split()
        ids = []
        while words and (words[0] == "all" or words[0].isdigit()):
            ids.append(words.pop(0))
        command = argument.split(None, len(ids))[len(ids) :]
        if not ids or not command:
            raise gdb.GdbError("lwp apply: which LWPs, and which command?")
        memory = Memory()
        every = lwps(memory)
        wanted = every if "all" in ids else [lwp for lwp in every if str(lwp.id) in ids]
        missing = set(ids) - {"all"} - {str(lwp.id) for lwp in every}
        before, thread = Chosen.lwp, gdb.selected_thread()
        try:
            for lwp in wanted:
                print(f"\n{lwp.title()}:")
                try:
                    select(lwp)
                    gdb.execute(command[0], from_tty)
                except (gdb.error, gdb.GdbError) as e:
                    print(f"  {e}")
        finally:
            Chosen.drop()
            if thread is not None and thread.is_valid():
                thread.switch()
            if before is not None:
                select(before)
        if missing:
            raise gdb.GdbError(f"lwp: there is no LWP {', '.join(sorted(missing))}")


class LwpFunction(gdb.Function):
    """The address of an LWP's lwp_t: $lwp(ID)."""

    def __init__(self):
        super().__init__("lwp")

    def invoke(self, number):
        lwp = lwp_by(Memory(), int(number))
        value = gdb.Value(lwp.address)
        try:
            return value.cast(gdb.lookup_type("lwp::kern::lwp_t").pointer())
        except gdb.error:  # no debug information
            return value.cast(gdb.lookup_type("void").pointer())


InfoLwps()
LwpCommand()
LwpOff()
LwpApply()
LwpFunction()
gdb.unwinder.register_unwinder(None, SwitchedOut(), replace=True)
gdb.events.cont.connect(Chosen.drop)  # the stacks change
gdb.events.exited.connect(Chosen.drop)
