"""Migrations as files: `migrations/0001_create_items.sql`, and `0001_create_items.down.sql` where going back was written."""

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from nucleon.errors import SetupError

NAME = re.compile(r"(\d{1,18})_([a-z0-9][a-z0-9_-]*)(\.down)?\.sql")
DIRECTIVE = re.compile(r"^--[ \t]*nucleon:[ \t]*(.*?)[ \t]*$", re.MULTILINE)
NO_TRANSACTION = "no-transaction"
WORD = re.compile(r"[^a-z0-9]+")

# What hides semicolons and words from a reader of SQL (PostgreSQL manual, 4.1): comments, strings, quoted names, dollar quotes.
LEXEME = re.compile(
    r"--[^\n]*|(?P<comment>/\*)|\b[eE]'(?:[^'\\]|\\.|'')*'|'(?:[^']|'')*'|\"[^\"]*\"|\$(?P<tag>[^\W\d]?\w*)\$.*?\$(?P=tag)\$|(?P<semicolon>;)|(?P<word>\w+)",
    re.DOTALL,
)
COMMENT_MARK = re.compile(r"/\*|\*/")
ENDS_TRANSACTION = re.compile(
    r"(?:commit|abort|begin|rollback(?!\s+(?:(?:work|transaction)\s+)?to\b)|(?:start|prepare)\s+transaction)\b", re.I
)
UNREPEATABLE = re.compile(r"\bcreate\s+(?:unique\s+)?index\s+concurrently\s+(?!if\s+not\s+exists\b)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Migration:
    """One step of the schema. checksum: of its text, whatever the line ends; down: the file that undoes it, when there is one."""

    number: int
    path: Path
    text: str
    checksum: str
    down: Path | None

    @property
    def name(self) -> str:
        """The file's name without its folder."""
        return self.path.name

    @property
    def is_empty(self) -> bool:
        """Whether nothing but comments stands in it."""
        return not any(True for _ in statements_in(self.text))

    @property
    def in_transaction(self) -> bool:
        """Whether the file runs in a transaction, as all do that do not say `-- nucleon: no-transaction`."""
        return not is_without_transaction(self.text)


def is_without_transaction(text: str) -> bool:
    """Tell whether a file says `-- nucleon: no-transaction`."""
    return NO_TRANSACTION in DIRECTIVE.findall(text)


def read(folder: Path) -> list[Migration]:
    """Return the migrations of a folder in their order; gaps between numbers are fine, they only order.

    Raises `SetupError` with every fault: names, duplicate numbers, statements that end the transaction, unknown directives.
    """
    ups: dict[int, Path] = {}
    downs: dict[int, Path] = {}
    faults: list[str] = []
    for path in sorted(folder.glob("*.sql")):
        parts = NAME.fullmatch(path.name)
        if parts is None:
            faults.append(f"{_shown(path)}: a migration is named NUMBER_what_it_does.sql in small letters, such as 0001_create_items.sql")
            continue
        number, place = int(parts[1]), downs if parts[3] else ups
        if number in place:
            faults.append(
                f"{_shown(path)} has the number of {place[number].name}: rename the one that is not applied anywhere yet "
                f"to {next_number([*ups, *downs]):04d}_{parts[2]}.sql"
            )
        place.setdefault(number, path)
    for number, path in downs.items():
        if number not in ups or path.name != f"{ups[number].stem}.down.sql":
            faults.append(f"{_shown(path)} undoes nothing: its up file would be {path.name.removesuffix('.down.sql')}.sql")
    found = [_migration(number, path, downs.get(number)) for number, path in sorted(ups.items())]
    for path, text in [*((one.path, one.text) for one in found), *((path, text_of(path)) for path in downs.values())]:
        faults += _faults_in(path, text)
    if faults:
        raise SetupError("; ".join(faults))
    return found


def next_number(numbers: list[int]) -> int:
    """Return the number of the next migration."""
    return max(numbers, default=0) + 1


def write_new(folder: Path, title: str) -> Path:
    """Make an empty migration with the next number and return its path. Raises `SetupError` when the title gives no name."""
    name = WORD.sub("_", title.lower()).strip("_")
    if not name:
        raise SetupError(f"{title!r} names no migration: say what it does, such as `nucleon db new create items`")
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{next_number([one.number for one in read(folder)]):04d}_{name}.sql"
    path.write_text(f"-- {title}\n\n", encoding="utf-8")
    return path


def text_of(path: Path) -> str:
    """Return a file's text with plain line ends. Raises `SetupError`."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise SetupError(f"{_shown(path)} cannot be read: {error}") from error


def line_of(text: str, position: int) -> int:
    """Return the line of a character; positions count from 1, as PostgreSQL tells them."""
    return text.count("\n", 0, max(position - 1, 0)) + 1


def _migration(number: int, path: Path, down: Path | None) -> Migration:
    text = text_of(path)
    return Migration(number, path, text, hashlib.sha256(text.strip().encode()).hexdigest(), down)


def _faults_in(path: Path, text: str) -> Iterator[str]:
    for directive in DIRECTIVE.findall(text):
        if directive != NO_TRANSACTION:
            yield f"{_shown(path)}: unknown directive {directive!r}: known is -- nucleon: {NO_TRANSACTION}"
    if is_without_transaction(text):
        if found := UNREPEATABLE.search(text):
            yield (
                f"{_shown(path)}, line {line_of(text, found.start() + 1)}: write CREATE INDEX CONCURRENTLY IF NOT EXISTS: "
                "without a transaction a killed run is tried again"
            )
        return
    if not ENDS_TRANSACTION.search(text):
        return  # a file of many rows need not be read word by word
    for position, words in statements_in(text):
        if found := ENDS_TRANSACTION.match(words):
            yield (
                f"{_shown(path)}, line {line_of(text, position + 1)}: {found[0].upper()} inside a migration: each file runs in one "
                f"transaction of its own, leave the statement out (or the file says -- nucleon: {NO_TRANSACTION})"
            )


def statements_in(text: str) -> Iterator[tuple[int, str]]:
    """Give the position and the text from there on of each statement's first word, for a look at how it begins."""
    is_first, at = True, 0
    while lexeme := LEXEME.search(text, at):
        at = lexeme.end()
        if lexeme["comment"]:
            at = _end_of_comment(text, at)
        elif lexeme["semicolon"]:
            is_first = True
        elif is_first and lexeme["word"]:
            is_first = False
            yield lexeme.start(), text[lexeme.start() : lexeme.start() + 60]


def _end_of_comment(text: str, at: int) -> int:
    """Return where a comment ends; they nest in PostgreSQL."""
    depth = 1
    for mark in COMMENT_MARK.finditer(text, at):
        depth += 1 if mark[0] == "/*" else -1
        if depth == 0:
            return mark.end()
    return len(text)


def _shown(path: Path) -> str:
    return f"{path.parent.name}/{path.name}"
