"""`python -m limbeck …`: the command line, for launchers that start a module (torchrun, accelerate)."""

from limbeck.cli import entry

if __name__ == "__main__":
    entry()
