"""Frames in S3 and what speaks its protocol, through boto3 where the project has it."""
from __future__ import annotations

import io
import os
import tempfile
from typing import Any, Optional, Union

from mage_ai.io.base import BaseFile, FileFormat
from mage_ai.io.config import BaseConfigLoader, ConfigKey


class S3(BaseFile):
    """Reads and writes objects of a bucket."""

    def __init__(self, verbose: bool = False, **kwargs: Any) -> None:
        super().__init__(verbose)
        try:
            import boto3
        except ImportError:
            raise ImportError("mage_ai.io.s3 needs the package boto3; add it to the project's requirements.txt"
                              ) from None
        self.client = boto3.client("s3", **kwargs)

    @classmethod
    def with_config(cls, config: BaseConfigLoader, **kwargs: Any) -> "S3":
        """With the AWS_ keys of a profile."""
        options = {
            "aws_access_key_id": config.get(ConfigKey.AWS_ACCESS_KEY_ID),
            "aws_secret_access_key": config.get(ConfigKey.AWS_SECRET_ACCESS_KEY),
            "aws_session_token": config.get(ConfigKey.AWS_SESSION_TOKEN),
            "region_name": config.get(ConfigKey.AWS_REGION),
            "endpoint_url": config.get(ConfigKey.AWS_ENDPOINT),
        }
        return cls(**{**{key: value for key, value in options.items() if value}, **kwargs})

    def load(self, bucket_name: str, object_key: str, format: Optional[Union[FileFormat, str]] = None,
             limit: Optional[int] = None, **kwargs: Any) -> Any:
        """The frame of an object."""
        chosen = self._format(object_key, format)
        body = self.client.get_object(Bucket=bucket_name, Key=object_key)["Body"].read()
        if chosen == "hdf5":
            with tempfile.TemporaryDirectory() as folder:
                path = os.path.join(folder, "data.hdf5")
                with open(path, "wb") as file:
                    file.write(body)
                return self._read(path, chosen, limit, **kwargs)
        return self._read(io.BytesIO(body), chosen, limit, **kwargs)

    def export(self, df: Any, bucket_name: str, object_key: str, format: Optional[Union[FileFormat, str]] = None,
               **kwargs: Any) -> None:
        """Writes a frame, or the file at a path, as an object."""
        if isinstance(df, (str, os.PathLike)):
            self.client.upload_file(os.fspath(df), bucket_name, object_key)
            return
        chosen = self._format(object_key, format)
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, f"data.{chosen}")
            self._write(df, path, chosen, **kwargs)
            self.client.upload_file(path, bucket_name, object_key)

    def exists(self, bucket_name: str, prefix: str, *_args: Any, **_options: Any) -> bool:
        """Whether an object's key starts so."""
        return bool(self.client.list_objects_v2(Bucket=bucket_name, Prefix=prefix, MaxKeys=1).get("KeyCount"))
