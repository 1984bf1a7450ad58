"""Objects of S3, and of services that speak as it does, through botocore: one request for each.

Arrow, through which they are listed, asks for the size of whatever it reads, and writes in parts: what a killed writer
leaves open has to be paid for, and an exception amid the parts publishes those that are there. A single PUT is there
whole or not at all.
"""

import errno
import io
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from http import HTTPStatus
from typing import Any

from benchmark.common.storage.retries import UnansweredError

CONNECT_SECONDS, ANSWER_SECONDS = 3, 10  # after which a call that hangs is given up, to be made again
MAX_BYTES = 5 * 2**30  # of an object that is written in one request
_CONNECTIONS = 64  # of a process, at a time
_FOR_NOW = {"RequestTimeout", "SlowDown", "Throttling", "ThrottlingException", "InternalError", "ServiceUnavailable"}
_FOR_NOW |= {"ConditionalRequestConflict", "OperationAborted"}  # two writers at the same moment
_ABSENT = {"NoSuchKey", "404"}
_making = threading.Lock()  # two clients made at the same time read the same files


@dataclass(frozen=True)
class Upload:
    """An upload in parts that somebody began and did not end.

    Attributes:
        key: of the object that it was to be.
        id: of the upload.
        began: when, in seconds since 1970.
    """

    key: str
    id: str
    began: float


class UnsupportedError(OSError):
    """A service does not know what it was asked for, or does not take it."""


class Objects:
    """Objects of one bucket. Errors are `OSError`; of what may be asked again `UnansweredError`.

    Args:
        bucket: its name.
        options: of Arrow's `S3FileSystem`: address, region and credentials; those that are not given are found by
            botocore as AWS's tools do.
    """

    def __init__(self, bucket: str, options: Mapping[str, Any]) -> None:
        self._bucket, self._options, self._without_conditions = bucket, options, False

    @cached_property
    def _client(self) -> Any:
        import botocore.session
        from botocore.config import Config

        options, address = self._options, self._options["endpoint_override"] or None
        config = Config(
            connect_timeout=CONNECT_SECONDS,
            read_timeout=ANSWER_SECONDS,
            retries={"total_max_attempts": 1},  # calls are made again by who counts them
            max_pool_connections=_CONNECTIONS,
            request_checksum_calculation="when_required",  # other services than Amazon's know no such sums
            response_checksum_validation="when_required",
            s3={"addressing_style": "path" if address and not options["force_virtual_addressing"] else "auto"},
        )
        with _making:
            return botocore.session.get_session().create_client(
                "s3",
                region_name=options["region"] or os.environ.get("AWS_REGION") or None,
                endpoint_url=address if not address or "://" in address else f"{options['scheme']}://{address}",
                aws_access_key_id=options["access_key"],
                aws_secret_access_key=options["secret_key"],
                aws_session_token=options["session_token"],
                verify=options["tls_ca_file_path"] or None,
                config=config,
            )

    def get(self, key: str, offset: int = 0, length: int | None = None) -> bytes:
        """Return an object, or `length` bytes of it from `offset` on; fewer where it ends before."""
        asked = {} if length is None else {"Range": f"bytes={offset}-{offset + length - 1}"}
        with _told(key):
            try:
                return bytes(self._client.get_object(Bucket=self._bucket, Key=key, **asked)["Body"].read())
            except self._client.exceptions.ClientError as error:
                if error.response["Error"]["Code"] == "InvalidRange":  # it ends before `offset`
                    return b""
                raise

    def put(self, key: str, content: bytes) -> None:
        """Write an object in one request: it is there whole or not at all."""
        self._put(key, content)

    def put_first(self, key: str, content: bytes) -> bool | None:
        """Write an object as `put` does unless there is one, and return whether it did.

        Returns:
            True or False; None where the service knows no conditions and has written it whatever there was.
        """
        if not self._without_conditions:
            try:
                self._put(key, content, IfNoneMatch="*")
                return True
            except FileExistsError:
                return False
            except UnsupportedError:
                self._without_conditions = True
        self._put(key, content)
        return None

    def _put(self, key: str, content: bytes, **conditions: str) -> None:
        if len(content) > MAX_BYTES:
            raise OSError(errno.EFBIG, f"{len(content) / 2**30:.1f} GiB, more than the 5 GiB that one request may have")
        with _told(key):
            self._client.put_object(Bucket=self._bucket, Key=key, Body=content, **conditions)

    def size(self, key: str) -> int | None:
        """Return the size of an object in bytes; None where there is none."""
        try:
            with _told(key):
                return int(self._client.head_object(Bucket=self._bucket, Key=key)["ContentLength"])
        except FileNotFoundError:
            return None

    def delete(self, key: str) -> None:
        """Delete an object; one that is not there is no error."""
        with _told(key):
            self._client.delete_object(Bucket=self._bucket, Key=key)

    def uploads(self, prefix: str) -> list[Upload]:
        """Return the open uploads of objects whose keys begin so."""
        with _told(prefix):
            pages = self._client.get_paginator("list_multipart_uploads").paginate(Bucket=self._bucket, Prefix=prefix)
            return [
                Upload(one["Key"], one["UploadId"], one["Initiated"].timestamp())
                for page in pages
                for one in page.get("Uploads", ())
            ]

    def abort(self, upload: Upload) -> None:
        """End an open upload, and free what its parts take."""
        with _told(upload.key):
            self._client.abort_multipart_upload(Bucket=self._bucket, Key=upload.key, UploadId=upload.id)


class Ranges(io.RawIOBase):
    """An object, open for reading anywhere in it.

    Args:
        read: returns `length` bytes from `offset` on.
        size: of the object, in bytes.
    """

    def __init__(self, read: Any, size: int) -> None:
        self._read, self._size, self._at = read, size, 0

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def tell(self) -> int:
        """Return where the next byte is read."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a place in the object."""
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        return self._at

    def read(self, size: int | None = -1) -> bytes:
        """Return the next bytes, all that are left by default, in one request."""
        left = max(0, self._size - self._at)
        length = left if size is None or size < 0 else min(size, left)
        content: bytes = self._read(self._at, length) if length else b""
        self._at += len(content)
        return content

    def readall(self) -> bytes:
        """Return all that is left."""
        return self.read()

    def readinto(self, buffer: Any) -> int:
        """Read into a buffer."""
        content = self.read(len(buffer))
        buffer[: len(content)] = content
        return len(content)


@contextmanager
def _told(key: str) -> Iterator[None]:
    """Turn what botocore raises into errors of the system's kind."""
    from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError, IncompleteReadError, SSLError
    from botocore.exceptions import ConnectionError as NotConnectedError

    try:
        yield
    except ClientError as error:
        said, status = error.response["Error"], error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        code = said.get("Code", "")
        if code in _ABSENT:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), key) from error
        words = f"{code}: {said['Message']}" if said.get("Message") else f"{code} {error.operation_name}"
        if status in (HTTPStatus.PRECONDITION_FAILED, HTTPStatus.NOT_MODIFIED):  # as S3 has it, and as older MinIO had
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), key) from error
        if status == HTTPStatus.NOT_IMPLEMENTED:
            raise UnsupportedError(words) from error
        if status >= 500 or status in (408, 429) or code in _FOR_NOW:
            raise UnansweredError(words) from error
        if status in (HTTPStatus.BAD_REQUEST, HTTPStatus.METHOD_NOT_ALLOWED):
            raise UnsupportedError(words) from error
        raise OSError(words) from error
    except BotoCoreError as error:
        if isinstance(error, HTTPClientError | IncompleteReadError | NotConnectedError) and type(error) is not SSLError:
            raise UnansweredError(str(error)) from error
        raise OSError(str(error)) from error  # no credentials, no region, a certificate that is not trusted
