#!/usr/bin/env python3
"""Writes words.json: random texts and how the Python package `tokenizers` cuts them into words.

    pip install tokenizers==0.23.3 && ./make_words.py [CASES [SEED]] > words.json

Only characters that Python's own Unicode tables know are used, so that libraries with newer tables agree.
"""
import json
import random
import sys
import unicodedata

import tokenizers
from tokenizers import Regex
from tokenizers.pre_tokenizers import ByteLevel, Digits, Sequence, Split

CL100K = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|%s| ?[^\s\p{L}\p{N}]+[\r\n]*"
          r"|\s*[\r\n]+|\s+(?!\S)|\s+")


def split(pattern):
    return Sequence([Split(Regex(pattern), "isolated"), ByteLevel(add_prefix_space=False, use_regex=False)])


FAMILIES = {
    "gpt2": ByteLevel(add_prefix_space=False, use_regex=True),
    "llama-bpe": split(CL100K % r"\p{N}{1,3}"),
    "qwen2": split(CL100K % r"\p{N}"),
    "smollm": Sequence([Digits(individual_digits=True), ByteLevel(add_prefix_space=False, use_regex=True)]),
}

SPACES = "\t\n\v\f\r \x85\xa0\u1680\u2000\u2003\u200a\u2028\u2029\u202f\u205f\u3000"
NEAR_SPACES = "\u180e\u200b\u200d\ufeff\u2060\x1c\x1f"
PIECES = ["'s", "'S", "'t", "'re", "'RE", "'ve", "'m", "'Ll", "'d", "'\u017f", "''", "\r\n", "\n\n", "    ", "  ",
          "12345", "\u0661\u0662", "\u2167", "\u00bd", "e\u0301", "\u4e2d\u6587", "\U0001f30d", "\U0001d54f", "\x00", "."]


def any_character(rng):
    while True:
        c = chr(rng.randrange(0x110000))
        if unicodedata.category(c) not in ("Cs", "Cn"):
            return c


def text(rng):
    out = []
    for _ in range(rng.randrange(1, 25)):
        kind = rng.randrange(10)
        if kind < 3:
            out.append(rng.choice(PIECES))
        elif kind < 5:
            out.append(rng.choice(SPACES) * rng.choice([1, 1, 1, 2, 5]))
        elif kind < 6:
            out.append(rng.choice(NEAR_SPACES))
        elif kind < 8:
            out.append("".join(rng.choices("abcXYZ", k=rng.randrange(1, 6))))
        elif kind < 9:
            out.append(chr(rng.randrange(0x21, 0x7F)))
        else:
            out.append(any_character(rng))
    return "".join(out)


def main():
    cases = int(sys.argv[1]) if len(sys.argv) > 1 else 60
    rng = random.Random(int(sys.argv[2]) if len(sys.argv) > 2 else 1)
    rows = []
    for _ in range(cases):
        sample = text(rng)
        words = {name: [sample[a:b] for _, (a, b) in family.pre_tokenize_str(sample)]
                 for name, family in FAMILIES.items()}
        assert all("".join(w) == sample for w in words.values())
        rows.append({"text": sample, "words": words})
    json.dump({"source": "tokenizers %s" % tokenizers.__version__, "cases": rows}, sys.stdout,
              ensure_ascii=True, indent=0, separators=(",", ":"))
    print()


main()
