"""A private PostgreSQL server for tests, as an ordinary user even where the tests run as root."""
from __future__ import annotations

import glob
import os
import shutil
import socket
import subprocess
import tempfile
from typing import Dict, List, Optional


def find_binaries() -> Optional[str]:
    """The folder of initdb and postgres; None where there is no server."""
    places = [os.environ.get("ORRERY_POSTGRES_BIN", ""), os.path.dirname(shutil.which("initdb") or "")]
    places += sorted(glob.glob("/usr/lib/postgresql/*/bin"), reverse=True)
    for place in places:
        if place and os.path.exists(os.path.join(place, "initdb")) and os.path.exists(os.path.join(place, "postgres")):
            return place
    return None


class PrivatePostgres:
    """A server on a free loopback port with its data in a folder of its own."""

    def __init__(self, binaries: str) -> None:
        self._binaries = binaries
        self.folder = tempfile.mkdtemp(prefix="pg-")
        self._as: List[str] = []
        if os.getuid() == 0:
            if shutil.which("setpriv") is None:
                raise RuntimeError("PostgreSQL refuses to run as root, and setpriv is missing")
            self._as = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"]
            shutil.chown(self.folder, "nobody", "nogroup")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        data = os.path.join(self.folder, "data")
        self._run("initdb", "-D", data, "-U", "orrery", "--auth=trust", "-E", "UTF8", "--no-sync", "--locale=C")
        self._run("pg_ctl", "-D", data, "-w", "-l", os.path.join(self.folder, "log"), "-o",
                  f"-p {self.port} -c listen_addresses=127.0.0.1 -k {self.folder} -c fsync=off", "start")

    def _run(self, name: str, *arguments: str) -> None:
        subprocess.run([*self._as, os.path.join(self._binaries, name), *arguments], check=True, cwd=self.folder,
                       stdout=subprocess.DEVNULL, env={"PATH": os.environ["PATH"], "HOME": self.folder, "LC_ALL": "C"})

    @property
    def profile(self) -> Dict[str, object]:
        """A profile of io_config.yaml."""
        return {"POSTGRES_HOST": "127.0.0.1", "POSTGRES_PORT": self.port, "POSTGRES_USER": "orrery",
                "POSTGRES_DBNAME": "postgres", "POSTGRES_PASSWORD": "unused"}

    def close(self) -> None:
        """Stops the server and removes its data."""
        self._run("pg_ctl", "-D", os.path.join(self.folder, "data"), "-m", "immediate", "-w", "stop")
        shutil.rmtree(self.folder, ignore_errors=True)
