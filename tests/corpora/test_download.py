import hashlib
import io
import tarfile
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from espnet_ext.bin import ser_fetch_corpus
from espnet_ext.corpora import download
from espnet_ext.corpora.download import Remote, Source, download_corpus, fetch
from espnet_ext.errors import UserError


class Server(ThreadingHTTPServer):
    """Serves `files`; breaks connections after `breaks` bytes as often as told."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files = {}
        self.breaks = []
        self.ranges = True
        self.requests = []

    def url(self, name):
        return f"http://127.0.0.1:{self.server_port}/{name}"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        server = self.server
        given = self.headers.get("Range")
        server.requests.append((self.path, given))
        content = server.files.get(self.path.lstrip("/"))
        if content is None:
            self.send_error(404)
            return
        start = 0
        if given and server.ranges:
            start = int(given.removeprefix("bytes=").rstrip("-"))
            if start >= len(content):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(content)}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        stop = start + server.breaks.pop(0) if server.breaks else len(content)
        self.wfile.write(content[start:stop])
        if stop < len(content):
            self.wfile.flush()
            self.close_connection = True

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    server = Server()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


CONTENT = bytes(range(256)) * 5000


def checked(server, name="a.bin", content=CONTENT):
    server.files[name] = content
    digest = hashlib.md5(content).hexdigest()
    return Remote(server.url(name), name, f"md5:{digest}")


def at_once(_):
    return 0.0


def test_a_broken_connection_is_resumed_where_it_ended(server, tmp_path):
    remote = checked(server)
    server.breaks = [1000, 500_000, 1]
    fetch(remote, tmp_path / "a.bin", pause=at_once)
    assert (tmp_path / "a.bin").read_bytes() == CONTENT
    ranges = [given for _, given in server.requests]
    assert ranges == [None, "bytes=1000-", "bytes=501000-", "bytes=501001-"]
    assert [path.name for path in tmp_path.iterdir()] == ["a.bin"]


def test_what_an_ended_program_has_fetched_is_not_fetched_again(server, tmp_path):
    remote = checked(server)
    server.breaks = [1000, 0, 0]
    with pytest.raises(UserError, match="the same command goes on where it ended"):
        fetch(remote, tmp_path / "a.bin", attempts=3, pause=at_once)
    assert (tmp_path / "a.bin.part").stat().st_size == 1000
    server.requests.clear()
    fetch(remote, tmp_path / "a.bin", pause=at_once)
    assert server.requests == [("/a.bin", "bytes=1000-")]
    assert (tmp_path / "a.bin").read_bytes() == CONTENT


def test_a_server_without_ranges_sends_it_all_again(server, tmp_path):
    remote = checked(server)
    server.breaks, server.ranges = [1000], False
    fetch(remote, tmp_path / "a.bin", pause=at_once)
    assert (tmp_path / "a.bin").read_bytes() == CONTENT


def test_a_complete_part_is_only_checked(server, tmp_path):
    remote = checked(server)
    (tmp_path / "a.bin.part").write_bytes(CONTENT)
    fetch(remote, tmp_path / "a.bin", pause=at_once)
    assert (tmp_path / "a.bin").read_bytes() == CONTENT


@pytest.mark.parametrize("part", [b"", b"\xff" * 1000])
def test_a_wrong_checksum_is_told_and_nothing_is_kept(server, tmp_path, part):
    remote = checked(server)
    if part:  # the rest of another file
        (tmp_path / "a.bin.part").write_bytes(part)
    else:
        server.files["a.bin"] = CONTENT[:-1] + b"!"
    with pytest.raises(UserError, match=r"has the md5 \w+ and not") as error:
        fetch(remote, tmp_path / "a.bin", pause=at_once)
    assert remote.url in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_size_is_told(server, tmp_path):
    checked(server)
    remote = Remote(server.url("a.bin"), "a.bin", size=12)
    with pytest.raises(UserError, match="has 1280000 bytes and not 12"):
        fetch(remote, tmp_path / "a.bin", pause=at_once)


def test_what_the_server_does_not_have_is_told_with_the_page(server, tmp_path):
    remote = Remote(server.url("none"), "none")
    with pytest.raises(UserError, match=r"404.*get it from https://page"):
        fetch(remote, tmp_path / "none", "https://page", pause=at_once)


def zipped(files):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return stream.getvalue()


def tarred(files):
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return stream.getvalue()


def test_archives_are_unpacked_with_those_inside(server, tmp_path):
    inner = tarred({"train_splits/dia0_utt0.mp4": b"film"})
    archives = (
        checked(server, "a.zip", zipped({"wav/03a01Fa.wav": b"sound"})),
        checked(server, "m.tar.gz", tarred({"MELD.Raw/train.tar.gz": inner})),
    )
    source = Source("free", "https://page", archives, inner="MELD.Raw")
    download_corpus(source, tmp_path / "corpus")
    root = tmp_path / "corpus"
    assert (root / "wav" / "03a01Fa.wav").read_bytes() == b"sound"
    film = root / "train_splits" / "dia0_utt0.mp4"
    assert film.read_bytes() == b"film"
    assert [path.name for path in tmp_path.iterdir()] == ["corpus"]
    server.requests.clear()
    download_corpus(source, root)
    assert server.requests == []


def test_a_damaged_archive_is_removed_and_no_corpus_is_left(server, tmp_path):
    content = bytearray(zipped({"wav/03a01Fa.wav": b"sound" * 1000}))
    content[2000] ^= 1
    source = Source("free", "https://page", (checked(server, "a.zip", bytes(content)),))
    with pytest.raises(UserError, match=r"(?s)damaged.*https://page") as error:
        download_corpus(source, tmp_path / "corpus")
    assert server.url("a.zip") in str(error.value)
    assert not (tmp_path / "corpus").exists()
    assert not (tmp_path / "corpus.archives" / "a.zip").exists()


def test_files_in_git_lfs_are_checked_by_their_pointers(server, tmp_path, monkeypatch):
    monkeypatch.setattr(download, "_TEXTS", server.url("raw"))
    monkeypatch.setattr(download, "_MEDIA", server.url("media"))
    names = ["1001_DFA_ANG_XX", "1002_DFA_SAD_XX"]
    server.files["raw/x/y/master/SentenceFilenames.csv"] = (
        '"Stimulus_Number","Filename"\n'
        + "".join(f'{i},"{name}"\n' for i, name in enumerate(names))
    ).encode()
    server.files["raw/x/y/master/VideoDemographics.csv"] = b'"ActorID","Sex"\n'
    for name in names:
        sound = name.encode() * 100
        digest = hashlib.sha256(sound).hexdigest()
        server.files[f"raw/x/y/master/AudioWAV/{name}.wav"] = (
            "version https://git-lfs.github.com/spec/v1\n"
            f"oid sha256:{digest}\nsize {len(sound)}\n"
        ).encode()
        server.files[f"media/x/y/master/AudioWAV/{name}.wav"] = sound
    source = Source("free", "https://page", git_lfs="x/y/master")
    good = server.files[f"media/x/y/master/AudioWAV/{names[1]}.wav"]
    server.files[f"media/x/y/master/AudioWAV/{names[1]}.wav"] = b"?" * len(good)
    with pytest.raises(UserError, match="has the sha256"):
        download_corpus(source, tmp_path / "corpus", attempts=1)
    assert not (tmp_path / "corpus").exists()
    server.files[f"media/x/y/master/AudioWAV/{names[1]}.wav"] = good
    server.requests.clear()
    download_corpus(source, tmp_path / "corpus", attempts=1)
    fetched = [path for path, _ in server.requests if "media" in path]
    assert fetched == [f"/media/x/y/master/AudioWAV/{names[1]}.wav"]
    audio = tmp_path / "corpus" / "AudioWAV"
    assert sorted(p.name for p in audio.iterdir()) == [f"{n}.wav" for n in names]


@pytest.mark.parametrize("corpus", download.SOURCES)
def test_a_license_must_be_accepted(corpus, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    with pytest.raises(SystemExit):
        ser_fetch_corpus.main(["--corpus", corpus, "--output", str(tmp_path / "c")])
    told = capsys.readouterr()
    assert "--accept_license true" in told.err
    assert download.SOURCES[corpus].page in told.out
    assert not (tmp_path / "c").exists()


@pytest.mark.parametrize("corpus", ["iemocap", "msp_podcast"])
def test_what_cannot_be_fetched_says_where_to_get_it(corpus, tmp_path, capsys):
    with pytest.raises(SystemExit):
        ser_fetch_corpus.main(["--corpus", corpus, "--output", str(tmp_path / "c")])
    told = capsys.readouterr().err
    assert corpus in told
    assert "https://" in told
