#!/usr/bin/env python3
"""Runs a command beside an S3 server on loopback that checks keys and signatures: s3.py COMMAND ...

The server is moto, from PyPI (pip install 'moto[s3,iam,server]==5.*'). It has a bucket `lake` and one user; the
command finds endpoint and keys in MILLSTREAM_S3_ENDPOINT, MILLSTREAM_S3_KEY and MILLSTREAM_S3_SECRET. The exit
code is the command's.
"""

import json
import logging
import os
import subprocess
import sys

# Before moto is imported: nothing is checked until the user is made.
os.environ["INITIAL_NO_AUTH_ACTION_COUNT"] = "1000000"

import boto3  # noqa: E402
from moto import settings  # noqa: E402
from moto.server import ThreadedMotoServer  # noqa: E402

EVERYTHING = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]}


def main(command):
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        endpoint = "http://%s:%s" % server.get_host_and_port()
        access = dict(endpoint_url=endpoint, region_name="us-east-1", aws_access_key_id="setup", aws_secret_access_key="setup")
        iam = boto3.client("iam", **access)
        iam.create_user(UserName="tester")
        iam.put_user_policy(UserName="tester", PolicyName="all", PolicyDocument=json.dumps(EVERYTHING))
        key = iam.create_access_key(UserName="tester")["AccessKey"]
        boto3.client("s3", **access).create_bucket(Bucket="lake")
        # From here on every request must be signed by the user.
        settings.INITIAL_NO_AUTH_ACTION_COUNT = 0.0
        found = {
            "MILLSTREAM_S3_ENDPOINT": endpoint,
            "MILLSTREAM_S3_KEY": key["AccessKeyId"],
            "MILLSTREAM_S3_SECRET": key["SecretAccessKey"],
        }
        return subprocess.run(command, env={**os.environ, **found}).returncode
    finally:
        server.stop()


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    sys.exit(main(sys.argv[1:]))
