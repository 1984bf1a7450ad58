"""`python -m tests.commands.on_node NODE ARGUMENTS...`: icm-bench, whose driver belongs to a named node."""

import sys
from typing import Any

from ray._private import services

from benchmark.cli import main

if __name__ == "__main__":
    find = services.get_node_to_connect_for_driver

    def named(*args: Any, **kwargs: Any) -> Any:
        return find(*args, **{**kwargs, "node_name": sys.argv[1]})

    services.get_node_to_connect_for_driver = named
    sys.exit(main(sys.argv[2:]))
