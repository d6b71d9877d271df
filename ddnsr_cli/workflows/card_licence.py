"""The licence in the front matter of a model card, as the Hub reads it. Everything else of the card stays as it is."""

import re

from ddnsr_cli.errors import ConfigError, WeightsError

HUB_LICENCES = frozenset((
    "afl-3.0", "agpl-3.0", "apache-2.0", "artistic-2.0", "bigcode-openrail-m", "bigscience-openrail-m",
    "bsd-2-clause", "bsd-3-clause", "bsd-3-clause-clear", "bsl-1.0", "c-uda", "cc-by-2.0", "cc-by-2.5",
    "cc-by-3.0", "cc-by-4.0", "cc-by-nc-2.0", "cc-by-nc-3.0", "cc-by-nc-4.0", "cc-by-nc-nd-3.0", "cc-by-nc-nd-4.0",
    "cc-by-nc-sa-2.0", "cc-by-nc-sa-3.0", "cc-by-nc-sa-4.0", "cc-by-nd-4.0", "cc-by-sa-3.0", "cc-by-sa-4.0",
    "cc0-1.0", "cdla-permissive-1.0", "cdla-permissive-2.0", "cdla-sharing-1.0", "creativeml-openrail-m",
    "ecl-2.0", "epl-1.0", "epl-2.0", "etalab-2.0", "eupl-1.1", "gpl-2.0", "gpl-3.0", "isc", "lgpl-2.1", "lgpl-3.0",
    "lppl-1.3c", "mit", "mpl-2.0", "ms-pl", "ncsa", "odbl", "odc-by", "ofl-1.1", "openrail", "openrail++",
    "osl-3.0", "pddl", "postgresql", "unlicense", "wtfpl", "zlib",
))  # fmt: skip
"""What the Hub takes as `license`. It refuses others: those are `other` there, with a name of their own."""

_NO_LICENCES = ("", "none", "other", "unknown", "tbd")
_BODY_LINE = re.compile(r"^(Licen[cs]e): .*$", re.MULTILINE)


def with_licence(card: str, licence: str) -> str:
    """The card with this licence, an SPDX identifier or a text of one line, in place of any other.

    It is written into the front matter, which is made when missing, and where our own cards tell it in their text.
    Raises ConfigError when it is no licence, WeightsError when the front matter does not end.
    """
    licence = licence.strip()
    if licence.lower() in _NO_LICENCES or not licence.isprintable() or len(licence) > 200:
        raise ConfigError(
            f"{licence[:40]!r} is no licence. Give --licence an SPDX identifier (CC-BY-4.0, MIT ...) or a line of text."
        )
    head, body = _split(card)
    if licence.lower() in HUB_LICENCES:
        lines = [f"license: {licence.lower()}"]
    else:
        slug = re.sub(r"[^a-z0-9.]+", "-", licence.lower()).strip("-.")[:60].rstrip("-.") or "see-text"
        lines = ["license: other", f"license_name: {slug}"]
        if not _BODY_LINE.search(body):
            body = f"{body.rstrip()}\n\nLicence: \n"
    body = _BODY_LINE.sub(lambda line: f"{line[1]}: {licence}", body, count=1)
    return "\n".join(["---", *_without(head), *lines, "---", ""]) + body


def licence_of(card: str) -> str | None:
    """The licence that the front matter names; None when there is none. Raises as `with_licence` for a broken one."""
    named = {}
    for line in _split(card)[0]:
        if match := re.fullmatch(r"(license|license_name):\s*(.*?)\s*", line):
            named[match[1]] = match[2].strip("'\"")
    licence = named.get("license", "")
    if licence.lower() == "other":
        licence = named.get("license_name", "")
    return None if licence.lower() in _NO_LICENCES else licence


def _split(card: str) -> tuple[list[str], str]:
    """Lines of the front matter, without its marks, and the text after it."""
    card = card.removeprefix("\ufeff")
    lines = card.split("\n")
    if lines[0].rstrip() != "---":
        return [], f"\n{card}"
    for number, line in enumerate(lines[1:], 1):
        if line.rstrip() == "---":
            return lines[1:number], "\n".join(lines[number + 1 :])
    raise WeightsError("The front matter of README.md does not end: it needs a second line of --- alone.")


def _without(head: list[str]) -> list[str]:
    """The front matter without its licence, whose value may go on in lines that are set in."""
    kept, dropping = [], False
    for line in head:
        dropping = bool(re.match(r"license(_name|_link)?:", line)) or (dropping and line.startswith((" ", "-")))
        if not dropping:
            kept.append(line)
    return kept
