"""An S3-compatible server (moto) on the loopback, with injected failures."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.request import urlopen

BUCKET = "ads"
Start = Callable[..., Any]
Application = Callable[[dict[str, Any], Start], Iterable[bytes]]


@dataclass
class Trouble:
    """Failures of requests, with their rates.

    A lost answer (the request is carried out, but answered with an error) is the hardest: a client that repeats the
    request finds the result of its first attempt.
    """

    generator: random.Random
    errors: float
    """Share of requests that are answered 500 or 503, half of them after they were carried out."""

    silence: float
    """Share of requests that are answered ``silence_s`` late, once the client has hung up."""

    slowness_s: float
    """Largest delay of any answer, in seconds."""

    silence_s: float = 4.0
    met: Counter[str] = field(default_factory=Counter)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def draw(self) -> tuple[str, float]:
        """Draw the failure of the next request ("answered" = none), and its delay in seconds."""
        with self._lock:
            point, delay_s = self.generator.random(), self.generator.random() * self.slowness_s
            kinds = (("refused", self.errors / 2), ("lost", self.errors / 2), ("silent", self.silence))
            for kind, share in kinds:
                if point < share:
                    self.met[kind] += 1
                    return kind, self.silence_s if kind == "silent" else delay_s
                point -= share
            return "answered", delay_s


class Store:
    """The server: the environment variables of its clients, and the failures that it injects."""

    def __init__(self, port: int) -> None:
        self.trouble: Trouble | None = None
        self.environment = {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": "testing",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def troubled(self, application: Application) -> Application:
        """The application, with the failures of `trouble` injected."""
        from werkzeug.wsgi import get_input_stream

        def answer(environment: dict[str, Any], start: Start) -> Iterable[bytes]:
            if self.trouble is None:
                return application(environment, start)
            kind, delay_s = self.trouble.draw()
            time.sleep(delay_s)
            if kind == "answered":
                return application(environment, start)
            if kind == "refused":
                # The body is read first, because an answer before the end of a request breaks the connection.
                get_input_stream(environment).read()
            else:
                for _ in application(environment, lambda *_: None):
                    pass
            is_busy = self.trouble.generator.random() < 0.5
            start(
                "503 Slow Down" if is_busy else "500 Internal Server Error",
                [("Content-Type", "application/xml")],
            )
            code = "SlowDown" if is_busy else "InternalError"
            return [f"<Error><Code>{code}</Code><Message>injected</Message></Error>".encode()]

        return answer


@contextmanager
def object_store() -> Iterator[Store]:
    """A server with the empty bucket `BUCKET`, in threads of this process."""
    import boto3
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import make_server

    application = DomainDispatcherApplication(create_backend_app)
    server = make_server("127.0.0.1", 0, application, threaded=True, request_handler=_quiet())
    store = Store(server.server_port)
    server.app = store.troubled(application)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    url = store.environment["AWS_ENDPOINT_URL"]
    try:
        keys = {name.lower(): value for name, value in store.environment.items() if "KEY" in name}
        region = store.environment["AWS_DEFAULT_REGION"]
        boto3.client("s3", endpoint_url=url, region_name=region, **keys).create_bucket(Bucket=BUCKET)
        yield store
    finally:
        # Objects live in this process, not in the server.
        urlopen(f"{url}/moto-api/reset", data=b"").close()  # noqa: S310 -- our own server
        server.shutdown()
        server.server_close()
        thread.join()


def _quiet() -> Any:
    from werkzeug.serving import WSGIRequestHandler

    class Quiet(WSGIRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_request(self, *_: Any) -> None: ...

    return Quiet
