"""The pure rooms read no clock, sleep never, draw no unseeded number, open nothing and know no event loop."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import gridtide

ROOT = Path(gridtide.__file__).parent
PURE = ("model", "control", "market", "plan", "twin", "wire")
IMPORTS = frozenset(
    [
        "asyncio",
        "socket",
        "ssl",
        "select",
        "selectors",
        "socketserver",
        "threading",
        "multiprocessing",
        "subprocess",
        "concurrent",
        "signal",
        "http.client",
        "http.server",
        "urllib.request",
        "ftplib",
        "smtplib",
        "shelve",
        "sqlite3",
        "tempfile",
        "shutil",
        "secrets",
        "uvloop",
        "websockets",
        "litestar",
        "uvicorn",
        "pymodbus",
        "httpx",
        "aiomqtt",
    ]
)
"""No pure module may import these at all."""
CALLS = frozenset(
    [
        "open",
        "input",
        "exec",
        "eval",
        "breakpoint",
        "io.open",
        "os.open",
        "os.popen",
        "os.system",
        "os.urandom",
        "os.getenv",
        "uuid.uuid1",
        "uuid.uuid4",
        "time.time",
        "time.time_ns",
        "time.monotonic",
        "time.monotonic_ns",
        "time.perf_counter",
        "time.perf_counter_ns",
        "time.process_time",
        "time.sleep",
        "time.localtime",
        "time.gmtime",
        "time.ctime",
        "datetime.datetime.now",
        "datetime.datetime.utcnow",
        "datetime.datetime.today",
        "datetime.date.today",
    ]
)
SEEDED = frozenset({"random.Random", "numpy.random.default_rng", "numpy.random.SeedSequence", "numpy.random.PCG64"})
"""Fine with an argument; without one they are seeded by the machine."""
TYPES = frozenset({"random.Random", "numpy.random.Generator"})
FILE_METHODS = frozenset(["read_text", "read_bytes", "write_text", "write_bytes", "unlink", "mkdir"])
ENVIRONMENT = frozenset({"os.environ", "sys.argv", "sys.stdin"})


def aliases(tree: ast.AST) -> dict[str, str]:
    """Local name -> dotted origin of every import."""
    found: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for item in node.names:
                found[item.asname or item.name.split(".")[0]] = item.name if item.asname else item.name.split(".")[0]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found |= {item.asname or item.name: f"{node.module}.{item.name}" for item in node.names}
    return found


def dotted(node: ast.AST, names: dict[str, str]) -> str:
    """`np.random.rand` -> `numpy.random.rand`; empty where it is no plain name."""
    if isinstance(node, ast.Name):
        return names.get(node.id, node.id)
    if isinstance(node, ast.Attribute):
        owner = dotted(node.value, names)
        return f"{owner}.{node.attr}" if owner else ""
    return ""


def banned(module: str) -> bool:
    """Whether this module, or one that holds it, may not be imported."""
    parts = module.split(".")
    return any(".".join(parts[: k + 1]) in IMPORTS for k in range(len(parts)))


def impurities(source: str) -> Iterator[str]:
    """`line: what` for everything that a pure module must not do."""
    tree = ast.parse(source)
    names = aliases(tree)
    for node in ast.walk(tree):
        line = f"{getattr(node, 'lineno', 0)}: "
        if isinstance(node, ast.Import):
            yield from (line + item.name for item in node.names if banned(item.name))
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield from (line + item.name for item in node.names if banned(f"{node.module}.{item.name}"))
        elif isinstance(node, ast.AsyncFunctionDef | ast.Await | ast.AsyncWith | ast.AsyncFor):
            yield f"{line}async"
        elif isinstance(node, ast.Call):
            yield from (line + what for what in _call(node, names))
        elif isinstance(node, ast.Attribute) and dotted(node, names) in ENVIRONMENT:
            yield line + dotted(node, names)


def _call(node: ast.Call, names: dict[str, str]) -> Iterator[str]:
    name = dotted(node.func, names)
    if name in CALLS:
        yield name
    elif name in SEEDED and not (node.args or node.keywords):
        yield f"{name} without a seed"
    elif name.startswith(("random.", "numpy.random.")) and name not in SEEDED | TYPES:
        yield name
    elif isinstance(node.func, ast.Attribute) and node.func.attr in FILE_METHODS:
        yield f".{node.func.attr}"


def modules() -> list[Path]:
    """All modules of the pure rooms."""
    return [path for room in PURE for path in sorted((ROOT / room).rglob("*.py"))]


def test_every_pure_room_is_looked_at() -> None:
    assert {path.relative_to(ROOT).parts[0] for path in modules()} == set(PURE)


@pytest.mark.parametrize("room", PURE)
def test_pure_rooms_are_pure(room: str) -> None:
    found = [
        f"{path.relative_to(ROOT)}:{what}"
        for path in sorted((ROOT / room).rglob("*.py"))
        for what in impurities(path.read_text(encoding="utf-8"))
    ]
    assert found == []


@pytest.mark.parametrize(
    "source",
    [
        "import time\nnow = time.time()",
        "from time import monotonic as tick\ntick()",
        "from datetime import datetime\ndatetime.now()",
        "import datetime as d\nd.datetime.now(d.UTC)",
        "import time\ntime.sleep(1)",
        "import random\nrandom.random()",
        "from random import gauss\ngauss(0, 1)",
        "import random\nrandom.Random()",
        "import numpy as np\nnp.random.default_rng()",
        "import numpy as np\nnp.random.normal()",
        "from numpy.random import rand\nrand(3)",
        "import asyncio",
        "from asyncio import sleep",
        "import socket",
        "import urllib.request",
        "from urllib import request",
        "async def f(): ...",
        "open('x')",
        "from pathlib import Path\nPath('x').read_text()",
        "import os\nos.environ['HOME']",
        "import os\nos.urandom(8)",
        "import uuid\nuuid.uuid4()",
    ],
)
def test_a_planted_impurity_is_found(source: str) -> None:
    assert list(impurities(source))


@pytest.mark.parametrize(
    "source",
    [
        "import numpy as np\nrng = np.random.default_rng(seed)\nrng.normal()",
        "import random\ndef f(rng: random.Random) -> float:\n    return rng.random()",
        "import random\nrandom.Random(7)",
        "from urllib.parse import quote\nquote('a b')",
        "from datetime import UTC, datetime\ndatetime.fromtimestamp(0.0, UTC)",
        "def f(time: float) -> float:\n    return time",
    ],
)
def test_what_is_pure_is_left_alone(source: str) -> None:
    assert list(impurities(source)) == []
