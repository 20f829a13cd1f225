"""Tell by its bytes what a file holds: text and its encoding, or one of the kinds that are left out.

Core: pure functions of bytes.

A name proves nothing: a picture may be called ``a.txt``, and a log may have no suffix. Known formats are told
by their first bytes; other bytes are text if they are UTF-8 with few control characters. UTF-16 and UTF-32 are
believed where a byte order mark states them, and guessed, for the hint alone, where none does.
"""

import shlex
from dataclasses import dataclass

HEAD_BYTES = 1 << 16
"""Bytes at the start of a file by which its format is told."""
CONTROLS_MAX_PERCENT = 5
"""Text has next to no control characters but tabs and line ends; programs have a third."""
WIDE_UNITS_MIN = 16
WIDE_PERCENT = 95
"""UTF-16 without a mark: so many of its units, at the least 16, lie in the blocks of living scripts."""
WIDE_UNITS_MAX = 4096
"""As many are looked at."""
PLANE_MAX = 3
"""Planes of Unicode in which scripts are."""
WIDE_BYTES_MIN = 8
"""Less is too little to guess from."""
ASCII_PERCENT = 75
"""Bytes that are no UTF-8 are a text of Western Europe if so many are printed in ASCII; UTF-16 has fewer."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of content that is not text as it is."""

    name: str
    """Name under which files are counted."""
    command: str
    """Command that makes text of it; names in braces are replaced, quoted for a shell (``hint``)."""

    def hint(self, path: str, packing: str = "") -> str:
        """Return the command for one file; a name cannot add words, options or commands to it.

        ``packing`` is that of the file (``packing_of``): a command that reads a stream gets it unpacked, tar
        unpacks by itself, and for every other command the file is unpacked first.
        """
        path = f"./{path}" if path.startswith("-") else path
        folder, slash, name = path.rpartition("/")
        plain = unpacked_name(name)
        stem, dot, suffix = plain.rpartition(".")
        stem = stem or f"{name}.d"
        names = {
            "path": path,
            "folder": folder or slash or ".",
            "stem": f"{folder}{slash}{stem}",
            "plain": f"{folder}{slash}{stem if plain == name else plain}",
            "text": f"{folder}{slash}{stem}.utf8.{suffix if dot and suffix else 'txt'}",
            "lines": f"{folder}{slash}{stem}.lines.jsonl",
        }
        command = self.command
        if packing and command.startswith(_READS_A_STREAM) and command.count("{path}") == 1:
            command = f"{packing} -dc {{path}} | " + command.replace(" {path}", "")
        elif packing and not command.startswith(_UNPACKS):
            command = f"{packing} -dc {{path}} > {{plain}}"
        # In one pass: a name may hold "{stem}" as well.
        return command.format(**{key: quoted(value) for key, value in names.items()})


def quoted(path: str) -> str:
    """Return a path as one word of a shell, readable and without a character that a terminal obeys."""
    if path.isprintable():
        return shlex.quote(path)
    raw = path.encode("utf-8", "surrogateescape")  # a name may be bytes of any encoding
    return "$'" + "".join(chr(byte) if byte in _WORD else f"\\x{byte:02x}" for byte in raw) + "'"


_WORD = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 ._-+=@/")
PACKED_SUFFIXES = (".gz", ".gzip", ".zst", ".zstd")
_READS_A_STREAM = ("iconv -", "jq ")
_UNPACKS = "mkdir -p {stem} && tar"
_ASIDE = "mkdir -p ../no-text && mv {path} ../no-text/"
PICTURE = Kind("picture", "tesseract {path} {stem}")
PDF = Kind("PDF", "pdftotext {path}")
SOUND = Kind("sound or film", "whisper {path} --output_format txt --output_dir {folder}")
PROGRAM = Kind("program", _ASIDE)
ZIP = Kind("archive", "unzip {path} -d {stem}")
TAR = Kind("archive", f"{_UNPACKS} -xf {{path}} -C {{stem}}")
SEVEN = Kind("archive", "7z x {path} -o{stem}")
RAR = Kind("archive", "unrar x {path} {stem}/")
XZ = Kind("archive", "xz -dk {path}")
BZIP2 = Kind("archive", "bzip2 -dk {path}")
LZ4 = Kind("archive", "lz4 -dk {path}")
PACKED_TWICE = Kind("archive", "7z x {path} -o{stem}")
OFFICE = Kind("office document", "pandoc -t plain {path} -o {stem}.txt")
SHEET = Kind("office document", "libreoffice --headless --convert-to csv --outdir {folder} {path}")
SLIDES = Kind("office document", "libreoffice --headless --convert-to pdf --outdir {folder} {path}")
POSTSCRIPT = Kind("PostScript", "ps2ascii {path} {stem}.txt")
DATABASE = Kind("database", "sqlite3 {path} .dump > {stem}.txt")
PARQUET_ELSEWHERE = Kind("Parquet under another name", "mv {path} {stem}.parquet")
PACKED_PARQUET = Kind("packed Parquet", "7z x {path} -o{stem}")
POINTER = Kind("Git LFS pointer", "git -C {folder} lfs pull")
JSON_ARRAY = Kind("JSON array", "jq -c '.[]' {path} > {lines}")
JSON_SPREAD = Kind("JSON of other lines", "jq -c . {path} > {lines}")
JSON_BROKEN = Kind("lines that are no JSON", "jq -cR 'fromjson?' {path} > {lines}")
"""Leaves such lines out. Never counted: the file is refused by its first one."""
BINARY = Kind("binary data", "file {path}")
LATIN = Kind("Latin-1", "iconv -f WINDOWS-1252 -t UTF-8 {path} > {text}")
OTHER_TEXT = Kind(
    "text of another encoding",
    'iconv -f "$(file -b --mime-encoding {path})" -t UTF-8 {path} > {text} || iconv -l',
)
DAMAGED = Kind("damaged UTF-8", "iconv -c -f UTF-8 -t UTF-8 {path} > {text}")
DAMAGED_WIDE = Kind("damaged UTF-16", "iconv -c -f UTF-16 -t UTF-8 {path} > {text}")
UTF16_LE = Kind("UTF-16 without a mark", "iconv -f UTF-16LE -t UTF-8 {path} > {text}")
UTF16_BE = Kind("UTF-16 without a mark", "iconv -f UTF-16BE -t UTF-8 {path} > {text}")
UTF32_LE = Kind("UTF-32 without a mark", "iconv -f UTF-32LE -t UTF-8 {path} > {text}")
UTF32_BE = Kind("UTF-32 without a mark", "iconv -f UTF-32BE -t UTF-8 {path} > {text}")

GZIP, ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
PARQUET_MAGIC = b"PAR1"
_SKIPPABLE = tuple(bytes((0x50 + low, 0x2A, 0x4D, 0x18)) for low in range(16))
"""Frames of zstandard without content, with which some files begin."""

_FORMATS = (
    *((magic, PICTURE) for magic in (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF87a", b"GIF89a")),
    *((magic, PICTURE) for magic in (b"II*\0", b"MM\0*", b"BM", b"8BPS", b"\0\0\x01\0", b"P5", b"P6")),
    *((b"\0\0\0\x0c" + name, PICTURE) for name in (b"jP  ", b"JXL ")),
    (b"%PDF-", PDF),
    (b"%!PS-Adobe", POSTSCRIPT),
    (b"{\\rtf1", OFFICE),
    (b"version https://git-lfs.github.com/spec/v1\n", POINTER),
    *((magic, PROGRAM) for magic in (b"\x7fELF", b"MZ", b"\xca\xfe\xba\xbe", b"\0asm", b"!<arch>\n")),
    *((magic, PROGRAM) for magic in (b"\xcf\xfa\xed\xfe", b"\xce\xfa\xed\xfe", b"dex\n03")),
    *((magic, SOUND) for magic in (b"ID3", b"fLaC", b"OggS", b"\xff\xfb", b"\xff\xf3", b"MThd")),
    *((magic, SOUND) for magic in (b"\x1a\x45\xdf\xa3", b"\xff\xf1", b"\xff\xfa", b"FLV\x01")),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", SLIDES),
    (b"7z\xbc\xaf\x27\x1c", SEVEN),
    (b"Rar!\x1a\x07", RAR),
    (b"\xfd7zXZ\0", XZ),
    (b"BZh", BZIP2),
    (b"\x04\x22\x4d\x18", LZ4),
    *((magic, PACKED_TWICE) for magic in (GZIP, ZSTD)),
    (b"SQLite format 3\0", DATABASE),
    *((b"\x80" + bytes((version,)), BINARY) for version in range(2, 6)),  # pickle
    (PARQUET_MAGIC, PARQUET_ELSEWHERE),
)  # fmt: skip
_ZIP = (b"PK\x03\x04", b"PK\x05\x06")
_OFFICE = (
    *((name, OFFICE) for name in (b"word/", b"oasis.opendocument.text", b"application/epub")),
    (b"xl/", SHEET),
    (b"ppt/", SLIDES),
    (b"mimetypeapplication/", SLIDES),
)
_MARKS = (  # the longer first: that of UTF-32 begins with that of UTF-16
    (b"\xff\xfe\0\0", "utf-32"),
    (b"\0\0\xfe\xff", "utf-32"),
    (b"\xff\xfe", "utf-16"),
    (b"\xfe\xff", "utf-16"),
    (b"\xef\xbb\xbf", "utf-8-sig"),
)
MARKS = frozenset(mark for mark, _ in _MARKS)
_CONTROLS = bytes(sorted({*range(32), 0x7F} - {*b"\t\n\v\f\r\b\x1b"}))
_ASCII = bytes([*range(0x20, 0x7F), *b"\t\n\r"])
_LIVING = bytes(
    {*range(0x0F), 0x10, 0x11, 0x12, 0x16, 0x17, 0x1E, 0x1F, *range(0x20, 0x24)}
) + bytes({0x27, *range(0x30, 0x34), *range(0x4E, 0xA0), *range(0xAC, 0xD8), 0xFE, 0xFF})
"""High bytes of the units of UTF-16 in which text is written."""


def unpacked_name(name: str) -> str:
    """Return the name of a file without the suffix of a packed one."""
    low = name.lower()
    return next((name[: -len(end)] for end in PACKED_SUFFIXES if low.endswith(end)), name)


def packing_of(head: bytes) -> str:
    """Return ``gzip`` or ``zstd`` for a file that can be unpacked while it is read, else ""."""
    if head.startswith(GZIP):
        return "gzip"
    return "zstd" if head.startswith((ZSTD, *_SKIPPABLE)) else ""


def mark_of(head: bytes) -> str:
    """Return the encoding that a byte order mark states: ``utf-8-sig``, ``utf-16``, ``utf-32`` or ""."""
    return next((encoding for mark, encoding in _MARKS if head.startswith(mark)), "")


def format_of(head: bytes) -> Kind | None:
    """Return the kind of a file of a known format that is not text, by its first ``HEAD_BYTES``; else None."""
    if head.startswith(_ZIP):
        return next((kind for name, kind in _OFFICE if name in head), ZIP)
    if head[257:262] == b"ustar":
        return TAR
    if head[4:8] == b"ftyp":
        return PICTURE if head[8:12] in {b"heic", b"heix", b"mif1", b"avif"} else SOUND
    if head.startswith((b"RIFF", b"FORM")) and len(head) >= 12 and not _is_plain(head):
        return PICTURE if head[8:12] == b"WEBP" else SOUND
    for magic, kind in _FORMATS:
        if head.startswith(magic):
            # Letters alone may begin a text as well: "BM", "MZ".
            is_weak = magic.isalnum() and kind is not PDF
            return None if is_weak and _is_plain(head) else kind
    return None


def kind_of_head(head: bytes) -> Kind | None:
    """Return the kind of a file without a mark that is not text by its first ``HEAD_BYTES``, else None.

    None says that the head may be that of a text; whether all of it is UTF-8, the caller finds out.
    """
    if (kind := format_of(head)) is not None or _is_plain(head):
        return kind
    return _wide_kind(head) or (BINARY if _is_controlled(head) else None)


def kind_of_broken(chunk: bytes) -> Kind:
    """Return the kind of bytes that are not UTF-8, by those around the place where they are not."""
    if (kind := _wide_kind(chunk)) is not None:
        return kind
    if _is_controlled(chunk):
        return BINARY
    text = chunk.decode("utf-8", "replace")
    bad = text.count("\ufffd")
    if sum(not character.isascii() for character in text) - bad > bad:
        return DAMAGED
    return LATIN if _is_mostly_ascii(chunk) else OTHER_TEXT


def _is_plain(head: bytes) -> bool:
    """Return True if a head is UTF-8 without control characters: text, whatever its first letters."""
    if head.translate(None, _CONTROLS) != head:
        return False
    try:
        head.decode("utf-8")
    except UnicodeDecodeError as error:  # the head may end within a character
        return error.end == len(head) == HEAD_BYTES and error.reason == "unexpected end of data"
    return True


def _is_controlled(data: bytes) -> bool:
    controls = len(data) - len(data.translate(None, _CONTROLS))
    return 100 * controls > CONTROLS_MAX_PERCENT * len(data)


def _is_mostly_ascii(data: bytes) -> bool:
    return 100 * (len(data) - len(data.translate(None, _ASCII))) >= ASCII_PERCENT * len(data)


def _wide_kind(data: bytes) -> Kind | None:
    """Return the kind of UTF-16 or UTF-32 without a mark, else None: a guess, good enough for a hint."""
    if not data.count(0) or _is_mostly_ascii(data):  # a line end, or a space, has a zero
        return None
    whole = data[: min(len(data) // 4 * 4, 4 * WIDE_UNITS_MAX)]
    for at, above, kind in ((3, 2, UTF32_LE), (0, 1, UTF32_BE)):
        is_zero = not any(whole[at::4]) and 3 * len(whole) >= 4 * whole.count(0)
        if len(whole) >= WIDE_BYTES_MIN and is_zero and max(whole[above::4]) <= PLANE_MAX:
            return kind
    whole = data[: min(len(data) // 2 * 2, 2 * WIDE_UNITS_MAX)]
    halves = ((whole[1::2], whole[::2], UTF16_LE), (whole[::2], whole[1::2], UTF16_BE))
    # Letters of English are those of Chinese in the other order; but a script lies in few blocks.
    orders = [(len(set(high)), kind) for high, low, kind in halves if _is_wide(high, low)]
    return min(orders, key=lambda order: order[0])[1] if orders else None


def _is_wide(high: bytes, low: bytes) -> bool:
    """Return True if units of UTF-16 lie where texts do."""
    units = list(zip(high, low, strict=True))
    strange = sum(a not in _LIVING or (a == 0 and b in _CONTROLS) for a, b in units)
    if len(units) < WIDE_UNITS_MIN:
        return 2 * len(units) >= WIDE_BYTES_MIN and not any(high) and not strange
    return 100 * strange <= (100 - WIDE_PERCENT) * len(units)
