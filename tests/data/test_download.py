"""Downloads against a server on this machine that does everything wrong: one sentence each,
nothing half-written, and a second call completes."""

from __future__ import annotations

import hashlib
import http.server
import io
import json
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import timm
import torch

from wcordbench import models
from wcordbench.cli.main import main
from wcordbench.data.download import download
from wcordbench.errors import UserError
from wcordbench.suite.runs import file_digest

CONTENT = bytes(range(256)) * 4000  # a megabyte, in several chunks
SHA256 = hashlib.sha256(CONTENT).hexdigest()
Fault = Callable[["Handler"], None]


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves ``server.content``, with ranges; or does what ``server.fault`` says, once."""

    server: Any

    def do_GET(self) -> None:
        self.server.asked.append(self.headers.get("Range"))
        fault = self.server.faults.pop(0) if self.server.faults else None
        (fault or serve)(self)

    def log_message(self, *_: Any) -> None:
        pass

    def head(self, status: int, length: int | None, **more: str) -> None:
        self.send_response(status)
        if length is not None:
            self.send_header("Content-Length", str(length))
        for name, value in more.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()


def serve(handler: Handler) -> None:
    content, asked = handler.server.content, handler.headers.get("Range")
    start = int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0
    if start >= len(content):
        handler.head(416, 0)
        return
    part = content[start:]
    where = f"bytes {start}-{len(content) - 1}/{len(content)}"
    handler.head(206 if asked else 200, len(part), **({"Content_Range": where} if asked else {}))
    handler.wfile.write(part)


def cut(handler: Handler) -> None:
    """The connection ends in the middle."""
    handler.head(200, len(CONTENT))
    handler.wfile.write(CONTENT[:400_000])


def reset(handler: Handler) -> None:
    """The connection is reset in the middle."""
    cut(handler)
    handler.wfile.flush()
    time.sleep(0.1)
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    handler.connection.close()


def stall(handler: Handler) -> None:
    """Nothing comes any more."""
    cut(handler)
    handler.wfile.flush()
    handler.server.release.wait(10)


def silent(handler: Handler) -> None:
    """There is no answer."""
    handler.server.release.wait(10)


def hang_up(handler: Handler) -> None:
    """The connection ends without an answer."""
    handler.connection.close()


def no_http(handler: Handler) -> None:
    """The answer is none of HTTP."""
    handler.wfile.write(b"SSH-2.0-OpenSSH\r\n\r\n")


def gone(handler: Handler) -> None:
    handler.head(404, 0)


def busy(handler: Handler) -> None:
    handler.head(503, 0)


def page(handler: Handler) -> None:
    """A page that asks to log in."""
    handler.head(200, 12)
    handler.wfile.write(b"<html>log in")


def wrong_bytes(handler: Handler) -> None:
    """As long as the file, and another."""
    handler.head(200, len(CONTENT))
    handler.wfile.write(b"\0" * len(CONTENT))


def loop(handler: Handler) -> None:
    """It sends in circles."""
    handler.server.faults.insert(0, loop)
    handler.head(302, 0, Location=handler.path)
    if len(handler.server.asked) > 15:
        handler.server.faults.clear()


def short(handler: Handler) -> None:
    """It ends early and never said how long it is."""
    handler.head(200, None)
    handler.wfile.write(CONTENT[:400_000])


#: what goes wrong, what the sentence must hold, and whether what came is kept
FAULTS: dict[str, tuple[Fault, str, bool]] = {
    "cut": (cut, "the connection was cut after 0.4 of 1.0 MB; what came is kept", True),
    "reset": (reset, "the connection", True),
    "stall": (stall, "nothing came for 1 s; what came is kept", True),
    "silent": (silent, "the server does not answer within 1 s; try again later", False),
    "hang up": (hang_up, "the server gives no valid answer", False),
    "no HTTP": (no_http, "the server gives no valid answer", False),
    "gone": (gone, "the server answers 404 (Not Found); correct the suite's url", False),
    "busy": (busy, "the server answers 503 (Service Unavailable); try again later", False),
    "page": (page, "the suite gives " + SHA256, False),
    "wrong bytes": (wrong_bytes, "nothing was kept: correct the suite", False),
    "loop": (loop, "the server answers 302", False),
    "short": (short, "nothing was kept", False),
}


@pytest.fixture
def server() -> Iterator[Any]:
    server: Any = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.content, server.faults, server.asked = CONTENT, [], []
    server.release = threading.Event()
    server.url = f"http://127.0.0.1:{server.server_address[1]}/teacher.pth"
    server.handle_error = lambda *_: None
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield server
    server.release.set()
    server.shutdown()
    server.server_close()


def get(server: Any, file: Path, sha256: str = SHA256) -> bool:
    return download(server.url, file, sha256, lambda _: None, timeout=1)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_one_sentence_and_a_second_call_completes(
    fault: str, server: Any, tmp_path: Path
) -> None:
    act, sentence, kept = FAULTS[fault]
    server.faults, file = [act], tmp_path / "weights" / "teacher.pth"
    with pytest.raises(UserError) as caught:
        get(server, file)
    assert sentence in str(caught.value) and "\n" not in str(caught.value)
    assert str(caught.value).startswith(server.url)
    assert not file.exists()
    parts = [p for p in file.parent.iterdir() if p.name.endswith(".part") and p.stat().st_size]
    assert bool(parts) is kept
    server.faults, server.asked = [], []
    server.release.set()
    assert get(server, file)
    assert file.read_bytes() == CONTENT
    assert [p.name for p in file.parent.iterdir() if p.name != ".teacher.pth.lock"] == [file.name]
    if kept:  # it went on where it was
        assert server.asked[0] is not None and server.asked[0] != "bytes=0-"
    assert not get(server, file)  # it is there: nothing is asked for
    assert len(server.asked) == 1


def test_nobody_there(tmp_path: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/x.pth"
        with pytest.raises(UserError, match=r"it cannot be reached \(Connection refused\)"):
            download(url, tmp_path / "x.pth", SHA256, lambda _: None, timeout=1)
    with pytest.raises(UserError, match="it cannot be reached"):
        download("http://no-such-host.invalid/x", tmp_path / "x", SHA256, lambda _: None, 1)


def test_a_server_without_ranges_or_with_wrong_ones_sends_it_all_again(
    server: Any, tmp_path: Path
) -> None:
    def whole(handler: Handler) -> None:
        handler.head(200, len(CONTENT))
        handler.wfile.write(CONTENT)

    def wrong_range(handler: Handler) -> None:
        handler.head(206, len(CONTENT) - 10, Content_Range=f"bytes 10-{len(CONTENT) - 1}/*")
        handler.wfile.write(CONTENT[10:])

    for number, second in enumerate((whole, wrong_range)):
        file = tmp_path / str(number) / "teacher.pth"
        server.faults = [cut]
        with pytest.raises(UserError):
            get(server, file)
        server.faults = [second]
        assert get(server, file) and file.read_bytes() == CONTENT


def test_what_is_left_of_another_file_is_thrown_away(server: Any, tmp_path: Path) -> None:
    """The file on the server was replaced, or the part is longer than it."""
    for number, left in enumerate((b"\1" * 400_000, CONTENT + b"more", CONTENT)):
        file = tmp_path / str(number) / "teacher.pth"
        file.parent.mkdir()
        (file.parent / f".teacher.pth.{SHA256[:8]}.part").write_bytes(left)
        assert get(server, file) and file.read_bytes() == CONTENT


def test_a_file_that_is_there_is_never_overwritten(server: Any, tmp_path: Path) -> None:
    file = tmp_path / "teacher.pth"
    file.write_bytes(b"mine")
    with pytest.raises(UserError, match="is there and has another SHA-256"):
        get(server, file)
    assert file.read_bytes() == b"mine" and server.asked == []
    with pytest.raises(UserError, match="is a folder"):
        get(server, tmp_path)
    with pytest.raises(UserError, match="cannot be written"):
        get(server, file / "below.pth")


def test_it_says_how_far_it_is(
    server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slow(handler: Handler) -> None:
        handler.head(200, len(CONTENT))
        for start in range(0, len(CONTENT), 200_000):
            handler.wfile.write(CONTENT[start : start + 200_000])
            time.sleep(0.03)

    server.faults, lines = [slow], []
    monkeypatch.setattr("wcordbench.data.download.TELL", 0.02)
    download(server.url, tmp_path / "x", SHA256, lines.append, timeout=1)
    assert lines[0] == f"{server.url}: downloading of 1.0 MB" and len(lines) > 2


SUITE = """
name: given
dataset: {{name: digits, mean: [0.3058], std: [0.3764]}}
train: {{epochs: 1, batch_size: 64, learning_rate: 0.05, schedule: {{type: one_cycle}}}}
seeds: [0]
pairs:
  - teacher:
      {{model: resnet14, checkpoint: {{url: "{url}", sha256: {sha256}, top1: 12.5}},
        allow_chance: true}}
    student: resnet8
methods: [kd]
"""


@pytest.fixture
def command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    def command(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["wcordbench", *arguments])
        with pytest.raises(SystemExit) as stop:
            main()
        captured = capsys.readouterr()
        return int(stop.value.code or 0), captured.out, captured.err

    return command


def test_fetch_shows_every_published_number_of_a_file(
    server: Any, tmp_path: Path, command: Callable[..., tuple[int, str, str]]
) -> None:
    """Two pairs of one file may say different ones; it is measured once."""
    buffer = io.BytesIO()
    torch.save({"model": models.create("resnet14", 10, 8, 1).state_dict()}, buffer)
    server.content = buffer.getvalue()
    sha256 = hashlib.sha256(server.content).hexdigest()
    text = SUITE.format(url=server.url, sha256=sha256)
    pair = text[text.index("  - teacher") : text.index("methods")]
    other = pair.replace("12.5", "70.0").replace("student: resnet8", "student: resnet14")
    path = tmp_path / "given.yaml"
    path.write_text(text.replace(pair, pair + other))
    code, out, err = command("fetch", str(path))
    assert code == 0, err
    rows = [line.split() for line in out.splitlines()[-2:]]
    assert [row[3] for row in rows] == ["12.50", "70.00"] and rows[0][2] == rows[1][2]


def test_fetch_gets_a_suites_teachers_and_measures_them(
    server: Any, tmp_path: Path, command: Callable[..., tuple[int, str, str]]
) -> None:
    buffer = io.BytesIO()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        torch.save({"model": models.create("resnet14", 10, 8, 1).state_dict()}, buffer)
    server.content = buffer.getvalue()
    sha256 = hashlib.sha256(server.content).hexdigest()
    path = tmp_path / "given.yaml"
    path.write_text(SUITE.format(url=server.url, sha256=sha256))
    suite, more = str(path), ["--results", str(tmp_path / "r")]
    code, out, err = command("validate", suite)
    assert code == 0, err
    code, _, err = command("run", suite, *more)
    assert code == 2 and f"is yet to be downloaded; get it with: wcordbench fetch {path}" in err
    server.faults = [gone]
    code, _, err = command("fetch", suite)
    assert code == 2 and "the server answers 404" in err and err.count("\n") == 1
    code, out, err = command("fetch", suite)
    assert code == 0, err
    assert (tmp_path / "weights" / "teacher.pth").read_bytes() == server.content
    row = out.splitlines()[-1].split()
    assert row[0] == "resnet14" and row[3] == "12.50"
    assert float(row[4]) == pytest.approx(float(row[2]) - 12.5, abs=0.011)
    code, _, err = command("run", suite, *more, "--workers", "1")
    assert code == 0, err
    (tmp_path / "weights" / "teacher.pth").write_bytes(b"another")
    file_digest.cache_clear()  # a command reads a file once
    code, _, err = command("table", suite, *more)
    assert code == 2 and "delete the file and fetch it again" in err


@pytest.mark.parametrize("given", ["{{url: 'https://x.org/t.pth', sha256: {0}}}", "true"])
def test_what_is_not_asked_for_needs_no_download(
    given: str, tmp_path: Path, command: Callable[..., tuple[int, str, str]]
) -> None:
    path, more = tmp_path / "given.yaml", ["--results", str(tmp_path / "r")]
    text = SUITE.format(url="u", sha256="s").replace("[kd]", "[student, kd]")
    text = text.replace("resnet14", "timm:mobilenetv3_small_050")
    old = text[text.index("{url") : text.index(", top1")] + ", top1: 12.5}"
    path.write_text(text.replace(old, given.format(64 * "a")))
    code, _, err = command("run", str(path), *more)
    assert code == 2 and "is yet to be downloaded" in err
    code, _, err = command("run", str(path), *more, "--method", "student", "--workers", "1")
    assert code == 0, err
    for name in ("table", "best", "status"):
        code, out, err = command(name, str(path), *more, "--method", "student")
        assert code == 0 and out, (name, err)
    assert [f.name for f in (tmp_path / "r/runs").iterdir() if "kd" in f.name] == []


def test_timms_own_weights_teach_as_they_are(
    tmp_path: Path,
    command: Callable[..., tuple[int, str, str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    make, online = timm.create_model, [False]

    def create(name: str, pretrained: bool = False, **options: Any) -> Any:
        if pretrained and not online[0]:
            raise OSError("no network")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(1)
            return make(name, **{"num_classes": 10, "in_chans": 1, **options})

    monkeypatch.setattr("timm.create_model", create)
    path, file = tmp_path / "given.yaml", tmp_path / "weights/mobilenetv3_small_050.safetensors"
    text = SUITE.format(url="u", sha256="s").replace("resnet14", "timm:mobilenetv3_small_050")
    given = text[text.index("{url") : text.index(", top1")] + ", top1: 12.5}"
    path.write_text(text.replace(given, "true"))
    suite, more = str(path), ["--results", str(tmp_path / "r")]
    code, out, err = command("validate", suite)
    assert code == 0 and "is valid" in out, err
    code, _, err = command("run", suite, *more)
    assert code == 2 and f"{file} is yet to be downloaded; get it with wcordbench fetch" in err
    code, _, err = command("fetch", suite)
    assert code == 2 and "(no network); run once with a network" in err and str(file) in err
    assert not file.exists()
    online[0] = True
    code, out, err = command("fetch", suite)
    assert code == 0, err
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    assert f"downloaded, sha256: {digest}" in out
    state = safetensors.torch.load_file(file)
    assert state.keys() == create("mobilenetv3_small_050").state_dict().keys()
    online[0] = False
    code, _, err = command("run", suite, *more, "--workers", "1")
    assert code == 0, err
    (record,) = (tmp_path / "r" / "runs").glob("*kd*/result.json")
    assert json.loads(record.read_text())["config"]["teacher"]["checkpoint"] == digest
    # Elsewhere the digest stands for the file.
    file.unlink()
    path.write_text(text.replace(given, f"{{timm: true, sha256: {digest}}}"))
    code, out, err = command("table", suite, *more)
    assert code == 0 and "KD" in out, err


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ("{url: 'https://x.org/t.pth'}", "checkpoint.sha256' is missing: a download is checked"),
        (
            "{url: 'ftp://x.org/t.pth', sha256: " + 64 * "a" + "}",
            "must be an address that begins with https://",
        ),
        ("{url: 'https://x.org/t.pth', sha256: ab}", "must be the 64 hexadecimal digits"),
        ("{sha256: " + 64 * "a" + "}", "give the path of a file, url and sha256"),
        ("{path: gone.pth}", "gone.pth does not exist"),
        ("{pth: gone.pth}", "unknown key 'pairs.0.teacher.checkpoint.pth'; did you mean 'path'?"),
        ("3", "must be"),
        ("{timm: true, url: 'https://x.org/t.pth', sha256: " + 64 * "a" + "}", "leave 'timm' or"),
        ("true", "checkpoint' is for timm's models, and 'resnet14' is none"),
    ],
)
def test_a_wrong_source_is_one_sentence(
    source: str, sentence: str, tmp_path: Path, command: Callable[..., tuple[int, str, str]]
) -> None:
    path = tmp_path / "given.yaml"
    text = SUITE.format(url="u", sha256="s")
    given = text[text.index("{url") : text.index(", top1")] + ", top1: 12.5}"
    path.write_text(text.replace(given, source))
    for verb in ("validate", "fetch"):
        code, _, err = command(verb, str(path))
        assert code == 2 and sentence in err and err.count("\n") == 1, err
