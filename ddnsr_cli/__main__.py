"""`python -m ddnsr_cli` is `ddnsr`."""

from ddnsr_cli.cli.app import command

if __name__ == "__main__":
    command()
