"""Random templates. Data of make_chat_fixtures.py."""

VARIABLES = {
    "a": "alpha", "b": "Beta gamma", "c": 3, "x": -2, "y": 0, "f": 1.25, "t": True, "o": None,
    "l": [4, "d", 2, "E"], "m": [{"role": "user", "content": " Hi "}, {"role": "tool", "content": ""}], "d": {"k": "v", "n": 1},
}
NAMES = list(VARIABLES) + ["und", "v1", "v2"]
STRINGS = ["''", "'x'", "' pad '", "'a,b'", "'é'", '"it\'s"', "'<i>'", "'role'"]
FILTERS = ["upper", "lower", "trim", "length", "first", "last", "list", "string", "int", "float", "title", "capitalize", "sort", "unique|list", "reverse|list",
           "tojson", "join", "join('-')", "default('D')", "default('E', true)", "abs", "round", "e", "sum", "min", "max", "items|list", "map('string')|list",
           "map(attribute='role')|list", "selectattr('role')|list", "select('string')|list", "reject('none')|list", "replace('a', 'o')", "indent(2)", "tojson(indent=1)",
           "batch(2)|list", "dictsort", "wordcount", "center(9)", "safe", "format(1)", "truncate(5)", "count"]
TESTS = ["defined", "undefined", "none", "string", "number", "integer", "float", "mapping", "sequence", "iterable", "boolean", "true", "odd", "even",
         "divisibleby 2", "in l", "eq 3", "lt 2", "lower", "not defined", "not none", "not string"]
METHODS = ["upper()", "strip()", "split()", "split('a')", "title()", "startswith('a')", "replace('a', 'b')", "find('a')", "items()", "keys()|list", "get('k')", "count('a')",
           "role", "content", "k", "n", "nope", "splitlines()", "lower()", "endswith('a')", "isdigit()", "index(2)"]
BINARY = ["+", "-", "*", "/", "//", "%", "~", "~", "~", "==", "!=", "<", ">", "<=", ">=", "in", "not in", "and", "or"]


class Generator:
    def __init__(self, rng):
        self.random = rng

    def pick(self, items):
        return self.random.choice(items)

    def expression(self, depth=0):
        kind = self.random.randrange(14 if depth < 3 else 4)
        if kind < 2:
            return self.pick(NAMES)
        if kind == 2:
            return self.pick(STRINGS)
        if kind == 3:
            return self.pick(["0", "1", "2", "7", "1.5", "true", "false", "none", "[]", "{}", "'q'"])
        inner = self.expression(depth + 1)
        if kind == 4:
            return f"({inner} {self.pick(BINARY)} {self.expression(depth + 1)})"
        if kind == 5:
            return f"{inner} {self.pick(BINARY)} {self.expression(depth + 1)}"
        if kind == 6:
            return f"({inner})|{self.pick(FILTERS)}"
        if kind == 7:
            return f"({inner} is {self.pick(TESTS)})"
        if kind == 8:
            return f"({inner} if {self.expression(depth + 1)} else {self.expression(depth + 1)})"
        if kind == 9:
            return f"[{inner}, {self.expression(depth + 1)}]"
        if kind == 10:
            return f"{{'k': {inner}, 'z': {self.expression(depth + 1)}}}"
        if kind == 11:
            return f"({inner}).{self.pick(METHODS)}"
        if kind == 12:
            # Not the slice of a constant: jinja2 folds these, and gives undefined where it would raise when rendering.
            return f"({self.pick(NAMES)})[{self.pick(['0', '-1', '1:', ':2', '::-1', chr(39) + 'k' + chr(39), 'c'])}]"
        return f"not {inner}" if self.random.random() < 0.5 else f"({self.pick(NAMES)}|{self.pick(FILTERS)})"

    def space(self):
        return self.pick(["", "", " ", "\n", "\n  ", "\n\n"])

    def tag(self, content):
        left = self.pick(["{%", "{%", "{%-", "{%+"])
        right = self.pick(["%}", "%}", "-%}", "+%}"])
        return f"{left} {content} {right}"

    def statement(self, depth):
        kind = self.random.randrange(12 if depth < 3 else 4)
        if kind == 0:
            return self.pick(["text", "a b", "<x>", "é", "{# c #}", "{#- c -#}", "  "])
        if kind <= 2:
            return self.pick(["{{ ", "{{- "]) + self.expression() + self.pick([" }}", " -}}"])
        if kind == 3:
            return self.tag(f"set {self.pick(['v1', 'v2', 'a', 'ns.q'])} = {self.expression(1)}")
        body = self.block(depth + 1)
        if kind <= 5:
            middle = ""
            if self.random.random() < 0.3:
                middle = self.tag(f"elif {self.expression(1)}") + self.block(depth + 1)
            if self.random.random() < 0.5:
                middle += self.tag("else") + self.block(depth + 1)
            return self.tag(f"if {self.expression(1)}") + body + middle + self.tag("endif")
        if kind <= 8:
            iterable = self.pick(["l", "m", "range(3)", "d", "d.items()", "b", "[1, 2]", f"({self.expression(1)})"])
            condition = self.pick(["", "", f" if {self.expression(2)}"])
            extra = self.pick(["", "{{ loop.index }}", "{{ loop.last }}", "{{ loop.length }}", "{{ i }}", "{{ i.role }}", "{{ loop.nextitem }}",
                               "{% if loop.first %}{% continue %}{% endif %}", "{% if i == 2 %}{% break %}{% endif %}"])
            other = self.tag("else") + self.block(depth + 1) if self.random.random() < 0.3 else ""
            return self.tag(f"for i in {iterable}{condition}") + extra + body + other + self.tag("endfor")
        if kind == 9:
            name = self.pick(["v1", "v2"])
            return self.tag(f"set {name}{self.pick(['', ' | upper'])}") + body + self.tag("endset")
        if kind == 10:
            name = self.pick(["mac", "mac2"])
            return self.tag(f"macro {name}(p, r={self.expression(2)})") + "{{ p }}{{ r }}" + body + self.tag("endmacro") + "{{ " + name + "(1) }}"
        return self.tag(f"with w = {self.expression(1)}") + "{{ w }}" + body + self.tag("endwith")

    def block(self, depth):
        parts = []
        for _ in range(self.random.randrange(1, 4)):
            parts.append(self.space() + self.statement(depth))
        return "".join(parts) + self.space()

    def template(self):
        start = self.pick(["", "{% set ns = namespace(q=1) %}"])
        return start + self.block(0)
