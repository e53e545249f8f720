"""Downloads against a server on this machine that does everything servers do wrong."""

import hashlib
import http.server
import threading
from contextlib import contextmanager

import pytest

from segpipe.core.errors import DataError
from segpipe.data import fetch as module
from segpipe.data.fetch import Patience, Remote, fetch

CONTENT = bytes(range(256)) * 4096  # 1 MiB
HASTE = Patience(silence=0.5, tries=3, pause=0.01)


class Server(http.server.ThreadingHTTPServer):
    """Answers as `plan` says, one entry a request; the last one stays. Remembers the requests' headers."""

    def __init__(self, plan):
        super().__init__(("127.0.0.1", 0), Handler)
        self.plan, self.seen = list(plan), []

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/file.bin"

    def handle_error(self, request, client_address):
        """A client that hangs up is no error here."""


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments):
        pass

    def do_GET(self):
        self.server.seen.append((self.path, dict(self.headers)))
        act = self.server.plan[0] if len(self.server.plan) == 1 else self.server.plan.pop(0)
        self.close_connection = True
        getattr(self, act[0])(*act[1:])

    def whole(self, content=CONTENT, ranges=True, cut=None, claim=None, etag='"1"', shift=0):
        """The file, or the range asked for; `cut`: close after so many bytes; `claim`: add to the length."""
        asked = self.headers.get("Range")
        fresh = self.headers.get("If-Range") in (None, etag)
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and ranges and fresh else 0
        if asked and ranges and fresh and start >= len(content):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(content)}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        body = content[start:]
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start + shift}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(body) + (claim or 0)))
        self.send_header("ETag", etag)
        self.end_headers()
        self.wfile.write(body[:cut])

    def status(self, code, **headers):
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def busy(self, seconds):
        self.status(429, Retry_After=seconds)

    def redirect(self, to):
        self.status(302, Location=to)

    def stall(self, after=1000):
        self.send_response(200)
        self.send_header("Content-Length", str(len(CONTENT)))
        self.send_header("ETag", '"1"')
        self.end_headers()
        self.wfile.write(CONTENT[:after])
        self.wfile.flush()
        threading.Event().wait(2)

    def chunks(self, whole=True):
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for i in range(0, len(CONTENT), 2**18):
            part = CONTENT[i : i + 2**18]
            self.wfile.write(f"{len(part):x}\r\n".encode() + part + b"\r\n")
            if not whole:
                return
        self.wfile.write(b"0\r\n\r\n")


@contextmanager
def serving(*plan):
    server = Server(plan)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def remote(*urls, content=CONTENT, kinds=("sha256",), size=True):
    digests = {kind: hashlib.new(kind, content).hexdigest() for kind in kinds}
    return Remote("file.bin", urls, len(content) if size else None, digests)


def quiet(line):
    pass


GOOD = {
    "at once": [("whole",)],
    "cut twice, then resumed": [("whole", CONTENT, True, 100_000), ("whole", CONTENT, True, 300_000), ("whole",)],
    "cut by a server without ranges": [("whole", CONTENT, False, 100_000), ("whole", CONTENT, False)],
    "500, 429 and 503 before it": [
        ("status", 500),
        ("status", 429),
        ("whole", CONTENT, True, 5),
        ("status", 503),
        ("whole",),
    ],
    "stalls": [("stall",), ("whole",)],
    "stalls without a byte": [("stall", 0), ("whole",)],
    "chunked": [("chunks",)],
    "chunked and cut": [("chunks", False), ("whole",)],
    "another range than asked for": [
        ("whole", CONTENT, True, 100_000),
        ("whole", CONTENT, True, None, None, '"1"', 7),
        ("whole",),
    ],
    "changed between the tries": [("whole", CONTENT[::-1], True, 100_000, None, '"0"'), ("whole",)],
}


@pytest.mark.parametrize("plan", GOOD.values(), ids=GOOD)
@pytest.mark.parametrize("known", [True, False], ids=["digest known", "digest unknown"])
def test_the_file_arrives(tmp_path, plan, known):
    with serving(*plan) as server:
        wanted = remote(server.url) if known else Remote("file.bin", [server.url])
        found = fetch(wanted, tmp_path, patience=HASTE, log=quiet)
    assert found.path.read_bytes() == CONTENT
    assert (found.sha256, found.bytes, found.origin) == (hashlib.sha256(CONTENT).hexdigest(), len(CONTENT), server.url)
    assert [path.name for path in tmp_path.iterdir()] == ["file.bin"]


def test_a_cut_stream_is_resumed_where_it_stopped(tmp_path):
    with serving(("whole", CONTENT, True, 100_000), ("whole",)) as server:
        fetch(remote(server.url), tmp_path, patience=HASTE, log=quiet)
    first, second = (headers for _, headers in server.seen)
    assert "Range" not in first
    assert (second["Range"], second["If-Range"]) == ("bytes=100000-", '"1"')


def test_a_later_call_resumes_and_a_finished_part_needs_no_byte(tmp_path):
    with serving(("whole", CONTENT, True, 100_000), ("status", 500)) as server:
        with pytest.raises(DataError, match=r"file.bin.part holds 100000 bytes, the next call goes on there"):
            fetch(remote(server.url), tmp_path, patience=HASTE, log=quiet)
        server.plan = [("whole",)]
        fetch(remote(server.url), tmp_path, patience=HASTE, log=quiet)
        assert server.seen[-1][1]["Range"] == "bytes=100000-"
        (tmp_path / "file.bin").rename(tmp_path / "file.bin.part")
        fetch(remote(server.url), tmp_path, patience=HASTE, log=quiet)
    assert (tmp_path / "file.bin").read_bytes() == CONTENT


@pytest.mark.parametrize("kind", module.DIGESTS)
def test_a_wrong_file_is_never_taken(tmp_path, kind):
    with serving(("whole", CONTENT[::-1])) as server, pytest.raises(DataError, match=f"another file: {kind} is"):
        fetch(remote(server.url, kinds=[kind]), tmp_path, patience=HASTE, log=quiet)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("plan", "words"),
    [
        (("status", 404), "404 Not Found"),
        (("status", 401), "401"),
        (("status", 500), "answer 500"),
        (("whole", CONTENT[:-1]), "1048575 bytes, wanted 1048576"),
        (("whole", CONTENT + b"x"), "1048577 bytes, wanted 1048576"),
        (("whole", CONTENT, True, None, 10), "1048586 bytes, wanted 1048576"),
    ],
)
def test_another_place_is_tried(tmp_path, plan, words):
    lines = []
    with serving(plan) as first, serving(("whole",)) as second:
        found = fetch(remote(first.url, second.url), tmp_path, patience=HASTE, log=lines.append)
    assert found.origin == second.url
    assert len(lines) == 1
    assert words in lines[0]


def test_a_part_of_one_place_is_continued_at_another_that_has_the_same_file(tmp_path):
    with serving(("whole", CONTENT, True, 100_000), ("status", 404)) as first, serving(("whole",)) as second:
        fetch(remote(first.url, second.url), tmp_path, patience=HASTE, log=quiet)
    assert second.seen[0][1]["Range"] == "bytes=100000-"
    assert (tmp_path / "file.bin").read_bytes() == CONTENT


def test_without_a_digest_parts_of_two_places_are_never_joined(tmp_path):
    with serving(("whole", CONTENT[::-1], True, 100_000), ("status", 404)) as first, serving(("whole",)) as second:
        fetch(Remote("file.bin", [first.url, second.url]), tmp_path, patience=HASTE, log=quiet)
    assert "Range" not in second.seen[0][1]
    assert (tmp_path / "file.bin").read_bytes() == CONTENT


@pytest.mark.parametrize("tag", ['W/"1"', ""])
def test_without_a_digest_a_part_that_no_strong_tag_names_is_not_continued(tmp_path, tag):
    with serving(
        ("whole", CONTENT[::-1], True, 100_000, None, tag), ("whole", CONTENT, True, None, None, tag)
    ) as server:
        fetch(Remote("file.bin", [server.url]), tmp_path, patience=HASTE, log=quiet)
    assert "Range" not in server.seen[1][1]
    assert (tmp_path / "file.bin").read_bytes() == CONTENT


def test_a_server_that_goes_in_circles_is_left(tmp_path):
    circle = [("whole", CONTENT, True, 100_000), ("whole", CONTENT, True, None, None, '"1"', 7)] * 20
    with serving(*circle, ("status", 404)) as server, pytest.raises(DataError, match="could not be downloaded"):
        fetch(remote(server.url), tmp_path, patience=HASTE, log=quiet)
    assert len(server.seen) <= 2 * HASTE.tries + 2


@pytest.mark.parametrize(("asked", "waited"), [("7", 7.0), ("9999", 60.0), ("soon", 0.01)])
def test_a_busy_server_is_left_in_peace_for_as_long_as_it_asks(tmp_path, monkeypatch, asked, waited):
    waits = []
    monkeypatch.setattr(module.time, "sleep", waits.append)
    with serving(("busy", asked), ("whole",)) as server:
        fetch(remote(server.url), tmp_path, patience=HASTE, log=quiet)
    assert waits == [waited]


def test_a_network_that_breaks_is_no_full_disk(tmp_path, monkeypatch):
    real, broken = module.urllib.request.urlopen, []

    def unsteady(*arguments, **options):
        answer = real(*arguments, **options)
        if not broken:
            broken.append(True)
            answer.read1 = lambda _: (_ for _ in ()).throw(OSError(113, "No route to host"))
        return answer

    monkeypatch.setattr(module.urllib.request, "urlopen", unsteady)
    with serving(("whole",)) as server:
        fetch(remote(server.url), tmp_path, patience=HASTE, log=quiet)
    assert broken
    assert (tmp_path / "file.bin").read_bytes() == CONTENT


def test_a_redirect_is_followed_and_a_circle_left(tmp_path):
    with serving(("whole",)) as there, serving(("redirect", there.url)) as here:
        fetch(remote(here.url), tmp_path, patience=HASTE, log=quiet)
        here.plan = [("redirect", here.url)]
        with pytest.raises(DataError, match="answer 302"):
            fetch(remote(here.url), tmp_path / "other", patience=HASTE, log=quiet)
    assert (tmp_path / "file.bin").read_bytes() == CONTENT


def test_a_stream_without_end_is_stopped(tmp_path):
    with serving(("chunks",)) as server, pytest.raises(DataError, match="more than 500000 bytes"):
        fetch(Remote("file.bin", [server.url]), tmp_path, patience=HASTE, most_bytes=500_000, log=quiet)
    assert not (tmp_path / "file.bin").exists()


def test_a_server_that_is_gone_says_what_to_do(tmp_path):
    with serving(("whole",)) as server:
        url = server.url
    with pytest.raises(DataError, match=r"Connection refused.*put the file into .* SEGPIPE_MIRROR"):
        fetch(remote(url), tmp_path, patience=HASTE, log=quiet)


@pytest.mark.parametrize("under", ["", "mine/"])
def test_a_local_mirror_comes_first(tmp_path, monkeypatch, under):
    mirror = tmp_path / "a mirror"
    (mirror / under).mkdir(parents=True)
    (mirror / under / "file.bin").write_bytes(CONTENT)
    monkeypatch.setenv("SEGPIPE_MIRROR", str(mirror))
    found = fetch(remote("http://127.0.0.1:9/never"), tmp_path / "to", dataset="mine", patience=HASTE, log=quiet)
    assert found.path.read_bytes() == CONTENT
    assert found.origin.startswith("file://")


def test_file_addresses_and_wrong_ones(tmp_path):
    (tmp_path / "there.bin").write_bytes(CONTENT)
    good = remote((tmp_path / "absent").as_uri(), tmp_path.as_uri(), "no address", (tmp_path / "there.bin").as_uri())
    lines = []
    assert fetch(good, tmp_path / "to", patience=HASTE, log=lines.append).path.read_bytes() == CONTENT
    assert len(lines) == 3


def test_a_file_that_is_there_is_checked_and_not_fetched(tmp_path):
    (tmp_path / "file.bin").write_bytes(CONTENT)
    assert fetch(remote(), tmp_path).bytes == len(CONTENT)
    (tmp_path / "file.bin").write_bytes(CONTENT[:-1])
    with pytest.raises(
        DataError, match=r"file.bin is another file: 1048575 bytes, wanted 1048576; delete it and get it again"
    ):
        fetch(remote(), tmp_path)


def test_a_full_disk_is_said_before_the_first_byte(tmp_path, monkeypatch):
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr(module.shutil, "disk_usage", lambda _: usage)
    with serving(("whole",)) as server, pytest.raises(DataError, match="has 1000 bytes free, wanted 1048576 more"):
        fetch(remote(server.url), tmp_path, patience=HASTE, log=quiet)


def test_a_folder_that_cannot_be_written(tmp_path, monkeypatch):
    def refuse(*arguments):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(module.os, "replace", refuse)
    with serving(("whole",)) as server, pytest.raises(DataError, match="cannot be written: Permission denied"):
        fetch(remote(server.url), tmp_path, patience=HASTE, log=quiet)
