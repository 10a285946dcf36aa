"""The fsspec filesystem of a URI, with the options that the user gave for it."""

from collections.abc import Mapping
from typing import Any

import fsspec

from bertsum.errors import ConfigError
from bertsum.masking import describe, hide, mask

# Up to 5 tries a request, which wait up to 1, 2, 4, 8 s, at random; s3fs in turn asks botocore up
# to 5 times where the store throttles or the connection breaks: a store that is down is an error
# after 1 to 2 minutes.
_S3_RETRIES = {"mode": "standard", "max_attempts": 5}


def configure(options: Mapping[str, Mapping[str, Any]]) -> None:
    """Set options of fsspec's filesystems, by protocol.

    They hold for every Folder that this process opens from now on.
    """
    for protocol, values in options.items():
        hide(values)
        fsspec.config.conf[protocol] = {**fsspec.config.conf.get(protocol, {}), **values}


def open_filesystem(uri: str) -> tuple[Any, str]:
    """Open the filesystem of a path or URI; return it and the path in it. Raises ConfigError."""
    if "\0" in uri or not uri.strip():
        raise ConfigError(f"{uri!r} is not a path or URI")
    options: dict[str, Any] = {}
    protocol = uri.partition("://")[0]
    if protocol in ("s3", "s3a"):  # the user's own count of tries wins
        given = fsspec.config.conf.get(protocol, {}).get("config_kwargs", {})
        options["config_kwargs"] = {"retries": _S3_RETRIES} | given
    try:
        filesystem, root = fsspec.core.url_to_fs(uri, **options)
    except ImportError as error:
        raise ConfigError(
            f"{mask(uri)}: {describe(error)} (extras of this package: s3, gcs, azure)"
        ) from error
    except (
        Exception
    ) as error:  # hdfs without Java: OSError; other filesystems raise whatever they like
        hint = "; hdfs:// needs Java and Hadoop's libhdfs (JAVA_HOME, HADOOP_HOME, CLASSPATH)"
        is_hdfs = uri.startswith(("hdfs://", "viewfs://", "har://"))
        raise ConfigError(f"{mask(uri)}: {describe(error)}{hint if is_hdfs else ''}") from error
    return filesystem, root.rstrip("/")
