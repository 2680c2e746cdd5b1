#!/usr/bin/env python3
"""Writes tests/data/tokenizer/sentencepiece.json: small SentencePiece BPE models and the ids that the official code gives.

Each model has its pieces, scores and types (as a GGUF file has them), and per text the ids that the Python package
sentencepiece gives, with what it decodes them to. They are trained on tests/data/documents/skerrow.txt and
tests/data/hf/texts.json, so that writing them again gives the same file.

Usage: tools/make_sentencepiece_fixtures.py [--out FILE]
Needs: pip install sentencepiece==0.2.3
"""

import argparse
import json
import pathlib
import random
import tempfile

import sentencepiece

ROOT = pathlib.Path(__file__).resolve().parent.parent
DOCUMENT = (ROOT / "tests/data/documents/skerrow.txt").read_text(encoding="utf-8")
TEXTS = json.loads((ROOT / "tests/data/hf/texts.json").read_text(encoding="utf-8"))

COMMON = {
    "model_type": "bpe", "unk_id": 0, "bos_id": 1, "eos_id": 2, "pad_id": -1, "normalization_rule_name": "identity",
    "remove_extra_whitespaces": False, "num_threads": 1, "minloglevel": 2, "max_sentence_length": 20000,
}
MODELS = {
    # As Llama 2's and Mistral's are made.
    "bytes": {"vocab_size": 800, "byte_fallback": True, "character_coverage": 0.9995, "split_digits": True,
              "allow_whitespace_only_pieces": True},
    # Characters that are no pieces are unknown.
    "unknown": {"vocab_size": 400, "byte_fallback": False, "character_coverage": 0.98},
    # Merges reach over spaces, and none is put in front.
    "bare": {"vocab_size": 800, "byte_fallback": True, "character_coverage": 0.995, "add_dummy_prefix": False,
             "split_by_whitespace": False, "max_sentencepiece_length": 32},
}


def generated_texts(rng):
    """Slices of the document, some of whose characters are replaced; and runs of few characters."""
    for _ in range(60):
        start = rng.randrange(len(DOCUMENT) - 200)
        text = list(DOCUMENT[start : start + rng.randrange(1, 200)])
        for _ in range(rng.randrange(0, 5)):
            replacement = rng.choice([" ", "  ", "\n", "\u2581", "\u00e9", "\u4e16", "7", "<0x0A>", "</s>", "\U0001f300"])
            text[rng.randrange(len(text))] = replacement
        yield "".join(text)
    for _ in range(60):
        letters = rng.sample(" etaonhr.\u2581\u00e9\u4f60", rng.randrange(1, 5))
        yield "".join(rng.choice(letters) for _ in range(rng.randrange(1, 60)))
    for _ in range(20):
        yield "".join(chr(rng.choice([rng.randrange(1, 0x500), rng.randrange(0x3000, 0xA000)])) for _ in range(12))


def train(name, folder):
    corpus = folder / "corpus.txt"
    lines = DOCUMENT.splitlines() + [text for text in TEXTS if "\0" not in text and "\n" not in text]
    corpus.write_text("\n".join(lines) + "\n", encoding="utf-8")
    sentencepiece.SentencePieceTrainer.train(input=str(corpus), model_prefix=str(folder / name), **COMMON, **MODELS[name])
    return sentencepiece.SentencePieceProcessor(model_file=str(folder / f"{name}.model"))


def gguf_type(model, i):
    if model.is_unknown(i):
        return 2
    if model.is_control(i):
        return 3
    return 6 if model.is_byte(i) else 1


def fixture(name, model, texts):
    ids = range(model.get_piece_size())
    options = {**COMMON, **MODELS[name]}
    return {
        "add_space_prefix": options.get("add_dummy_prefix", True),
        "pieces": [model.id_to_piece(i) for i in ids],
        "scores": [model.get_score(i) for i in ids],
        "types": [gguf_type(model, i) for i in ids],
        "ids": [model.encode(text) for text in texts],
        # What is unknown is decoded to a sign of its own, which is no part of the vocabulary.
        "decoded": [model.decode(model.encode(text)) for text in texts] if options["byte_fallback"] else [],
    }


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "tests/data/tokenizer/sentencepiece.json")
    args = parser.parse_args()
    texts = TEXTS + list(generated_texts(random.Random(5)))
    with tempfile.TemporaryDirectory() as folder:
        models = {name: fixture(name, train(name, pathlib.Path(folder)), texts) for name in MODELS}
    args.out.write_text(
        json.dumps({"texts": texts, "models": models}, ensure_ascii=True, separators=(",", ":")) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
