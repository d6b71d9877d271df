"""The model card that a run leaves beside its weights: README.md, as the Hub shows it."""

import json
from collections.abc import Mapping
from typing import Any

from ddnsr_cli import __version__
from ddnsr_cli.config import options_to_json
from ddnsr_cli.nets.rrdb import RRDBConfig
from ddnsr_cli.training.joint_options import JointOptions

_CARD = """---
library_name: ddnsr
pipeline_tag: image-to-image
tags: [super-resolution, rrdb, ddnsr]
---

# {name}

Enlarges photos four times and takes away the noise of the camera it was trained for. Trained by `ddnsr {version}`
with the dual-input degradation method (Li et al. 2023, doi 10.1007/s10044-023-01150-2).

- `sr.safetensors`: reconstruction network, RRDB with {features} features, {blocks} blocks, growth {growth}
- `degrader.safetensors`: degradation network, {d_features} features, {d_blocks} residual blocks

## Use

```sh
ddnsr upscale photo.jpg -m {name} -o out.png
```

## Training

| | |
|---|---|
| track | {track} |
| steps | {step} |
| source (noisy LR) | {lr}{lr_photos} |
| target (clean HR) | {hr}{hr_photos}, type {target} |
| judges behind the losses | {judges} |
| their features are divided by | {scales} |
| begun with | reconstruction: {begun}; degrader: {d_begun} |
| validation | {scores} |

Licence: that of the photos it was trained on decides; fill it in before you publish.

<details><summary>All options</summary>

```json
{options}
```
</details>
"""

_FIDELITY_CARD = """---
library_name: ddnsr
pipeline_tag: image-to-image
tags: [super-resolution, rrdb, ddnsr]
---

# {name}

Enlarges photos {scale} times. Trained by `ddnsr {version}` for fidelity alone: the mean absolute error on {pairs},
and no adversarial loss, so results are smooth; it is a baseline, or the beginning of a joint run. No scores were
measured for this card.

- `sr.safetensors`: reconstruction network, RRDB with {features} features, {blocks} blocks, growth {growth}

## Use

```sh
ddnsr upscale photo.jpg -m {name} -o out.png
```

## Training

| | |
|---|---|
| steps | {step} |
| photos (clean HR) | {hr} |
| photos (LR partners) | {lr} |

Licence: that of the photos it was trained on decides; fill it in before you publish.

<details><summary>All options</summary>

```json
{options}
```
</details>
"""

_CLASSICAL_PAIRS = "pairs made from clean photos by\nblur, reduction and noise, that is on no camera's own degradation"


def fidelity_card(
    name: str, network: RRDBConfig, training: Mapping[str, Any], options: Mapping[str, Any], version: str
) -> str:
    """Markdown for the weights of a fidelity run, from what the weights file says of itself.

    training: its `step` and `data`. options: all options of the run, as JSON. version: of ddnsr, that trained it.
    """
    partners = training["data"].get("lr")
    return _FIDELITY_CARD.format(
        name=name,
        version=version,
        scale=network.scale,
        features=network.features,
        blocks=network.blocks,
        growth=network.growth,
        step=training["step"],
        pairs="ready pairs of photos" if partners else _CLASSICAL_PAIRS,
        hr=training["data"]["hr"],
        lr=partners or "made on the way",
        options=json.dumps(options, indent=2),
    )


def joint_card(name: str, options: JointOptions, step: int, record: Mapping[str, Any]) -> str:
    """Markdown with everything a stranger needs to judge the weights of a joint run."""
    data = record["data"]
    return _CARD.format(
        name=name,
        version=__version__,
        features=options.sr_net.features,
        blocks=options.sr_net.blocks,
        growth=options.sr_net.growth,
        d_features=options.degrader.features,
        d_blocks=options.degrader.blocks,
        track=record["track"],
        step=step,
        lr=data["lr"],
        hr=data["hr"] or "made from the source",
        lr_photos=_photos(data.get("lr_photos")),
        hr_photos=_photos(data.get("hr_photos")),
        target=data["target"],
        judges="; ".join(
            f"{record[name]['source']}, sha256 {record[name]['sha256'][:16]}..."
            for name in ("vgg", "perceptual_lpips")
            if name in record
        ),
        begun=_begun(record.get("start_from"), otherwise="nearest-neighbour start"),
        d_begun=_begun(record.get("start_degrader"), otherwise="averages of squares, and the finest detail"),
        scales=_scales(options, record.get("scales", {})),
        scores=_scores(record.get("latest"), record.get("best")),
        options=json.dumps(options_to_json(options), indent=2),
    )


def _begun(weights: Mapping[str, str] | None, *, otherwise: str) -> str:
    return otherwise if weights is None else f"{weights['file']}, sha256 {weights['sha256'][:16]}..."


def _photos(count: int | None) -> str:
    return "" if count is None else f", {count} photos"


def _scales(options: JointOptions, scales: Mapping[str, float]) -> str:
    layers = vars(options.layers)
    return ", ".join(f"{loss} ({layers[loss]}): {scale:.4g}" for loss, scale in scales.items()) or "nothing"


def _scores(latest: Mapping[str, float] | None, best: Mapping[str, float] | None) -> str:
    told = {"latest, of step": latest, "best, of step": best}
    return "; ".join(f"{name} {_figures(scores)}" for name, scores in told.items() if scores is not None) or "none"


def _figures(scores: Mapping[str, float]) -> str:
    figures = ", ".join(f"{name} {value:.4g}" for name, value in scores.items() if name not in {"step", "pairs"})
    pairs = f", {scores['pairs']} pairs" if "pairs" in scores else ""
    return f"{scores['step']}{pairs}: {figures}"
