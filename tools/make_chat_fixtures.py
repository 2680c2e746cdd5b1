#!/usr/bin/env python3
"""Writes tests/data/chat/*.json: templates, variables, and what the Python package jinja2 renders from them in the
environment that Hugging Face transformers gives to chat templates. The tests compare byte for byte; where jinja2 raises,
only the fact is kept.

Usage: tools/make_chat_fixtures.py --models DIR [--out tests/data/chat]
       tools/make_chat_fixtures.py --random N --seed S --out DIR    (random templates only, for longer comparisons)
       tools/make_chat_fixtures.py --matrix --out DIR    (every operation on every kind of value, likewise)
Needs the packages jinja2 (3.1) and, for --models, gguf.
"""

import argparse
import datetime
import json
import pathlib
import random
import re
import warnings

import chat_fixture_cases as cases
import chat_fixture_families as families
import chat_fixture_random as random_templates
import jinja2
import jinja2.ext
import jinja2.sandbox

NOW = datetime.datetime(2024, 7, 4, 9, 5, 7)
MODELS = {
    "smollm2": "smollm2-135m.gguf",
    "qwen2.5-coder-0.5b": "qwen2.5-coder-0.5b.gguf",
    "qwen2.5-coder-1.5b": "qwen2.5-coder-1.5b.gguf",
}


class GenerationTag(jinja2.ext.Extension):
    """{% generation %}: prints its body."""

    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return jinja2.nodes.CallBlock(self.call_method("_print_body"), [], [], body).set_lineno(line)

    def _print_body(self, caller):
        return caller()


class Namespace(jinja2.utils.Namespace):
    def __init__(*args, **kwargs):
        self, args = args[0], args[1:]
        attributes = dict(*args, **kwargs)
        for name in attributes:
            Namespace.check(name)
        jinja2.utils.Namespace.__init__(self, attributes)

    def __setitem__(self, name, value):
        Namespace.check(name)
        jinja2.utils.Namespace.__setitem__(self, name, value)

    @staticmethod
    def check(name):
        if isinstance(name, str) and name.startswith("_"):
            raise jinja2.exceptions.SecurityError(name)


class DictFactory:
    def __call__(self, *args, **kwargs):
        return dict(*args, **kwargs)


def raise_exception(message):
    raise jinja2.exceptions.TemplateError(message)


def to_json(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def make_environment():
    environment = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[GenerationTag, jinja2.ext.loopcontrols])
    environment.filters["tojson"] = to_json
    environment.globals.update(raise_exception=raise_exception, strftime_now=NOW.strftime, dict=DictFactory(),
                               namespace=Namespace)
    return environment


ENVIRONMENT = make_environment()


def render(template, variables):
    """The text, or None where jinja2 raises."""
    try:
        text = ENVIRONMENT.from_string(template).render(**json.loads(json.dumps(variables)))
        text.encode("utf-8")
        return text
    except Exception:
        return None


def is_comparable(text):
    """Not the addresses of objects, and not integers beyond 64 bits, which are errors in the program."""
    return text is None or not re.search(r"(?i)0x7[0-9a-f]{6,}|(?<![\d.])\d{19,}(?![\d.])", text)


class Fixture:
    """One file: cases that share named templates and variables."""

    def __init__(self, variables):
        self.data = {"templates": {}, "variables": dict(variables), "cases": []}

    def add(self, template, variables_name, template_name=None):
        text = render(template, self.data["variables"][variables_name])
        if not is_comparable(text):
            return
        case = {}
        if template_name is None:
            case["template"] = template
        else:
            self.data["templates"][template_name] = template
            case["template_name"] = template_name
        case["variables"] = variables_name
        if text is None:
            case["error"] = True
        else:
            case["text"] = text
        self.data["cases"].append(case)

    def write(self, path):
        with open(path, "w", encoding="utf-8") as out:
            out.write('{"templates":' + json.dumps(self.data["templates"], ensure_ascii=False))
            out.write(',\n"variables":' + json.dumps(self.data["variables"], ensure_ascii=False))
            out.write(',\n"cases":[\n')
            out.write(",\n".join(json.dumps(c, ensure_ascii=False) for c in self.data["cases"]))
            out.write("\n]}\n")
        errors = sum("error" in c for c in self.data["cases"])
        print(f"{path}: {len(self.data['cases'])} cases, {errors} of them errors, {path.stat().st_size} bytes")


def read_model_template(path):
    import gguf

    return gguf.GGUFReader(path).fields["tokenizer.chat_template"].contents()


def write_models(models_dir, out):
    fixture = Fixture(families.CONVERSATIONS)
    for name, file in MODELS.items():
        template = read_model_template(models_dir / file)
        for conversation in families.CONVERSATIONS:
            fixture.add(template, conversation, name)
    fixture.write(out / "models.json")


def write_families(out):
    fixture = Fixture(families.CONVERSATIONS)
    for name, template in families.TEMPLATES.items():
        for conversation in families.CONVERSATIONS:
            fixture.add(template, conversation, name)
    fixture.write(out / "families.json")


def write_snippets(out):
    fixture = Fixture({"v": cases.VARIABLES})
    for template in cases.all_snippets():
        fixture.add(template, "v")
    fixture.write(out / "snippets.json")


def write_random(out, count, seed):
    fixture = Fixture({"v": random_templates.VARIABLES})
    generator = random_templates.Generator(random.Random(seed))
    # Errors end a rendering early, so most of those are left out.
    while len(fixture.data["cases"]) < count:
        template = generator.template()
        if len(template) > 700:
            continue
        text = render(template, random_templates.VARIABLES)
        if text is not None and len(text) > 2000:
            continue
        if text is None and generator.random.random() < 0.8:
            continue
        fixture.add(template, "v")
    fixture.write(out / "random.json")


def write_matrix(out):
    fixture = Fixture({"v": cases.VARIABLES})
    for template in cases.matrix():
        fixture.add(template, "v")
    fixture.write(out / "matrix.json")


def main():
    warnings.simplefilter("ignore", SyntaxWarning)  # of the code that jinja2 makes from nonsense
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=pathlib.Path, help="the folder of the three GGUF files")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("tests/data/chat"))
    parser.add_argument("--random", type=int, default=0, help="only this many random templates")
    parser.add_argument("--matrix", action="store_true", help="only every operation on every kind of value")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    if args.matrix:
        write_matrix(args.out)
        return
    if args.random:
        write_random(args.out, args.random, args.seed)
        return
    if args.models:
        write_models(args.models, args.out)
    write_families(args.out)
    write_snippets(args.out)
    write_random(args.out, 450, args.seed)


main()
