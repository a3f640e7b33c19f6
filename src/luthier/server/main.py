"""`luthier serve`: open the data folder, mint the first key, and answer until told to stop."""

import logging
import socket
import sys
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

import uvicorn

from luthier.config.serving import ServeSettings, as_json
from luthier.core.errors import ResourceError, SettingsError, Stopped
from luthier.core.rundir import write_atomically, write_json
from luthier.generate.remote import address as address_of_engine
from luthier.jobs.folder import DataFolder
from luthier.jobs.keys import Keys
from luthier.jobs.opening import opened
from luthier.server.app import application
from luthier.server.catalogue import check_map
from luthier.server.control import Control
from luthier.server.draining import Draining
from luthier.server.guards import LOOPBACK
from luthier.server.patience import protocol

_CLOSING_SECONDS = 5
_HEADER_BYTES = 1 << 16
_BACKLOG = 2048
# A file that is a little too large, sent without a key, is still heard to its end, so that its client reads why it is refused.
_HEARD_OUT_BYTES = 16 << 20


def serve(serving: ServeSettings, data: Path, host: str, port: int) -> None:
    """Serve until SIGINT or SIGTERM; raises a UserError for what keeps the server from starting."""
    if serving.engine_url is not None:
        address_of_engine(serving.engine_url)
    folder = DataFolder(data)
    folder.create()
    with folder.held(), opened(folder) as database, _listening(host, port) as listening:
        _ensure_key(folder, Keys(database), host)
        control = Control(folder, database, serving)
        check_map(control)
        folder.empty_leftovers()
        control.files.remove_strays()
        write_json(folder.settings, as_json(serving))
        logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
        address = f"[{host}]" if ":" in host else host
        control.runs.finished()  # what lies there, and what is not finished, is in the log from the start
        print(f"Luthier serves at http://{address}:{listening.getsockname()[1]}/v1", flush=True)
        config = uvicorn.Config(
            application(control, [host]), http=protocol(serving.read_seconds, serving.file_bytes + _HEARD_OUT_BYTES), access_log=False, log_config=None,
            log_level="warning", server_header=False, proxy_headers=False, limit_concurrency=serving.connections, lifespan="on", ws="none",
            timeout_graceful_shutdown=_CLOSING_SECONDS, h11_max_incomplete_event_size=_HEADER_BYTES,
        )  # fmt: skip
        with suppress(Stopped, KeyboardInterrupt):  # uvicorn raises the signal again once everything is in order
            Draining(config, control).run(sockets=[listening])


def _ensure_key(folder: DataFolder, keys: Keys, host: str) -> None:
    if keys.any_valid():
        return
    if host not in LOOPBACK:
        raise SettingsError(
            f"{host} can be reached from other machines, and there is no API key yet. "
            f"Make one first: luthier keys create --data {folder.path}"
        )
    secret, _ = keys.mint(name="first")
    folder.first_key.touch(mode=0o600)
    write_atomically(folder.first_key, f"{secret}\n".encode())
    folder.first_key.chmod(0o600)
    print(f"API key: {secret}", flush=True)


@contextmanager
def _listening(host: str, port: int) -> Generator[socket.socket]:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((host, port))
            listening.listen(_BACKLOG)  # before the address is told, so that nobody who reads it is refused
        except OSError as error:
            raise ResourceError(
                f"{host}:{port} cannot be served: {error.strerror}. Choose another --port or --host."
            ) from error
        yield listening
