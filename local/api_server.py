"""Airflow's API server on a socket that listens already, for requests to this machine only.

    python -m local.api_server FD

`airflow api-server` takes a port instead, which another process could take first.
"""

import socket
import sys

import uvicorn
from airflow.api_fastapi.main import app
from airflow.configuration import conf

from local.loopback import LoopbackOnly

# The settings of `airflow api-server`: Airflow configures the logs, and logs the requests itself.
config = uvicorn.Config(
    LoopbackOnly(app),
    timeout_keep_alive=conf.getint("api", "worker_timeout"),
    access_log=False,
    log_config=None,
    proxy_headers=False,
)
uvicorn.Server(config).run(sockets=[socket.socket(fileno=int(sys.argv[1]))])
