"""Run folders as training leaves them, for the tests of the page."""

import json

import numpy as np
from PIL import Image


def joint_row(step, draw):
    """One log row of a joint run."""
    losses = ("content", "cycle", "lr_adversarial", "color", "pixel", "perceptual", "hr_adversarial")
    losses += ("disc_lr", "disc_hr")
    beliefs = ("disc_lr_real", "disc_lr_fake", "disc_hr_real", "disc_hr_fake")
    norms = ("norm_sr_net", "norm_degrader", "norm_disc_hr", "norm_disc_lr")
    row = {name: float(draw.lognormal(-3, 1)) for name in (*losses, *norms, "color_drift", "lr_color_drift")}
    row |= {name: float(draw.uniform()) for name in beliefs}
    return {"step": step, **row, "rate": 1e-4, "images_per_s": 60.0, "waiting": 0.01}


def joint_rows(steps, *, every=50, validate=5000):
    draw = np.random.default_rng(0)
    for step in range(every, steps + 1, every):
        yield joint_row(step, draw)
        if step % validate == 0:
            scores = {"psnr_db": 20 + step / 1e5, "ssim": 0.5 + step / 1e6, "lpips": 0.5 - step / 1e6}
            shares = {"noise_carried_flat": 0.9, "noise_carried_textured": 0.8, "structure_leaked": 0.1}
            yield {"step": step, **scores, **shares}


def write_run(run, rows, options=None):
    run.mkdir(parents=True)
    (run / "options.json").write_text(json.dumps({"schedule": {"steps": 1000}} if options is None else options))
    (run / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return run


def write_sample(run, step, *, width=640, height=80):
    """A sheet whose gray level tells its step."""
    (run / "samples").mkdir(exist_ok=True)
    path = run / "samples" / f"step_{step:07d}.png"
    Image.new("RGB", (width, height), (step % 200,) * 3).save(path)
    return path
