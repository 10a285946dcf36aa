"""The object store of the tests, as they use it."""

from dataclasses import dataclass

import fsspec

from helpers.proxy import Proxy

SECRET = "test-secret-Zx81qLw"


@dataclass(frozen=True)
class Store:
    """A bucket of one test. `environment` leads a process to it, through the proxy."""

    uri: str
    proxy: Proxy
    environment: dict[str, str]

    def objects(self) -> dict[str, bytes]:
        """Everything in the bucket, straight from the server."""
        fs = fsspec.filesystem(
            "s3", endpoint_url=self.proxy.url, skip_instance_cache=True, use_listings_cache=False
        )
        bucket = self.uri.removeprefix("s3://")
        found = {key: fs.cat_file(key) for key in fs.find(bucket)}
        return {key.removeprefix(f"{bucket}/"): value for key, value in found.items()}

    def put(self, key: str, data: bytes) -> None:
        fs = fsspec.filesystem("s3", endpoint_url=self.proxy.url, skip_instance_cache=True)
        fs.pipe_file(f"{self.uri}/{key}", data)
