"""Uses Orrery as somebody with a browser does: signs in, looks at a run, opens a JupyterLab, runs a cell in a notebook.

Arguments: the program of a Chromium, the address of the web-server, the file with the first owner's address and one-time
password, the workspace, the cell. Prints what was seen as one line of JSON. Nothing but the keyboard, the links and the buttons
of the pages is used."""
import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request

from tornado.websocket import websocket_connect

chromium, server, password_file, workspace, cell = sys.argv[1:]
PATIENCE = 90
PAUSE = 0.1
FLAGS = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
         "--disable-background-networking", "--remote-debugging-port=0", "--window-size=1400,1000"]


class Refused(Exception):
    """The browser did not do as it was told, for instance since the page went over to another address just then."""


class Page:
    """One tab."""

    def __init__(self, socket):
        self.socket, self.calls, self.complaints, self.strict = socket, 0, [], False

    async def call(self, method, **parameters):
        self.calls += 1
        number = self.calls
        await self.socket.write_message(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:
            message = json.loads(await asyncio.wait_for(self.socket.read_message(), PATIENCE))
            if message.get("id") == number:
                if "error" in message:
                    raise Refused(f"{method}: {message['error']}")
                return message["result"]
            self.note(message.get("method"), message.get("params", {}))

    def note(self, event, told):
        """Errors of the page: those that its scripts throw or print, and those of the browser, broken policies among them."""
        if event == "Runtime.exceptionThrown":
            self.complaints.append(told["exceptionDetails"])
        elif event == "Runtime.consoleAPICalled" and told["type"] in ("error", "assert"):
            self.complaints.append(told["args"])
        elif event == "Log.entryAdded" and told["entry"]["level"] == "error":
            # Who is not signed in yet is told so by the status of an answer, which the browser prints.
            if self.strict or told["entry"]["source"] != "network":
                self.complaints.append(told["entry"])

    async def ask(self, script):
        told = await self.call("Runtime.evaluate", expression=script, userGesture=True, returnByValue=True)
        if "exceptionDetails" in told:
            raise Refused(f"{script}: {told['exceptionDetails']}")
        return told["result"].get("value")

    async def until(self, what, script):
        """What the script says, once that is something."""
        begun, told = time.monotonic(), None
        while time.monotonic() - begun < PATIENCE:
            with contextlib.suppress(Refused):
                told = await self.ask(script)
            if told:
                return told
            await asyncio.sleep(PAUSE)
        seen = await self.ask("location.href + '\\n' + document.body?.innerText.slice(0, 2000)")
        raise SystemExit(f"waited in vain for {what}; instead: {seen}\n{self.complaints}")

    async def find(self, what, selector, text="", act=""):
        """The first element that is shown and has the text: what it says. When it is there, `act` is done with it as `it`."""
        return await self.until(what, f"""(() => {{
            const fits = (one) => one.checkVisibility() && one.innerText.includes({json.dumps(text)});
            const it = [...document.querySelectorAll({json.dumps(selector)})].find(fits);
            if (!it) return null;
            {act};
            return it.innerText || ' ';
        }})()""")

    async def click(self, what, selector, text=""):
        await self.find(what, selector, text, "it.click()")

    async def type(self, what, selector, text):
        await self.find(what, selector, act="it.focus()")
        await self.call("Input.insertText", text=text)

    async def enter(self, modifiers=0):
        for event in ("keyDown", "keyUp"):
            await self.call("Input.dispatchKeyEvent", type=event, key="Enter", code="Enter", text="\r", modifiers=modifiers,
                            windowsVirtualKeyCode=13)


def pages(port):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/json", timeout=PATIENCE) as answer:
        return {page["id"]: page["webSocketDebuggerUrl"] for page in json.load(answer) if page["type"] == "page"}


async def attach(url):
    page = Page(await websocket_connect(url, max_message_size=1 << 26))
    for domain in ("Page", "Runtime", "Log"):
        await page.call(domain + ".enable")
    return page


async def sign_in(page):
    with open(password_file) as file:
        email, password = file.read().split()
    await page.call("Page.navigate", url=server)
    await page.type("the form", "input[autocomplete=username]", email)
    await page.type("the password", "input[autocomplete=current-password]", password)
    await page.enter()
    await page.type("the question for a new password", "input[autocomplete=new-password]", "a long password of one's own")
    await page.enter()
    who = (await page.find("who is signed in", "#me summary", "@")).strip()
    page.strict = True
    return who


async def look(page):
    """At the list of runs, and at the page of the one that is there."""
    choose = f"it.value = {json.dumps(workspace)}; it.dispatchEvent(new Event('change'))"
    await page.find("the workspace to choose", "#workspace", workspace, choose)
    row = await page.find("the run in the list", "#page tbody tr", "completed")
    await page.click("the link to the run", "#page tbody a")
    await page.find("its page", "#page .head .status", "completed")
    head = await page.find("its head", "#page .head")
    block = await page.find("its block", "#page tbody tr", "completed")
    return {"row": row, "head": head, "block": block, "log": await page.find("its log", "#page .log", "seen")}


async def compute(page):
    """A notebook, by the launcher that a new JupyterLab begins with."""
    await page.click("the launcher", ".jp-LauncherCard[data-category=Notebook]", "Python 3")
    # Before there is one, the notebook itself says that nothing runs.
    await page.find("the kernel", "#jp-main-statusbar", "| Idle")
    await page.type("the cell", ".jp-Notebook .cm-content", cell)
    await page.enter(modifiers=8)
    return await page.find("what the cell printed", ".jp-Notebook .jp-OutputArea-output")


async def opened(port, known):
    """The tab that was not there before."""
    begun = time.monotonic()
    while time.monotonic() - begun < PATIENCE:
        for number in pages(port).keys() - known.keys():
            return await attach(pages(port)[number])
        await asyncio.sleep(PAUSE)
    raise SystemExit("nothing was opened")


async def use(port):
    known = pages(port)
    page = await attach(next(iter(known.values())))
    seen = {"who": await sign_in(page), **await look(page)}
    await page.click("the way to the workspaces", "#nav a", "Workspaces")
    seen["workspace"] = await page.find("the workspace", "#page tbody tr", workspace)
    await page.click("the button that opens it", "#page tbody a.primary", "Open")
    lab = await opened(port, known)
    seen["cell"] = await compute(lab)
    seen["address"], seen["cookies"] = [await lab.ask(what) for what in ("location.href", "document.cookie")]
    # With its answer has come what the page complained of before.
    await page.ask("0")
    return {**seen, "complaints": page.complaints}


def port_of(browser, profile):
    """Where the browser listens, which it writes down when it does."""
    begun = time.monotonic()
    while browser.poll() is None and time.monotonic() - begun < PATIENCE:
        try:
            with open(os.path.join(profile, "DevToolsActivePort")) as file:
                return int(file.readline())
        except (OSError, ValueError):
            time.sleep(PAUSE)
    raise SystemExit("the browser does not listen")


with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
    command = [chromium, *FLAGS, f"--user-data-dir={profile}", "about:blank"]
    nothing = subprocess.DEVNULL
    browser = subprocess.Popen(command, stdin=nothing, stdout=nothing, stderr=nothing, start_new_session=True)
    try:
        print(json.dumps(asyncio.run(use(port_of(browser, profile)))))
    finally:
        # Its own processes too.
        os.killpg(browser.pid, signal.SIGKILL)
        browser.wait()
