"""Plain text out of the forms in which tools/make_eval_data.py finds its documents."""

import gzip
import html.parser
import pathlib
import re
import sqlite3
import struct
import tempfile
import zlib


def text(data):
    """Text as it is, unpacked where it is gzip."""
    if data[:2] == b"\x1f\x8b":
        data = gzip.decompress(data)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("latin-1")


class _PageText(html.parser.HTMLParser):
    """The words of a page: paragraphs apart, preformatted text as it is, navigation left out."""

    BLOCKS = {"p", "div", "h1", "h2", "h3", "h4", "h5", "li", "ul", "ol", "tr", "table", "pre", "blockquote", "dt", "dd"}
    SKIPPED = {"script", "style", "nav", "head", "button", "svg", "noscript"}

    def __init__(self):
        super().__init__()
        self.parts = []
        self.skipping = 0
        self.preformatted = 0

    def handle_starttag(self, tag, attributes):
        self.skipping += tag in self.SKIPPED
        if tag == "pre":
            self.preformatted += 1
        if tag in self.BLOCKS:
            self.parts.append("\n- " if tag == "li" else "\n\n" if tag in ("pre", "p") or tag[0] == "h" else "\n")
        elif tag == "br":
            self.parts.append("\n")
        elif tag in ("td", "th"):
            self.parts.append("  ")

    def handle_endtag(self, tag):
        self.skipping -= tag in self.SKIPPED and self.skipping > 0
        self.preformatted -= tag == "pre" and self.preformatted > 0
        if tag in self.BLOCKS:
            self.parts.append("\n\n" if tag in ("pre", "p") or tag[0] == "h" else "\n")

    def handle_data(self, data):
        if not self.skipping:
            self.parts.append(data if self.preformatted else re.sub(r"\s+", " ", data))


def html_page(data):
    """A page from where its own text begins: <main>, or the first heading."""
    source = text(data)
    start = source.find("<main>")
    page = _PageText()
    page.feed(source[max(start if start >= 0 else source.find("<h1"), 0):])
    lines = [line.rstrip() for line in "".join(page.parts).splitlines()]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip() + "\n"


def bible_db(data, books):
    """Chapters of a SQLite file: one verse a line."""
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "bible.db"
        path.write_bytes(data)
        connection = sqlite3.connect(path)
        names = dict(connection.execute("SELECT BookID, LongName FROM Books WHERE TestamentID = 1"))
        lines = []
        for book in books:
            lines.append(f"{names[book]}\n")
            last_chapter = None
            rows = connection.execute(
                "SELECT ChapterID, VerseID, Passage1, Passage2 FROM Bible WHERE TestamentID = 1 AND BookID = ? "
                "ORDER BY ChapterID, VerseID", (book,))
            for chapter, _, first, second in rows:
                if chapter != last_chapter:
                    lines.append(f"\nChapter {chapter}\n")
                    last_chapter = chapter
                lines.append(re.sub(r"\s+", " ", f"{first or ''} {second or ''}").strip())
            lines.append("\n")
        connection.close()
    return "\n".join(lines)


def _r_strings(serialized):
    """The strings of R's serialization (XDR): a CHARSXP is flags whose low byte is 9, a length and the bytes."""
    at, found = 0, []
    while at + 8 <= len(serialized):
        flags, size = struct.unpack_from(">Ii", serialized, at)
        if flags & 0xFF == 9 and flags < 1 << 20 and 0 <= size <= len(serialized) - at - 8:
            found.append(serialized[at + 8: at + 8 + size].decode("utf-8", "replace"))
            at += 8 + size
        else:
            at += 1
    return found


def r_database(data, title):
    """Of a package's lazy-load database the character vector whose first line is `title`."""
    at = 0
    while at + 4 < len(data):
        unpacker = zlib.decompressobj()
        serialized = unpacker.decompress(data[at + 4:])
        at = len(data) - len(unpacker.unused_data)
        lines = _r_strings(serialized)
        if next((line for line in lines if line.strip()), None) == title:
            return "\n".join(lines)
    raise ValueError(f"no text begins with {title}")
