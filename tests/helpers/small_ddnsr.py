"""`python -m tests.helpers.small_ddnsr train ...`: the command with the defaults of small_training."""

from ddnsr_cli.cli.app import main
from tests.helpers.small_training import small_training

if __name__ == "__main__":
    small_training()
    main()
