"""A real Chromium, driven over its DevTools port: go to a page, wait for words on it, click, take a picture.

What does not belong here: which pages there are (`screens.py`, the tests).
"""

import base64
import json
import re
import shutil
import subprocess
import tempfile
import time
import urllib.request
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

from websockets.sync.client import ClientConnection, connect

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
START_S = 60
WAIT_S = 90
SIZE = (1500, 950)
TEXT = "document.body ? document.body.innerText : ''"


class Browser:
    """One window. `with Browser() as browser: browser.go(url); browser.wait_for("trades")`."""

    def __init__(self, size: tuple[int, int] = SIZE) -> None:
        self._size = size
        self._folder = Path(tempfile.mkdtemp(prefix="l2-browser-"))
        self._process: subprocess.Popen[bytes] | None = None
        self._link: ClientConnection | None = None
        self._ends = ExitStack()
        self._number = 0
        self.errors: list[str] = []
        """Exceptions that scripts of the pages did not catch."""
        self.requests: list[str] = []
        """Addresses that the pages asked for, their own included."""
        self.console: list[str] = []
        """What the browser complained of, and scripts wrote."""

    def __enter__(self) -> "Browser":
        assert CHROMIUM is not None, "needs chromium"
        try:
            return self._start(CHROMIUM)
        except BaseException:
            self._stop()
            raise

    def _start(self, program: str) -> "Browser":
        width, height = self._size
        command = [
            program, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars",
            "--no-first-run", "--disable-background-networking", "--remote-debugging-port=0",
            f"--window-size={width},{height}", f"--user-data-dir={self._folder / 'profile'}", "about:blank",
        ]  # fmt: skip
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        port = self._port()
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/json/list", timeout=START_S) as answer:
            pages = [page for page in json.load(answer) if page["type"] == "page"]
        link = connect(pages[0]["webSocketDebuggerUrl"], max_size=64 << 20, open_timeout=START_S)
        self._link = self._ends.enter_context(link)
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.ask(f"{domain}.enable")
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.ask("Emulation.setDeviceMetricsOverride", **metrics)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stop()

    def _stop(self) -> None:
        self._ends.close()
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _port(self) -> int:
        told = self._folder / "profile" / "DevToolsActivePort"
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            if told.is_file() and (lines := told.read_text().split()):
                return int(lines[0])
            time.sleep(0.1)
        raise AssertionError("the browser does not start")

    def ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        """One DevTools command and its answer."""
        assert self._link is not None
        self._number += 1
        self._link.send(json.dumps({"id": self._number, "method": method, "params": parameters}))
        while True:
            message = json.loads(self._link.recv(timeout=WAIT_S))
            self._note(message.get("method", ""), message.get("params", {}))
            if message.get("id") == self._number:
                assert "error" not in message, message
                answer: dict[str, Any] = message.get("result", {})
                return answer

    def _note(self, event: str, told: dict[str, Any]) -> None:
        if event == "Runtime.exceptionThrown":
            self.errors.append(json.dumps(told["exceptionDetails"])[:500])
        elif event == "Network.requestWillBeSent":
            self.requests.append(told["request"]["url"])
        elif event in {"Log.entryAdded", "Runtime.consoleAPICalled"}:
            self.console.append(json.dumps(told)[:500])

    def pdf(self, path: Path) -> int:
        """Print the page as the browser's print button does; how many sheets."""
        answer = self.ask("Page.printToPDF", preferCSSPageSize=True, printBackground=True)
        path.write_bytes(base64.b64decode(answer["data"]))
        return len(re.findall(rb"/Type\s*/Page\b(?!s)", path.read_bytes()))

    def run(self, script: str) -> Any:
        """The value of a JavaScript expression on the page."""
        answer = self.ask("Runtime.evaluate", expression=script, returnByValue=True)
        return answer.get("result", {}).get("value")

    def go(self, url: str) -> None:
        """Open a page; `wait_for` waits until it is there."""
        self.ask("Page.navigate", url=url)

    def text(self) -> str:
        """The words that a person sees."""
        return str(self.run(TEXT) or "")

    def wait_for(self, *words: str, seconds: float = WAIT_S) -> str:
        """Wait until all these words are on the page; the page's text."""
        deadline = time.monotonic() + seconds
        text = ""
        while time.monotonic() < deadline:
            text = self.text()
            if all(word in text for word in words):
                return text
            time.sleep(0.25)
        missing = [word for word in words if word not in text]
        raise AssertionError(f"not on the page within {seconds:g} s: {missing}; it says:\n{text[:3000]}")

    def is_seen(self, words: str) -> bool:
        """Whether an element whose text is exactly these words begins within the window, without scrolling."""
        script = (
            "[...document.querySelectorAll('a,button,div,span,td')].some(e => e.innerText && "
            f"e.innerText.trim() === {json.dumps(words)} && (place => place.width > 0 && place.top >= 0 && place.top < innerHeight)"
            "(e.getBoundingClientRect()))"
        )
        return bool(self.run(script))

    def click(self, words: str) -> None:
        """Click the innermost element whose text is exactly these words."""
        script = (
            "(() => { const found = [...document.querySelectorAll('a,button,div,span,td')]"
            f".filter(e => e.innerText && e.innerText.trim() === {json.dumps(words)});"
            " if (!found.length) return false; found[found.length - 1].click(); return true; })()"
        )
        deadline = time.monotonic() + WAIT_S
        while time.monotonic() < deadline:
            if self.run(script):
                return
            time.sleep(0.25)
        raise AssertionError(f"nothing to click says {words!r}")

    def picture(self, path: Path) -> None:
        """Save what is seen as PNG, in 256 colours."""
        from PIL import Image

        raw = path.with_suffix(".raw.png")
        raw.write_bytes(base64.b64decode(self.ask("Page.captureScreenshot", format="png")["data"]))
        with Image.open(raw) as image:
            image.convert("RGB").quantize(256).save(path, optimize=True)
        raw.unlink()
