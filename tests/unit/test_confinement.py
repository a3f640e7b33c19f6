"""A process without a network: it is tried out, since a filter that does nothing would not be noticed."""

import socket
import subprocess
import sys
import textwrap

import pytest

from luthier.core.threads import child_environment

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the filter is one of Linux")


def said(code: str, *arguments: str) -> str:
    command = [sys.executable, "-c", textwrap.dedent(code), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, env=child_environment(1)).stdout.strip()


def test_no_thread_and_no_child_reaches_the_network_and_local_sockets_stay():
    with socket.create_server(("127.0.0.1", 0)) as canary:
        canary.settimeout(0.2)
        code = """
            import socket, subprocess, sys, threading
            from luthier.core.confinement import without_network

            port, begin, found = int(sys.argv[1]), threading.Event(), []

            def attempt():
                begin.wait()
                for family in (socket.AF_INET, socket.AF_INET6):
                    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
                        try:
                            socket.socket(family, kind)
                            found.append("open")
                        except PermissionError:
                            found.append("refused")

            before = threading.Thread(target=attempt)
            before.start()
            found.append(without_network())
            begin.set()
            before.join()
            child = f"import socket; socket.create_connection(('127.0.0.1', {port}))"
            found.append(subprocess.run([sys.executable, "-c", child], stderr=subprocess.DEVNULL).returncode)
            socket.socketpair()
            socket.socket(socket.AF_UNIX).close()
            print(*found)
        """
        assert said(code, str(canary.getsockname()[1])) == "True refused refused refused refused 1"
        with pytest.raises(TimeoutError):
            canary.accept()
