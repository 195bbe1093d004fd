"""A Python that has imported nnU-Net and the trainers, and forks for every command.

The import takes 7 s of a command of 10 s. Each command runs in a process of its own, by the function that its
console script names, as `nnUNetv2_train …` would. What nnU-Net reads while it is imported (its three folders)
is what it was when the process began. nnU-Net's helper processes are forked, too.
"""

import json
import os
import subprocess
import sys
from importlib.metadata import entry_points


class PreparedPython:
    def __init__(self, environment):
        self.process = subprocess.Popen(
            [sys.executable, __file__],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, commands, environment, output):
        """The exit status of commands that run one after the other in one process; `output` is a path."""
        request = {"commands": commands, "environment": environment, "output": str(output)}
        print(json.dumps(request), file=self.process.stdin, flush=True)
        return int(self.process.stdout.readline())

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def serve():
    from forking import fork_in_place_of_spawn

    import nnunet_igtv.trainers  # noqa: F401

    fork_in_place_of_spawn()
    for line in sys.stdin:
        request = json.loads(line)
        process = os.fork()
        if process == 0:
            return become(**request)
        print(os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]), flush=True)


def become(commands, environment, output):
    """This process as the commands; an exception ends it as it would end them."""
    for stream, path, mode in ((0, os.devnull, os.O_RDONLY), (1, output, os.O_WRONLY | os.O_CREAT)):
        os.dup2(os.open(path, mode), stream)
    os.dup2(1, 2)
    os.environ.update(environment)
    scripts = {script.name: script for script in entry_points(group="console_scripts")}
    for sys.argv in commands:
        print("$", *sys.argv, flush=True)
        scripts[sys.argv[0]].load()()


if __name__ == "__main__":
    serve()
