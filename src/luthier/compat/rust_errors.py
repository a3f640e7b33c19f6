"""Errors of the system that safetensors tells as text only.

Goes when safetensors raises OSError for what the system refuses.
"""

import os
import re
from collections.abc import Generator
from contextlib import contextmanager

from safetensors import SafetensorError


@contextmanager
def system_errors() -> Generator[None]:
    """Raise OSError with its number where safetensors says `(os error 28)` in words."""
    try:
        yield
    except SafetensorError as error:
        number = re.search(r"\(os error (\d+)\)", str(error))
        if number is None:
            raise
        raise OSError(int(number[1]), os.strerror(int(number[1]))) from error
