"""The commands of the program, as Typer knows them."""


def commands(group, prefix=""):
    """(name, command) of each, groups gone through."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, f"{prefix}{name} ")
        else:
            yield f"{prefix}{name}", command
