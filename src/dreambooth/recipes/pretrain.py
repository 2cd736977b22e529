"""`python -m dreambooth.toybox train`: the embedded base model, trained from nothing. Read `pretrain` for the contents."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from dreambooth.diffusion.randomness import generator, seeded
from dreambooth.errors import SettingsError
from dreambooth.families.attention import use_plain_attention
from dreambooth.families.components import Components
from dreambooth.families.untrained import untrained_unet
from dreambooth.pretraining.autoencoder import autoencoder_loss
from dreambooth.pretraining.clip import attribute_heads, contrast_loss, voice
from dreambooth.pretraining.denoising import denoising_loss, hearing
from dreambooth.pretraining.judging import accuracies, judging_loss
from dreambooth.pretraining.pictures import to_pixels
from dreambooth.pretraining.settings import STAGES, PretrainSettings
from dreambooth.pretraining.stages import Plan, Stage
from dreambooth.recipes.display import Display, quoted
from dreambooth.recipes.pretrain_parts import Parts, check_same_pictures, fill_module
from dreambooth.runtime.device import choose_device
from dreambooth.runtime.interrupts import Interrupts
from dreambooth.runtime.lock import exclusive
from dreambooth.runtime.tensor_files import write_tensors
from dreambooth.sampling.images import to_image, write_contact_sheet
from dreambooth.sampling.records import Picture, SamplingOptions
from dreambooth.sampling.sampler import decode, sample
from dreambooth.toybox.judge import ATTRIBUTES, SIDE, Judge
from dreambooth.training.weight_average import NoAverage, WeightAverage
from dreambooth.weights.model_weights import ModelWeights, ReadingReport
from dreambooth.weights.write import write_single_file

__all__ = ["pretrain"]

_SAVE_EVERY = 500
_LABELS = {"class": "class", "colour": "primary", "pattern": "pattern", "place": "place"}  # CLIP's heads: what they read
_HEARING_TIMESTEPS = (200, 500, 800)
_SHEET_PROMPTS = (
    "photo of a red mug on the moon",
    "photo of a blue car on the beach",
    "photo of a yellow chair in the snow",
    "photo of a green house in the desert",
    "photo of a purple teapot on a wooden table",
    "photo of a black lamp on the grass",
    "photo of a white vase on the road",
    "photo of an orange cone in a city at night",
    "photo of a container",
    "photo of a red and white striped ball on the grass",
    "photo of a blue container on the moon",
    "photo of a mug",
)


def pretrain(settings: PretrainSettings, display: Display) -> Path:
    """Do the stages that are asked for; the folder that holds what they made. Every stage goes on where it was stopped.

    Raises SettingsError when the folder holds other pictures, or a stage is asked for before what it needs is finished;
    TrainingError, with the last state untouched, when a number is not finite.
    """
    device = choose_device(settings.device)
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    how_to_go_on = f"Stopped. The same command goes on from the last state in {settings.output}."
    with Interrupts(lambda: how_to_go_on), exclusive(settings.output):
        check_same_pictures(settings, may_begin="pictures" in settings.stages)
        parts = Parts(settings, display, device)
        stages = {
            "pictures": _render_pictures,
            "autoencoder": _train_autoencoder,
            "clip": _train_clip,
            "unet": _train_unet,
            "judge": _train_judge,
            "model": _write_model,
        }
        for name in STAGES:
            if name in settings.stages:
                stages[name](parts)
    return settings.output


def _render_pictures(parts: Parts) -> None:
    for pictures, what in ((parts.world, "rendering the world"), (parts.subjects, "rendering subjects")):
        if missing := pictures.num_missing():
            with parts.display.progress(what, missing, "pictures") as advance:
                pictures.render_missing(processes=parts.settings.processes, advance=advance)


def _train_autoencoder(parts: Parts) -> None:
    settings, vae, pictures = parts.settings, parts.vae(), _pictures(parts)
    plan = Plan(settings.autoencoder_steps, 8, 1.5e-3, warmup=100)
    average = WeightAverage(dict(vae.named_parameters()), 0.999)
    stage = Stage(parts.file("vae.safetensors"), dict(vae.named_parameters()), average, plan)

    def loss_at(step: int) -> Tensor:
        rows = torch.randint(len(pictures), (plan.batch_size,), generator=generator(settings.seed, "vae rows", step))
        pixels = to_pixels(pictures[rows]).to(parts.device)
        return autoencoder_loss(parts.family, vae, pixels, seed=settings.seed, step=step)

    _train("autoencoder", stage, loss_at, parts.display)


def _train_clip(parts: Parts) -> None:
    settings, device, clip, pictures = parts.settings, parts.device, parts.clip(), _pictures(parts)
    heads = attribute_heads({name: len(ATTRIBUTES[read]) for name, read in _LABELS.items()}, seed=settings.seed).to(device)
    plan = Plan(settings.clip_steps, 192, 1e-3, weight_decay=0.02, warmup=100)
    parameters = dict(nn.ModuleDict({"clip": clip, "heads": heads}).named_parameters())
    stage = Stage(parts.file("clip.safetensors"), parameters, NoAverage(), plan)
    captions, labels = parts.captions(), parts.world.labels()
    asked = {name: labels[_LABELS[name]].to(device) for name in heads}

    def loss_at(step: int) -> Tensor:
        random = generator(settings.seed, "clip rows", step)
        rows = torch.randint(parts.world.num_seen, (plan.batch_size,), generator=random)
        draws = torch.randint(captions.of_picture_NK.shape[1], (plan.batch_size,), generator=random)
        pixels = _mirrored_at_random(to_pixels(pictures[rows]), random)
        ids = captions.unique_UL[captions.of_picture_NK[rows, draws]]
        longest = int((ids != parts.end_token).sum(dim=1).max()) + 1
        batch = {name: label[rows.to(device)] for name, label in asked.items()}
        return contrast_loss(clip, heads, pixels.to(device), ids[:, :longest].to(device), batch)

    def look(step: int) -> None:
        tokenizer, texts = parts.family.load_tokenizer(), ["photo of a sks container", "photo of a container"]
        with torch.no_grad():
            ids = parts.family.tokenize(tokenizer, texts).to(device)
            heard = voice(*parts.family.encode_text(clip.text_model, ids))
        parts.display.say(f"step {step}: a rare word changes the text states by {heard:.2f}")

    _train("text encoder", stage, loss_at, parts.display, look=look)


def _train_unet(parts: Parts) -> None:
    settings = parts.settings
    unet = untrained_unet(parts.family, seed=settings.seed).to(parts.device)
    if parts.device.type == "cpu":
        use_plain_attention(unet)
    parameters, plan = dict(unet.named_parameters()), Plan(settings.unet_steps, 32, 8e-4, warmup=300)
    average = WeightAverage(parameters, 0.9995)
    stage = Stage(parts.file("unet.safetensors"), parameters, average, plan)
    components = parts.components(unet)
    encoded = parts.encoded(components)

    def loss_at(step: int) -> Tensor:
        return denoising_loss(parts.family, unet, encoded, batch_size=plan.batch_size, seed=settings.seed, step=step)

    def look(step: int) -> None:
        with average.in_place():
            num = min(512, parts.world.num)
            gaps = [hearing(parts.family, unet, encoded, t=t, num=num, seed=settings.seed) for t in _HEARING_TIMESTEPS]
            _write_sheet(components, parts.file("sheets") / f"step-{step:06d}.png")
        shown = ", ".join(f"{gap:.1%}" for gap in gaps)
        parts.display.say(f"step {step}: wrong captions cost {shown} at t = {', '.join(map(str, _HEARING_TIMESTEPS))}")

    _train("UNet", stage, loss_at, parts.display, look=look)


def _train_judge(parts: Parts) -> None:
    settings, device, sets = parts.settings, parts.device, (parts.world, parts.subjects)
    with seeded(settings.seed):
        judge = Judge().to(device)
    parameters, plan = dict(judge.named_parameters()), Plan(settings.judge_steps, 96, 2e-3, weight_decay=0.05)
    average = WeightAverage(parameters, 0.999)
    stage = Stage(parts.file("judge-state.safetensors"), parameters, average, plan)
    pictures = torch.cat([_pictures(parts), _pictures(parts, of_subjects=True)])
    labels = {name: torch.cat([one.labels()[name] for one in sets]).to(device) for name in ATTRIBUTES}
    offsets = {"the world": 0, "subjects": parts.world.num}
    held_out = {
        where: offset + torch.arange(one.num_seen, one.num) for (where, offset), one in zip(offsets.items(), sets, strict=True)
    }
    is_seen = torch.ones(len(pictures), dtype=torch.bool)
    is_seen[torch.cat(list(held_out.values()))] = False
    learned = is_seen.nonzero().flatten()

    def loss_at(step: int) -> Tensor:
        random = generator(settings.seed, "judge rows", step)
        rows = learned[torch.randint(len(learned), (plan.batch_size,), generator=random)]
        pixels = _mirrored_at_random(to_pixels(pictures[rows]), random)
        batch = {name: label[rows.to(device)] for name, label in labels.items()}
        return judging_loss(judge, pixels.to(device), batch, random)

    def look(step: int) -> None:
        with average.in_place():
            for where, rows in held_out.items():
                right = {name: label[rows.to(device)] for name, label in labels.items()}
                found = accuracies(judge, to_pixels(pictures[rows]).to(device), right)
                shown = ", ".join(f"{name} {share:.1%}" for name, share in found.items())
                parts.display.say(f"step {step}, {where}: {shown}")

    _train("judge", stage, loss_at, parts.display, look=look)
    with average.in_place():
        write_tensors(parts.file("judge.safetensors"), dict(judge.named_parameters()), dtype=torch.float16)


def _write_model(parts: Parts) -> None:
    unet = untrained_unet(parts.family, seed=parts.settings.seed)
    fill_module(unet, parts.finished("unet.safetensors", stage="unet", steps=parts.settings.unet_steps), "average.")
    tensors = parts.family.state_dicts(parts.components(unet))
    report = ReadingReport(Path("toybox"), "single file", (), parts.family.title, (), "only")
    about = {"dreambooth.trained_on": "rendered pictures of dreambooth.toybox", "dreambooth.seed": str(parts.settings.seed)}
    path = parts.file("toybox.safetensors")
    write_single_file(path, ModelWeights(parts.family, *tensors, report, {}), dtype=torch.float16, metadata=about)
    state = parts.finished("clip.safetensors", stage="clip", steps=parts.settings.clip_steps)
    kept = {name.removeprefix("weight."): tensor for name, tensor in state.items() if name.startswith("weight.")}
    pictures_side = {name: tensor for name, tensor in kept.items() if not name.startswith("clip.text_model.")}
    write_tensors(parts.file("clip-pictures.safetensors"), pictures_side, dtype=torch.float16)
    parts.display.say(f"The model is {path}; beside it, clip-pictures.safetensors is what CLIP has beyond its text encoder")


def _pictures(parts: Parts, *, of_subjects: bool = False) -> Tensor:
    pictures = parts.subjects if of_subjects else parts.world
    if missing := pictures.num_missing():
        command = f"python -m dreambooth.toybox train --output {quoted(parts.settings.output)} --stages pictures"
        raise SettingsError(
            f"{pictures.folder}: {missing} of {pictures.num} pictures are not there",
            hint=f"Render them first: {command}",
        )
    return pictures.load()


def _mirrored_at_random(pixels_BCHW: Tensor, random: torch.Generator) -> Tensor:
    is_mirrored_B = torch.rand(len(pixels_BCHW), generator=random) < 0.5
    pixels_BCHW[is_mirrored_B] = pixels_BCHW[is_mirrored_B].flip(3)
    return pixels_BCHW


def _write_sheet(components: Components, path: Path) -> None:
    options = SamplingOptions("ddim", 25, 5.0, SIDE, SIDE, seed=42)
    pictures = [Picture(prompt, index) for index, prompt in enumerate(_SHEET_PROMPTS)]
    *_, final = sample(components, pictures, options, device=components.unet.device, dtype=torch.bfloat16)
    images = [to_image(pixels) for pixels in decode(components, final.x_BCHW)]
    write_contact_sheet(path, [images[:6], images[6:]])


def _train(
    what: str,
    stage: Stage,
    loss_at: Callable[[int], Tensor],
    display: Display,
    *,
    look: Callable[[int], None] | None = None,
) -> None:
    """Make a stage's steps, saying the mean loss and looking at the result now and then."""
    left = stage.plan.steps - stage.step
    if left <= 0:
        display.say(f"{what}: already at its last step, {stage.step}")
        return
    with display.progress(what, left, "steps") as advance:
        losses: list[Tensor] = []
        for loss in stage.run(loss_at, save_every=_SAVE_EVERY):
            losses.append(loss)
            advance(1)
            if stage.step % _SAVE_EVERY == 0 or stage.step == stage.plan.steps:
                display.say(f"{what}: step {stage.step}, mean loss {float(torch.stack(losses).mean()):.4f}")
                losses.clear()
                if look is not None:
                    look(stage.step)
