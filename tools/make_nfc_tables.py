#!/usr/bin/env python3
"""Writes src/tokenizer/nfc_pairs.cc (Unicode's canonical decompositions into two characters, and which of them compose
again) and src/tokenizer/nfc_singles.cc (those into one, and the combining classes), read from the running interpreter's
unicodedata.

Usage: tools/make_nfc_tables.py (in the repository's root; runs clang-format on what it writes)
"""

import subprocess
import unicodedata

CODES = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000 and not 0xAC00 <= c < 0xD7A4]
FOLDER = "src/tokenizer/"


def decomposition(code):
    """The one or two code points that a character is canonically equal to, or None."""
    text = unicodedata.decomposition(chr(code))
    if not text or text.startswith("<"):
        return None
    parts = [int(part, 16) for part in text.split()]
    return parts + [0] * (2 - len(parts))


def composes(code, parts):
    return parts[1] != 0 and unicodedata.normalize("NFC", chr(parts[0]) + chr(parts[1])) == chr(code)


def class_ranges():
    ranges = []
    for code in CODES:
        value = unicodedata.combining(chr(code))
        if value == 0:
            continue
        if ranges and ranges[-1][1] == code - 1 and ranges[-1][2] == value:
            ranges[-1][1] = code
        else:
            ranges.append([code, code, value])
    return ranges


def write(name, tables):
    """tables: (type, constant, rows as text)."""
    path = FOLDER + name
    with open(path, "w", encoding="utf-8") as out:
        out.write(f"// Written by tools/make_nfc_tables.py from Unicode {unicodedata.unidata_version}.\n")
        out.write('#include "tokenizer/nfc_tables.h"\n\nnamespace tidal {\nnamespace {\n\n')
        for kind, constant, rows in tables:
            out.write(f"constexpr {kind} {constant}Rows[] = {{" + ",".join(rows) + "};\n\n")
        out.write("}  // namespace\n\n")
        for kind, constant, _ in tables:
            out.write(f"const std::span<const {kind}> {constant}({constant}Rows);\n")
        out.write("\n}  // namespace tidal\n")
    subprocess.run(["clang-format", "-i", path], check=True)


def main():
    rows = [(code, *parts) for code in CODES if (parts := decomposition(code))]
    pairs = [row for row in rows if row[2]]
    order = sorted((i for i, row in enumerate(pairs) if composes(row[0], row[1:])), key=lambda i: pairs[i][1:])
    write("nfc_pairs.cc", [
        ("CanonicalPair", "kCanonicalPairs", [f"{{0x{a:x},0x{b:x},0x{c:x}}}" for a, b, c in pairs]),
        ("uint16_t", "kComposingPairs", [str(i) for i in order]),
    ])
    write("nfc_singles.cc", [
        ("CanonicalSingle", "kCanonicalSingles", [f"{{0x{a:x},0x{b:x}}}" for a, b, c in rows if not c]),
        ("ClassRange", "kCombiningClasses", [f"{{0x{a:x},0x{b:x},{c}}}" for a, b, c in class_ranges()]),
    ])


if __name__ == "__main__":
    main()
