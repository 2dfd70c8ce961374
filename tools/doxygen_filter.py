#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Tells Doxygen how this tree writes: `doxygen_filter.py FILE` prints FILE as Doxygen is to read it (tools/Doxyfile, INPUT_FILTER).

Headers: the comment at the top is the file's.  A comment is about all declarations that follow it directly: until an empty line, the next comment, or
the end of what they stand in.  What is copied, moved, assigned or destroyed as one expects needs none, nor does what is as in std: by its name, or in a
header that says that it is std's.  Text is text: no character of it is markup, but for `code`, and lines further in than their neighbours stay as they
are.
Documents: a link to another page, or a heading of one, leads there; one to anything else is the name of a file.
"""

import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
PAGES = {"README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md"}
DOC = re.compile(r"^\s*(///(?!<)|/\*\*)")
PREFIX = re.compile(r"^\s*(template <.*>|requires .*|\[\[.*\]\])$")
NO_DECLARATION = re.compile(r"^\s*(#|//|/\*|\}|(public|private|protected):|friend (class|struct) |using (std|\w+)::|static_assert|extern \"C\"|namespace )")
# Copies, moves, destructors, and what is deleted: =default or not.
USUAL = re.compile(r"^\s*(?:constexpr )?(?:(?P<name>\w+)\((?:const )?(?P=name)(?:<\w+>)? &&?\w*\)|(?:\w+ &)?operator=\((?:const )?\w+ &&?\w*\)|~\w+\(\)|.* = delete;$)")
# What has one meaning, whatever has it.
STANDARD = re.compile(r"^\s*(\[\[nodiscard\]\] )?(friend |inline |constexpr |explicit )*(void swap\(|bool operator==|(std::strong_ordering|auto) operator<=>|.*operator<<\(|using \w+_(type|concept) = )")


# ---- text ----------------------------------------------------------------------------------------------------------------


SPECIAL = re.compile(r"([\\<>#@%&*|\"])")


def code(part):
    """As it stands: Doxygen ends `it's` at the quote, and makes links of ::names."""
    if re.search(r"(?<![\w>])::\w", part):
        return "<code>" + SPECIAL.sub(r"\\\1", part).replace("::", "\\::") + "</code>"
    return f"``{part}``" if "'" in part else f"`{part}`"


def marked(text, plain):
    """`text`, of which plain(part) is done to what is not in backquotes."""
    parts = text.split("`")
    if len(parts) % 2 == 0:  # one that is not closed: no mark
        parts = [text.replace("`", "'")]
    return "".join(code(part) if i % 2 else plain(part) for i, part in enumerate(parts))


def escaped(text):
    """With every character that would be markup made plain."""
    return marked(text, lambda part: re.sub(r"(?<!\w)::(?=\w)", r"\\::", SPECIAL.sub(r"\\\1", part)))


def body(lines):
    """Lines of text as Doxygen's: what is indented, a table or a picture, is kept as it is."""
    result, kept = [], False
    for line in lines:
        deep = re.match(r" {2,}\S", line) is not None and not re.match(r" {1,4}(- |\d\. )", line)
        if deep != kept and (deep or line.strip()):
            result.append("\\verbatim" if deep else "\\endverbatim")
            kept = deep
        result.append(line if kept else escaped(line))
    return result + (["\\endverbatim"] if kept else [])


def comment(lines, indent=""):
    """As one comment of Doxygen's, on as many lines as there are."""
    return [f"{indent}/**"] + [f"{indent} {line}" for line in lines] + [f"{indent} */"]


# ---- headers -------------------------------------------------------------------------------------------------------------


def top(lines):
    """The comment at the top of a header, without its licence line, and the rest."""
    if lines[0].startswith("// SPDX"):
        end = next((i for i, line in enumerate(lines) if not re.match(r"//(?!/)", line)), len(lines))
        text = [line[2:].removeprefix(" ") for line in lines[1:end]]
    else:
        end = next(i for i, line in enumerate(lines) if "*/" in line) + 1
        text = [re.sub(r"^ \* ?", "", line) for line in lines[1:end - 1]]
    return text, lines[end:]


def documented(lines, at):
    """The comment of Doxygen's kind that begins at `at`: its text, and where it ends."""
    end = at
    if lines[at].lstrip().startswith("///"):
        while end < len(lines) and re.match(r"^\s*///(?!<)", lines[end]):
            end += 1
        return [re.sub(r"^\s*/// ?", "", line) for line in lines[at:end]], end
    while "*/" not in lines[end]:
        end += 1
    text = [re.sub(r"^\s*(/\*\*|\*/|\* ?)?", "", re.sub(r"\s*\*/\s*$", "", line)) for line in lines[at:end + 1]]
    return [line.strip() if i == 0 else line for i, line in enumerate(text)], end + 1


def declaration(lines, at):
    """Where the declaration that begins at `at` ends: what belongs to it is further in, or closes it."""
    indent = len(lines[at]) - len(lines[at].lstrip("\t"))
    end = at
    while PREFIX.match(lines[end]) and end + 1 < len(lines):
        end += 1
    end += 1
    while end < len(lines) and lines[end].strip():
        line = lines[end]
        if len(line) - len(line.lstrip("\t ")) > indent or re.match(r"^\s*([)}]|\{$)", line):
            end += 1
        elif lines[end].startswith("    ", indent):
            end += 1
        else:
            break
    return end


def opens(lines, at, end):
    """Whether it is a class, enumeration or the like: what is in it has its own comments."""
    text = " ".join(lines[at:end])
    return re.match(r"^\s*(template <.*?> )?(requires .*? )?(class|struct|union|enum|typedef struct|typedef enum)\b[^;(]*\{", text) is not None


def header(lines):
    text, rest = top(lines)
    of_std = re.search(r"\bstd's\b", text[0] if text[0].strip() else text[1]) is not None
    result = comment(["\\file", *body(text)])
    current = None  # the comment that is about what follows
    at = 0
    while at < len(rest):
        line = rest[at]
        if DOC.match(line):
            words, at = documented(rest, at)
            if at + 1 < len(rest) and PREFIX.match(rest[at]) and "struct std::" in rest[at + 1]:
                at = declaration(rest, at)  # a specialization of std's
                continue
            indent = re.match(r"^\s*", line)[0]
            current = body([w for w in words])
            result += comment(current, indent)
            while at < len(rest) and PREFIX.match(rest[at]):
                result.append(rest[at])
                at += 1
            if at < len(rest) and rest[at].strip() and not NO_DECLARATION.match(rest[at]):
                end = declaration(rest, at)
                if opens(rest, at, end):
                    current = None
                    result.append(rest[at])
                    at += 1
                else:
                    result += rest[at:end]
                    at = end
            elif at < len(rest) and rest[at].startswith("#define"):
                result.append(rest[at])
                at += 1
            continue
        if re.match(r"^template <.*>$", line) and "struct std::" in rest[at + 1]:
            at = declaration(rest, at)  # a specialization of std's
            continue
        if line.startswith("#define") and current is not None:
            result += comment(current) if "/**<" not in line else []
            result.append(line)
            at += 1
            continue
        if not line.strip() or NO_DECLARATION.match(line) or re.match(r"^\s*\{?$", line):
            current = None if not line.strip() or re.match(r"^\s*(\}|//)", line) else current
            result.append(line)
            at += 1
            continue
        end = declaration(rest, at)
        if opens(rest, at, end):
            result += comment(["As `std`'s."], re.match(r"^\s*", line)[0]) if of_std else []
            current = None
            result.append(line)
            at += 1
            continue
        text = "".join(rest[at:end])
        if "///<" not in text:
            indent = re.match(r"^\s*", line)[0]
            plain = next((l for l in rest[at:end] if not PREFIX.match(l)), line)
            if USUAL.match(plain):
                result += comment(["As one expects."], indent)
            elif current is not None:
                result += comment(current, indent)
            elif of_std or STANDARD.match(plain):
                result += comment(["As `std`'s."], indent)
        result += rest[at:end]
        at = end
    return result


# ---- documents -----------------------------------------------------------------------------------------------------------


def page(path):
    """The name of a document's page; None: it is none."""
    try:
        name = path.resolve().relative_to(ROOT).as_posix()
    except ValueError:
        return None
    if name in PAGES or re.fullmatch(r"docs/\w+\.md", name):
        return path.stem.lower()
    return None


def slug(heading):
    """What a heading is called in links."""
    return re.sub(r"[^\w\- ]", "", heading.lower().replace("`", "")).replace(" ", "-")


def document(path, text):
    name = page(path) or path.stem

    def link(match):
        target, _, anchor = match[2].partition("#")
        if re.match(r"[a-z]+:", target):
            return match[0]
        other = page(path.parent / target) if target else name
        if match[1].startswith("!"):
            return f"{match[1]}({pathlib.PurePath(target).name})"
        if other is None:
            return match[1][1:-1] if "`" in match[1] else f"`{match[1][1:-1]}`"
        return f"{match[1]}(@ref {other}{'--' + anchor if anchor else ''})"

    result, code, first = [], False, True
    for line in text.splitlines():
        if line.startswith("```"):
            code = not code
            result.append(re.sub(r"^```\w*", lambda m: "~~~" + {"cpp": "{.cpp}", "c": "{.c}"}.get(m[0][3:], ""), line))
            continue
        heading = re.match(r"^(#+) (.*)$", line)
        if code:
            result.append(line)
        elif heading and first:
            result.append(f"# {heading[2]} {{#{name}}}")
            first = False
        elif heading:
            result.append(f"{heading[1]} {heading[2]} {{#{name}--{slug(heading[2])}}}")
        elif line.startswith("    "):
            result.append(line)
        else:
            line = marked(re.sub(r"(!?\[[^\]\[]*\])\(([^)\s]+)\)", link, line), lambda part: part)
            result.append(re.sub(r"<!--.*?-->", "", line))
    return result


def main():
    path = pathlib.Path(sys.argv[1])
    text = path.read_text(encoding="utf-8")
    lines = document(path, text) if path.suffix == ".md" else header(text.split("\n"))
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
