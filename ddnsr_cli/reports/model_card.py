"""The model card of a run, README.md as the Hub shows it, and the license in its front matter."""

import json
import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ddnsr_cli import __version__
from ddnsr_cli.config import options_to_json
from ddnsr_cli.errors import ConfigError, WeightsError
from ddnsr_cli.training.options import JointOptions
from ddnsr_cli.training.paired_options import PIXELS_ONLY, PairedOptions

HUB_LICENSES = frozenset((
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

_NO_LICENSES = ("", "none", "other", "unknown", "tbd")
_BODY_LINE = re.compile(r"^(Licen[cs]e): .*$", re.MULTILINE)

_CARD = """---
library_name: ddnsr
pipeline_tag: image-to-image
tags: [super-resolution, rrdb, ddnsr]
---

# {name}

Enlarges images four times and takes away the noise of the camera it was trained for. Trained by `ddnsr {version}`
{method}.

- `sr.safetensors`: reconstruction network, RRDB with {features} features, {blocks} blocks, growth {growth}
- `degrader.safetensors`: degradation network, {d_features} features, {d_blocks} residual blocks

## Use

```sh
ddnsr upscale photo.jpg -m {place} -o out.png
```

## Training

| | |
|---|---|
| track | {track} |
| steps | {step} |
| source (noisy LR) | {lr}{lr_images} |
| target (clean HR) | {hr}{hr_images}, type {target} |
| feature networks behind the losses | {extractors} |
| their features are divided by | {scales} |
| begun with | reconstruction: {begun}; degrader: {d_begun} |
| validation | {scores} |

License: that of the images it was trained on decides; fill it in before you publish.

<details><summary>All options</summary>

```json
{options}
```
</details>
"""

_PAIRED_CARD = """---
library_name: ddnsr
pipeline_tag: image-to-image
tags: [super-resolution, rrdb, ddnsr]
---

# {name}

Enlarges images {scale} times. Trained by `ddnsr {version}` on pairs of LR and HR images, {how}.

- `sr.safetensors`: reconstruction network, RRDB with {features} features, {blocks} blocks, growth {growth}

## Use

```sh
ddnsr upscale photo.jpg -m {place} -o out.png
```

## Training

| | |
|---|---|
| steps | {step} |
| pairs | {sources} |
| feature networks behind the losses | {extractors} |
| their features are divided by | {scales} |
| begun with | {begun} |
| taught by | {teacher} |
| validation | {scores} |

License: that of the images, and of the weights it began with, decides; fill it in before you publish.

<details><summary>All options</summary>

```json
{options}
```
</details>
"""

_METHOD = "the dual-input degradation method (Li et al. 2023, doi 10.1007/s10044-023-01150-2)"
_BY_PIXELS = "by the mean absolute error alone: results are smooth, a baseline or a beginning"
_BY_EQUATION_2 = "by pixel, perceptual and adversarial losses (equation 2 of Li et al. 2023)"
_OF_EQUATION_2 = {"pixel", "perceptual", "hr_adversarial"}


def with_license(card: str, license: str) -> str:
    """The card with this license, an SPDX identifier or a text of one line, in place of any other.

    It is written into the front matter, which is made when missing, and where our own cards tell it in their text.
    Raises ConfigError when it is no license, WeightsError when the front matter does not end.
    """
    license = license.strip()
    if license.lower() in _NO_LICENSES or not license.isprintable() or len(license) > 200:
        raise ConfigError(
            f"{license[:40]!r} is no license. Give --license an SPDX identifier (CC-BY-4.0, MIT ...) or a line of text."
        )
    head, body = _split(card)
    if license.lower() in HUB_LICENSES:
        lines = [f"license: {license.lower()}"]
    else:
        slug = re.sub(r"[^a-z0-9.]+", "-", license.lower()).strip("-.")[:60].rstrip("-.") or "see-text"
        lines = ["license: other", f"license_name: {slug}"]
        if not _BODY_LINE.search(body):
            body = f"{body.rstrip()}\n\nLicense: \n"
    body = _BODY_LINE.sub(lambda line: f"{line[1]}: {license}", body, count=1)
    return "\n".join(["---", *_without(head), *lines, "---", ""]) + body


def license_of(card: str) -> str | None:
    """The license that the front matter names; None when there is none. Raises as `with_license` for a broken one."""
    named = {}
    for line in _split(card)[0]:
        if match := re.fullmatch(r"(license|license_name):\s*(.*?)\s*", line):
            named[match[1]] = match[2].strip("'\"")
    license = named.get("license", "")
    if license.lower() == "other":
        license = named.get("license_name", "")
    return None if license.lower() in _NO_LICENSES else license


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
    """The front matter without its license, whose value may go on in lines that are set in."""
    kept, dropping = [], False
    for line in head:
        dropping = bool(re.match(r"license(_name|_link)?:", line)) or (dropping and line.startswith((" ", "-")))
        if not dropping:
            kept.append(line)
    return kept


def paired_card(run: Path, options: PairedOptions, step: int, record: Mapping[str, Any]) -> str:
    """Markdown with everything a stranger needs to judge the weights of a paired run.

    run: its folder, as it was named.
    """
    network = options.network
    return _PAIRED_CARD.format(
        name=run.resolve().name,
        place=shlex.quote(str(run)),
        version=__version__,
        scale=network.scale,
        how=_losses(options),
        features=network.features,
        blocks=network.blocks,
        growth=network.growth,
        step=step,
        sources="; ".join(map(_source, record["data"]["sources"])),
        extractors=_extractors(record) or "none",
        scales=_scales(vars(options.layers), record.get("scales", {})),
        begun=_begun(record.get("start_from"), otherwise="nearest-neighbor start"),
        teacher=_teacher(options, record),
        scores=_scores(record.get("latest"), record.get("best")),
        options=json.dumps(options_to_json(options), indent=2),
    )


def _losses(options: PairedOptions) -> str:
    if options.losses == PIXELS_ONLY:
        return _BY_PIXELS
    used = {name: weight for name, weight in vars(options.losses).items() if weight}
    if used.keys() == _OF_EQUATION_2:
        return _BY_EQUATION_2
    return f"by the losses {', '.join(f'{name} (weight {weight:g})' for name, weight in used.items())}"


def _teacher(options: PairedOptions, record: Mapping[str, Any]) -> str:
    if options.teacher is None:
        return "none"
    share = 1 - options.teacher.truth_share
    return f"{_begun(record.get('teacher'), otherwise='unknown')} (share {share:g}, the truth the rest)"


def _source(source: Mapping[str, Any]) -> str:
    how = {
        "rule": "degraded by rule",
        "ready": f"with ready partners in {source['lr']}",
        "learned": f"degraded with noise of {source['lr']} by {_begun(source['degrader'], otherwise='a degrader')}",
    }
    return f"{source['images']} images of {source['hr']}, {how[source['kind']]} (share {source['share']:g})"


def joint_card(run: Path, options: JointOptions, step: int, record: Mapping[str, Any]) -> str:
    """Markdown with everything a stranger needs to judge the weights of a joint run.

    run: its folder, as it was named.
    """
    data, fresh = record["data"], "random start" if options.plain_start else None
    return _CARD.format(
        name=run.resolve().name,
        place=shlex.quote(str(run)),
        version=__version__,
        method=_method(options),
        features=options.sr_net.features,
        blocks=options.sr_net.blocks,
        growth=options.sr_net.growth,
        d_features=options.degrader.features,
        d_blocks=options.degrader.blocks,
        track=record["track"],
        step=step,
        lr=data["lr"],
        hr=data["hr"] or "made from the source",
        lr_images=_images(data.get("lr_images")),
        hr_images=_images(data.get("hr_images")),
        target=data["target"],
        extractors=_extractors(record) or "none",
        begun=_begun(record.get("start_from"), otherwise=fresh or "nearest-neighbor start"),
        d_begun=_begun(record.get("start_degrader"), otherwise=fresh or _degrader_start(options)),
        scales=_scales(vars(options.layers), record.get("scales", {})),
        scores=_scores(record.get("latest"), record.get("best")),
        options=json.dumps(options_to_json(options), indent=2),
    )


def _method(options: JointOptions) -> str:
    if options.degrader.bicubic_first:
        return "by translating bicubic LR images into the likeness of real ones and back, as CycleGAN does"
    return f"with {_METHOD}" if options.dual_input else f"with a degrader of a single input, unlike {_METHOD}"


def _degrader_start(options: JointOptions) -> str:
    start = "bicubic shrinking" if options.degrader.bicubic_first else "averages of squares"
    return f"{start}, and the finest detail" if options.dual_input else start


def _begun(weights: Mapping[str, str] | None, *, otherwise: str) -> str:
    if weights is None:
        return otherwise
    terms = f" ({weights['terms']})" if "terms" in weights else ""
    return f"{weights['file']}, sha256 {weights['sha256'][:16]}...{terms}"


def _images(count: int | None) -> str:
    return "" if count is None else f", {count} images"


def _extractors(record: Mapping[str, Any]) -> str:
    known = [record[name] for name in ("vgg", "perceptual_lpips") if name in record]
    return "; ".join(f"{one['source']}, sha256 {one['sha256'][:16]}..." for one in known)


def _scales(layers: Mapping[str, str], scales: Mapping[str, float]) -> str:
    named = {loss: f"{loss} ({layers[loss]})" if loss in layers else loss.replace(".", " ") for loss in scales}
    return ", ".join(f"{named[loss]}: {scale:.4g}" for loss, scale in scales.items()) or "nothing"


def _scores(latest: Mapping[str, float] | None, best: Mapping[str, float] | None) -> str:
    scored = {"latest, of step": latest, "best, of step": best}
    return "; ".join(f"{name} {_figures(scores)}" for name, scores in scored.items() if scores is not None) or "none"


def _figures(scores: Mapping[str, float]) -> str:
    figures = ", ".join(f"{name} {value:.4g}" for name, value in scores.items() if name not in {"step", "pairs"})
    pairs = f", {scores['pairs']} pairs" if "pairs" in scores else ""
    return f"{scores['step']}{pairs}: {figures}"
