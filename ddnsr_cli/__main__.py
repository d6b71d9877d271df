"""`python -m ddnsr_cli` is `ddnsr`."""

from ddnsr_cli.cli.app import main

if __name__ == "__main__":
    main()
