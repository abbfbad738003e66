"""What is told and how often; messages arrive at a real web server and a real mail server, and a dead one holds nothing up."""

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from typer.testing import CliRunner

from l2_platform.cli import app
from l2_platform.clock import SystemClock
from l2_platform.errors import ConfigError
from l2_platform.operations.notifying import HOUR_NS, Event, Notifier, Told, plan
from l2_platform.settings import NotifySettings, Settings

NOW = 1_790_000_000 * 10**9
S = 10**9


def event(cause="check a:b", title="a:b failed", *, good=False):
    return Event(cause, title, "seen, and what to do", good=good)


def settings(**changes):
    return NotifySettings(**({"group_s": 60, "repeat_s": 3600, "hour_max": 5, "causes_max": 10} | changes))


def due(told, events, now_ns, bounds) -> tuple[str, str]:
    """The message, which there must be."""
    message = plan(told, events, now_ns, bounds)
    assert message is not None
    return message


def test_what_fails_together_is_one_message_that_names_the_first():
    title, body = due(Told(), [event("check a"), event("check b", "b failed"), event("run c", "run c failed")], NOW, settings())
    assert title == "l2: a:b failed, and 2 more"
    assert "b failed" in body
    assert "run c failed" in body


def test_same_cause_is_told_once_and_counted_until_it_is_told_again():
    told = Told()
    assert plan(told, [event()], NOW, settings())
    for number in range(1, 8):
        assert plan(told, [event()], NOW + number * 300 * S, settings()) is None
    title, _ = due(told, [event()], NOW + 3600 * S, settings())
    assert title == "l2: a:b failed (7 times more since it was told)"


def test_after_a_message_what_follows_gathers_into_one():
    told = Told()
    assert plan(told, [event("check 0")], NOW, settings())
    for number in range(1, 5):
        assert plan(told, [event(f"check {number}", f"{number} failed")], NOW + number * 10 * S, settings()) is None
    title, _ = due(told, [], NOW + 60 * S, settings())
    assert title == "l2: 1 failed, and 3 more"


def test_a_storm_stays_within_the_hour_and_nothing_is_forgotten():
    told, limits, sent = Told(), settings(group_s=0, causes_max=20), []
    for second in range(3600):
        if message := plan(told, [event(f"check {second}", f"{second} failed")], NOW + second * S, limits):
            sent.append(message)
    assert len(sent) == limits.hour_max
    title, body = due(told, [], NOW + HOUR_NS, limits)
    assert title == f"l2: 5 failed, and {3600 - 5 - 1} more"
    assert f"and {3600 - 5 - 15} more" in body
    assert len(told.causes) <= 20


def test_recovery_is_told_once_and_only_for_what_was_told():
    told = Told()
    assert plan(told, [event(good=True)], NOW, settings()) is None
    plan(told, [event()], NOW, settings())
    title, _ = due(told, [event(title="a:b is well again", good=True)], NOW + 61 * S, settings())
    assert title == "l2: a:b is well again"
    assert told.causes == {}


def test_what_was_over_before_it_was_told_is_not_told():
    told = Told()
    plan(told, [event("check 0")], NOW, settings())
    plan(told, [event("check 1")], NOW + S, settings())
    plan(told, [event("check 1", good=True)], NOW + 2 * S, settings())
    assert plan(told, [], NOW + 61 * S, settings()) is None


class Receiver(BaseHTTPRequestHandler):
    got: list[dict]

    def do_POST(self):
        self.server.got.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(self.server.status)
        self.end_headers()

    def log_message(self, *_):
        pass


@contextmanager
def web_receiver(status=200) -> Iterator[HTTPServer]:
    with HTTPServer(("127.0.0.1", 0), Receiver) as server:
        server.got, server.status = [], status
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def mail_receiver() -> Iterator[tuple[int, list[str]]]:
    """A mail server that takes one message: enough of SMTP for a real client."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        lines: list[str] = []

        def serve():
            connection, _ = listener.accept()
            with connection, connection.makefile("rwb") as stream:
                def say(text):
                    stream.write(text.encode() + b"\r\n")
                    stream.flush()

                say("220 mail")
                inside = False
                for raw in stream:
                    line = raw.decode().rstrip("\r\n")
                    if inside:
                        lines.append(line)
                        if line == ".":
                            inside = False
                            say("250 taken")
                        continue
                    inside = line.upper() == "DATA"
                    say("354 go on" if inside else "221 bye" if line.upper() == "QUIT" else "250 mail")
                    if line.upper() == "QUIT":
                        return

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listener.getsockname()[1], lines
        thread.join(10)


def home(tmp_path, *urls, **changes):
    notify = {"urls": " ".join(urls), "timeout_s": 5, "attempts_max": 3, "group_s": 0} | changes
    return Settings(home=tmp_path, notify=notify)


def test_message_arrives_at_a_webhook_and_by_mail(tmp_path):
    with web_receiver() as web, mail_receiver() as (port, lines):
        mail = f"mailto://127.0.0.1:{port}?from=l2@example.com&to=ops@example.com&mode=insecure"
        notifier = Notifier(home(tmp_path, f"json://127.0.0.1:{web.server_port}/hook", mail), SystemClock())
        assert notifier.tell([event()]) == "l2: a:b failed"
    assert [item["title"] for item in web.got] == ["l2: a:b failed"]
    assert "seen, and what to do" in web.got[0]["message"]
    assert any(line.startswith("Subject:") and "failed" in line for line in lines)


def test_dead_receiver_is_tried_a_bounded_number_of_times_and_the_others_get_it_once(tmp_path):
    with web_receiver() as web, web_receiver(500) as broken:
        urls = [f"json://127.0.0.1:{server.server_port}" for server in (web, broken)]
        notifier = Notifier(home(tmp_path, *urls), SystemClock())
        for _ in range(6):
            notifier.tell([event()])
    assert len(web.got) == 1
    assert len(broken.got) == 3
    assert notifier.look().message is None
    assert notifier.tell([event("check other", "other failed", good=False)]) is None, "nobody listens any more"


def test_receiver_that_hangs_holds_nothing_up(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        notifier = Notifier(home(tmp_path, f"json://127.0.0.1:{silent.getsockname()[1]}?rto=2", timeout_s=0.3), SystemClock())
        assert notifier.tell([event()]) is None
        assert notifier.look().message["attempts"] == 1


def test_url_that_is_none_is_told_without_its_text(tmp_path):
    notifier = Notifier(home(tmp_path, "hunter2://secret@place"), SystemClock())
    with pytest.raises(ConfigError) as caught:
        notifier.tell([event()])
    assert "receiver 1" in caught.value.message
    assert "secret" not in caught.value.message


def test_secrets_are_nowhere_on_disk_or_in_logs(tmp_path, caplog, capfd):
    notifier = Notifier(home(tmp_path, "json://user:hunter2@127.0.0.1:9/", timeout_s=2), SystemClock())
    notifier.tell([event()])
    said = caplog.text + "".join(capfd.readouterr())
    assert "hunter2" not in said
    assert not any("hunter2" in path.read_text() for path in tmp_path.rglob("*") if path.is_file())
    assert "hunter2" not in repr(home(tmp_path, "json://user:hunter2@127.0.0.1:9/"))


def test_command_sends_a_test_and_says_who_took_it(tmp_path, monkeypatch):
    monkeypatch.setenv("L2_HOME", str(tmp_path))
    runner = CliRunner()
    assert runner.invoke(app, ["notify", "--test"]).exit_code == 2
    with web_receiver() as web, web_receiver(500) as broken:
        monkeypatch.setenv("L2_NOTIFY__URLS", f"json://127.0.0.1:{web.server_port}")
        done = runner.invoke(app, ["notify", "--test"])
        assert (done.exit_code, web.got[0]["title"]) == (0, "l2: test message")
        assert "receiver 1 (json): took it" in done.stdout
        monkeypatch.setenv("L2_NOTIFY__URLS", f"json://127.0.0.1:{broken.server_port}")
        assert runner.invoke(app, ["notify", "--test"]).exit_code == 1
    shown = json.loads(runner.invoke(app, ["notify", "--json"]).stdout)
    assert shown["receivers"] == ["json"]
