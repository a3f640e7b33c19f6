"""An environment in which every Python process meets a closed network and writes down whom it wanted to call."""

import os
from pathlib import Path

from luthier.core.threads import child_environment

# Python imports this by itself where it starts, in the run and in the processes that the run starts.
CLOSED = """
import os, socket

def closed(*arguments, **options):
    with open(os.environ["CALLS"], "a") as file:
        file.write(f"{arguments}\\n")
    raise OSError("the network is closed")

for name in ("connect", "connect_ex", "sendto"):
    setattr(socket.socket, name, closed)
for name in ("getaddrinfo", "gethostbyname", "create_connection"):
    setattr(socket, name, closed)
"""


def closed_network(folder: Path) -> dict[str, str]:
    """No network, an empty cache, and nothing that tells the libraries to stay offline."""
    (folder / "sitecustomize.py").write_text(CLOSED)
    inherited = {name: value for name, value in os.environ.items() if not name.endswith("_OFFLINE")}
    search = os.pathsep.join([str(folder), inherited.get("PYTHONPATH", "")])
    own = {"PYTHONPATH": search, "CALLS": str(calls(folder)), "HF_HOME": str(folder / "cache")}
    return child_environment(1, {**inherited, **own})


def calls(folder: Path) -> Path:
    """Where the calls stand; nothing lies there if there was none."""
    return folder / "calls"
