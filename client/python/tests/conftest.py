"""A broker of its own for each test, as a process."""

import os
import subprocess
import time

import pytest

import ringway


class Broker:
    def __init__(self, directory):
        self.directory = directory
        self.serve()

    def serve(self):
        command = [os.environ["RINGWAY"], "serve", "--dir", str(self.directory)]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 20
        while True:
            try:
                ringway.Connection(self.directory).close()
                return
            except ringway.ConnectError:
                assert time.monotonic() < deadline and self.process.poll() is None
                time.sleep(0.01)

    def stop(self):
        try:
            with ringway.Connection(self.directory) as connection:
                connection.stop_broker()
        except ringway.ConnectError:
            pass
        self.process.wait(20)


@pytest.fixture
def broker(tmp_path):
    broker = Broker(tmp_path / "broker")
    yield broker
    broker.stop()


@pytest.fixture
def connection(broker):
    with ringway.Connection(broker.directory) as connection:
        yield connection
