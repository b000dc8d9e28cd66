"""Random damage to files of others, and what a reader of them may do about it.

Edits of bytes find what a parser does not expect, edits of values what it accepts and
nobody after it expects.
"""

import copy
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

FEW = 15
# For a bounded time; FUZZ_EXAMPLES=100000 pytest -m slow tests/test_fuzz.py looks on.
MANY = int(os.environ.get("FUZZ_EXAMPLES", "300"))
SECONDS = 30  # of one input, after which it counts as hanging

examples = pytest.mark.parametrize(
    "examples", [FEW, pytest.param(MANY, marks=pytest.mark.slow)], ids=["few", "many"]
)

# What a parser may choke on, and what it must not follow.
TOKENS = [
    *(b"\0", b"\xff" * 8, b"-1", b"1e999", b"NaN", b"9" * 30, b"[" * 3000, b"{{", b"}"),
    *(b"\x80\x02c", b"cos\nsystem\n", b"../../etc/passwd", b"/etc/passwd", b"\x1b[31m"),
    *(b"http://127.0.0.1:9/a", b"\xe2\x80\xae", b"__class__", b"null", b'"', b"\n"),
]
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.integers(-3, 300)
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from([token.decode("latin1")[:300] for token in TOKENS])
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=8,
)


@st.composite
def damaged(draw: Callable, seeds: list[bytes]) -> bytes:
    """One of some files after a few edits."""
    content = bytearray(draw(st.sampled_from(seeds)))
    for _ in range(draw(st.integers(1, 6))):
        start = draw(st.integers(0, len(content)))
        stop = min(len(content), start + draw(st.integers(0, 40)))
        kind = draw(st.sampled_from(["bit", "cut", "drop", "put", "copy", "token"]))
        if kind == "bit" and start < len(content):
            content[start] ^= 1 << draw(st.integers(0, 7))
        elif kind == "cut":
            del content[max(start, 1) :]
        elif kind == "drop":
            del content[start:stop]
        elif kind == "put":
            content[start:stop] = draw(st.binary(max_size=40))
        elif kind == "copy":
            content[start:start] = content[start:stop]
        else:
            content[start:stop] = draw(st.sampled_from(TOKENS))
    return bytes(content)


@st.composite
def changed(draw: Callable, seeds: list[Any], values: st.SearchStrategy = VALUES):
    """A nested value with some of its parts replaced, dropped or added."""
    value = copy.deepcopy(draw(st.sampled_from(seeds)))
    for _ in range(draw(st.integers(1, 4))):
        node = value
        while isinstance(node, dict | list) and node:
            keys = list(node) if isinstance(node, dict) else range(len(node))
            key = draw(st.sampled_from(keys))
            deeper = node[key]
            if not isinstance(deeper, dict | list) or draw(st.integers(0, 3)) == 0:
                kind = draw(st.integers(0, 4))
                if kind == 0:
                    del node[key]
                elif kind == 1 and isinstance(node, dict):
                    node[draw(st.text(max_size=8))] = draw(values)
                else:
                    node[key] = draw(values)
                break
            node = deeper
    return value


def fuzz(check: Callable[[Any], None], inputs: st.SearchStrategy, examples: int):
    """Try many inputs, in ever the same order.

    Args:
        check: raises what the reader must not raise.
        inputs: to choose from.
        examples: how many.
    """

    @settings(
        max_examples=examples,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    @given(inputs)
    def run(content: Any) -> None:
        with alone():
            check(content)

    run()


_touched: list[str] | None = None
_FORBIDDEN = ("subprocess.Popen", "os.system", "os.exec", "socket.connect", "os.remove")


def _hear(event: str, args: tuple) -> None:
    if _touched is None:
        return
    if event in _FORBIDDEN:
        _touched.append(f"{event} {args!r:.200}")
    elif event == "open":
        path, mode, flags = args
        writes = flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        if writes and str(path) != os.devnull:
            _touched.append(f"open {path!r} {mode}")


sys.addaudithook(_hear)


@contextmanager
def alone() -> Iterator[None]:
    """Fail on what writes a file, starts a process, connects, or does not end."""
    global _touched

    def stop(*_: Any) -> None:
        raise AssertionError(f"it did not end within {SECONDS} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(SECONDS)
    _touched = []
    try:
        yield
        assert not _touched, _touched
    finally:
        _touched = None
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@contextmanager
def writing() -> Iterator[None]:
    """Within `alone`, what the test itself writes."""
    global _touched
    kept, _touched = _touched, None
    try:
        yield
    finally:
        _touched = kept
