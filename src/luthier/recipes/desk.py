"""What the stages before the model share: a run folder, the settings, a voice. Imports no torch."""

from luthier.config.settings import Settings
from luthier.core.rundir import RunDir
from luthier.recipes.voice import Voice


class Desk:
    """Where rows are read, split and checked: by a run, or by `luthier check` in a folder for the time being."""

    def __init__(self, run: RunDir, settings: Settings, voice: Voice) -> None:
        self.run, self.settings, self.voice = run, settings, voice
