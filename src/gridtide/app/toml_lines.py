"""The line of every key in a TOML text. `tomllib` reads values but tells no lines; this reads lines and no values."""

import tomllib

KeyPath = tuple[str | int, ...]
"""A key as in `("stations", 0, "charge_kw")`: tables of an array by their number."""

_BARE_END = " \t\r\n.=]#"


def line_index(text: str) -> dict[KeyPath, int]:
    """Line, counted from 1, of every table header and key of a valid TOML text.

    Keys inside an inline table or array have the line of the statement: see `line_of`.
    """
    return _Scanner(text.replace("\r\n", "\n")).scan()


def line_of(lines: dict[KeyPath, int], path: KeyPath) -> int:
    """Line of a key, or of the nearest table around it; 1 where there is none."""
    for size in range(len(path), 0, -1):
        if path[:size] in lines:
            return lines[path[:size]]
    return 1


class _Scanner:
    """Walks over statements: a header, or a key and a value that is skipped with its strings and brackets."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._lines: dict[KeyPath, int] = {}
        self._counts: dict[KeyPath, int] = {}
        self._counted_at = 0
        self._line = 1

    def scan(self) -> dict[KeyPath, int]:
        table: KeyPath = ()
        while self._skip_blank():
            line = self._line_here()
            if self._text.startswith("[[", self._at):
                self._at += 2
                table = self._next_of(self._keys("]"))
                self._at += 2
                self._note(table, line)
            elif self._text[self._at] == "[":
                self._at += 1
                table = self._resolve(self._keys("]"))
                self._at += 1
                self._note(table, line)
            else:
                keys = self._keys("=")
                self._at += 1
                self._note((*table, *keys), line)
                self._skip_value()
        return self._lines

    def _note(self, path: KeyPath, line: int) -> None:
        for size in range(1, len(path) + 1):
            self._lines.setdefault(path[:size], line)

    def _line_here(self) -> int:
        self._line += self._text.count("\n", self._counted_at, self._at)
        self._counted_at = self._at
        return self._line

    def _skip_blank(self) -> bool:
        """Go to the next statement; False at the end of the text."""
        while self._at < len(self._text):
            c = self._text[self._at]
            if c == "#":
                self._skip_comment()
            elif c in " \t\n\r":
                self._at += 1
            else:
                return True
        return False

    def _skip_comment(self) -> None:
        end = self._text.find("\n", self._at)
        self._at = len(self._text) if end < 0 else end

    def _keys(self, closing: str) -> list[str]:
        """The parts of a dotted key; stops at `closing`."""
        parts: list[str] = []
        while self._at < len(self._text) and self._text[self._at] != closing:
            c = self._text[self._at]
            if c in "\"'":
                parts.append(self._quoted())
            elif c in _BARE_END:
                self._at += 1
            else:
                start = self._at
                while self._at < len(self._text) and self._text[self._at] not in _BARE_END:
                    self._at += 1
                parts.append(self._text[start : self._at])
        return parts

    def _quoted(self) -> str:
        start = self._at
        self._skip_string()
        return str(tomllib.loads("x = " + self._text[start : self._at])["x"])

    def _resolve(self, keys: list[str]) -> KeyPath:
        """The path of a header: a key that names an array of tables stands for its last table."""
        path: KeyPath = ()
        for key in keys:
            path = (*path, key)
            if path in self._counts:
                path = (*path, self._counts[path] - 1)
        return path

    def _next_of(self, keys: list[str]) -> KeyPath:
        path = (*self._resolve(keys[:-1]), *keys[-1:])
        index = self._counts.get(path, 0)
        self._counts[path] = index + 1
        return (*path, index)

    def _skip_value(self) -> None:
        """Go past a value, to the end of its line."""
        depth = 0
        while self._at < len(self._text):
            c = self._text[self._at]
            if c in "\"'":
                self._skip_string()
                continue
            if c == "#":
                self._skip_comment()
                continue
            if c == "\n" and depth <= 0:
                return
            depth += (c in "[{") - (c in "]}")
            self._at += 1

    def _skip_string(self) -> None:
        quote = self._text[self._at]
        if self._text.startswith(quote * 3, self._at):
            self._at += 3
            self._skip_to(quote * 3, quote)
            while self._at < len(self._text) and self._text[self._at] == quote:
                self._at += 1
            return
        self._at += 1
        self._skip_to(quote, quote)

    def _skip_to(self, end: str, quote: str) -> None:
        """Go past the next `end`; a backslash hides what follows it in a basic string."""
        while self._at < len(self._text) and not self._text.startswith(end, self._at):
            self._at += 2 if quote == '"' and self._text[self._at] == "\\" else 1
        self._at += len(end)
