"""What the handlers share: the data folder, the database behind it, the settings, the counters."""

from dataclasses import dataclass, field

from starlette.requests import Request

from luthier.config.serving import ServeSettings
from luthier.jobs.batches import Batches
from luthier.jobs.database import Database
from luthier.jobs.files import Files
from luthier.jobs.folder import DataFolder
from luthier.jobs.keys import Keys
from luthier.jobs.queue import Queue
from luthier.jobs.records import KeyRecord
from luthier.jobs.submit import Jobs
from luthier.server.checkpoints import Checkpoints
from luthier.server.engines import Engines
from luthier.server.runs import runs_of
from luthier.server.scheduler import Scheduler


@dataclass
class Counters:
    """What /metrics tells of requests, by route, method and status; never by what they hold."""

    requests: dict[tuple[str, str, int], int] = field(default_factory=dict[tuple[str, str, int], int])
    seconds: dict[str, float] = field(default_factory=dict[str, float])
    in_flight: int = 0
    uploaded_bytes: int = 0
    stopping: bool = False

    def note(self, route: str, method: str, status: int, seconds: float) -> None:
        """Count an answered request."""
        key = (route, method, status)
        self.requests[key] = self.requests.get(key, 0) + 1
        self.seconds[route] = self.seconds.get(route, 0.0) + seconds


class Control:
    """The control plane over one data folder; its schema must be the newest."""

    def __init__(self, folder: DataFolder, database: Database, serving: ServeSettings) -> None:
        self.folder, self.database, self.serving = folder, database, serving
        self.keys = Keys(database)
        self.files = Files(database, folder)
        self.jobs = Jobs(database, folder, serving.unfinished_jobs)
        self.batches = Batches(database, folder, serving.unfinished_batches)
        self.queue = Queue(database)
        self.scheduler = Scheduler(folder, self.queue, self.files, serving.workers)
        self.engines = Engines(serving, folder.engine_log)
        self.checkpoints = Checkpoints(folder)
        self.runs = runs_of(serving)
        self.counters = Counters()


def control_of(request: Request) -> Control:
    """Return the control plane that a request came to."""
    control = request.app.state.control
    assert isinstance(control, Control)
    return control


def caller(request: Request) -> KeyRecord:
    """Return the key with which a request was made; only routes behind the authentication have one."""
    key = request.scope["luthier_key"]
    assert isinstance(key, KeyRecord)
    return key
