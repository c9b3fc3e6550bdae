"""Frames in S3, through boto3 and a server that speaks its protocol."""
from __future__ import annotations

import io
import json
import logging
import os
import sys
import unittest
from typing import Any

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from support import ProjectCase, library

import pandas as pd

HEAD = """
import os
import pandas as pd
from mage_ai.io.config import ConfigFileLoader
from mage_ai.io.s3 import S3
from mage_ai.settings.repo import get_repo_path
"""
FRAME = pd.DataFrame({"a": [1, 2, 3], "b": ["x", "ü", "z"]})


class Objects(ProjectCase):
    """The keys, the region and the endpoint come from the profile: nothing of this process's environment is used."""

    def setUp(self) -> None:
        super().setUp()
        boto3 = library(self, "boto3")
        logging.getLogger("werkzeug").setLevel(logging.WARNING)
        server = library(self, "moto.server").ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        server.start()
        self.addCleanup(server.stop)
        host, port = server.get_host_and_port()
        keys = {"aws_access_key_id": "id", "aws_secret_access_key": "key", "region_name": "us-east-1"}
        self.client: Any = boto3.client("s3", endpoint_url=f"http://{host}:{port}", **keys)
        self.client.create_bucket(Bucket="lake")
        self.file("io_config.yaml", json.dumps({"version": "0.1.1", "lake": {
            "AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "key", "AWS_REGION": "us-east-1",
            "AWS_ENDPOINT": f"http://{host}:{port}"}}))

    def body(self, key: str) -> bytes:
        return self.client.get_object(Bucket="lake", Key=key)["Body"].read()

    def test_what_is_exported_is_in_the_bucket(self) -> None:
        self.block("out", HEAD + """
@data_exporter
def export(*args, **kwargs):
    frame = pd.DataFrame({'a': [1, 2, 3], 'b': ['x', 'ü', 'z']})
    config = ConfigFileLoader(os.path.join(get_repo_path(), 'io_config.yaml'), 'lake')
    S3.with_config(config).export(frame, 'lake', 'day/sales.parquet')
    S3.with_config(config).export(frame, 'lake', 'day/sales.csv', index=False)
    S3.with_config(config).export(frame, 'lake', 'day/plain', format='json')
    path = os.path.join(get_repo_path(), 'note.txt')
    with open(path, 'w') as note:
        note.write('as it is')
    S3.with_config(config).export(path, 'lake', 'note.txt')
""", "data_exporter")
        self.ok("out")
        pd.testing.assert_frame_equal(pd.read_parquet(io.BytesIO(self.body("day/sales.parquet"))), FRAME)
        self.assertEqual(self.body("day/sales.csv").decode(), FRAME.to_csv(index=False))
        self.assertEqual(json.loads(self.body("day/plain")), json.loads(FRAME.to_json()))
        self.assertEqual(self.body("note.txt"), b"as it is")

    def test_what_is_in_the_bucket_is_loaded(self) -> None:
        parquet = io.BytesIO()
        FRAME.to_parquet(parquet)
        self.client.put_object(Bucket="lake", Key="day/sales.parquet", Body=parquet.getvalue())
        self.client.put_object(Bucket="lake", Key="day/plain", Body=FRAME.to_csv(index=False).encode())
        self.block("in", HEAD + """
@data_loader
def load(*args, **kwargs):
    store = S3.with_config(ConfigFileLoader(os.path.join(get_repo_path(), 'io_config.yaml'), 'lake'))
    return [store.load('lake', 'day/sales.parquet'), store.load('lake', 'day/plain', format='csv', limit=2),
            store.exists('lake', 'day/'), store.exists('lake', 'night/')]
""")
        self.ok("in")
        whole, start, day, night = self.stored("in")
        pd.testing.assert_frame_equal(whole, FRAME)
        pd.testing.assert_frame_equal(start, FRAME.iloc[:2])
        self.assertEqual((day, night), (True, False))
        self.block("none", HEAD + """
@data_loader
def load(*args, **kwargs):
    config = ConfigFileLoader(os.path.join(get_repo_path(), 'io_config.yaml'), 'lake')
    return S3.with_config(config).load('lake', 'day/none.csv')
""")
        self.fails("none", "USER_CODE", "NoSuchKey")


if __name__ == "__main__":
    unittest.main()
