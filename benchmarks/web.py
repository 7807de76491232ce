"""nginx in front of the files that a build wrote: no Python at all."""

from __future__ import annotations

import os
from pathlib import Path

from . import apps
from .load import free_port
from .load import program
from .load import Server

_CONFIG = """
{user}
daemon off;
worker_processes 1;
pid "{directory}/nginx.pid";
error_log stderr error;
events {{ worker_connections 1024; }}
http {{
    types {{ text/html html; }}
    charset utf-8;
    access_log off;
    sendfile on;
    tcp_nopush on;
    keepalive_requests 1000000000;
    client_body_temp_path "{directory}/body";
    proxy_temp_path "{directory}/proxy";
    fastcgi_temp_path "{directory}/fastcgi";
    uwsgi_temp_path "{directory}/uwsgi";
    scgi_temp_path "{directory}/scgi";
    server {{
        listen 127.0.0.1:{port};
        root "{root}";
        index index.html;
    }}
}}
"""


def nginx(directory: Path) -> Server:
    """Start nginx with one process, on the files of a build of its own below `directory`."""
    home = directory / "nginx"
    home.mkdir(parents=True)
    root, port = apps.tree(home / "pages"), free_port()
    # A worker of another user could not read what is ours alone.
    user = "user root;" if hasattr(os, "geteuid") and os.geteuid() == 0 else ""
    config = home / "nginx.conf"
    config.write_text(_CONFIG.format(user=user, directory=home, port=port, root=root))
    command = [program("nginx") or "", "-p", str(home), "-c", str(config)]
    return Server(command, port, home / "nginx.log")
