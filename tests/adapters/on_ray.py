"""Commands on a small local Ray, which is started once for all of them.

    python on_ray.py CPUS < COMMANDS

Standard input holds a JSON list of lists of arguments; the answer is a JSON list of exit codes on the last
line of standard output. It is a program of its own because Ray's processes and settings are those of a
process.
"""

import contextlib
import json
import sys

import ray

from limbeck.adapters.ray import main

if __name__ == "__main__":
    ray.init(num_cpus=int(sys.argv[1]), include_dashboard=False)
    with contextlib.redirect_stdout(sys.stderr):
        ends = [main(arguments) for arguments in json.load(sys.stdin)]
        ray.shutdown()
    print(json.dumps(ends))
