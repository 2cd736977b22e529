"""`python -m experiments.toybox train`: trains the bundled model from scratch. Start reading at `pretrain`."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from dreambooth.diffusion.randomness import generator
from dreambooth.display import Display
from dreambooth.families.attention import use_plain_attention
from dreambooth.families.components import Components
from dreambooth.families.untrained import untrained_unet
from dreambooth.pages.images import to_image, write_contact_sheet
from dreambooth.runs.lock import exclusive
from dreambooth.runtime.device import choose_device
from dreambooth.runtime.interrupts import Interrupts
from dreambooth.runtime.tensor_files import write_tensors
from dreambooth.sampling.records import Picture, SamplingOptions
from dreambooth.sampling.sampler import decode, final_latents
from dreambooth.toybox.judge import ATTRIBUTES, SIDE
from dreambooth.training.weight_average import NoAverage, WeightAverage
from dreambooth.weights.model_weights import ModelWeights, ReadingReport
from dreambooth.weights.write import write_single_file
from experiments.toybox.autoencoder import autoencoder_loss
from experiments.toybox.clip import attribute_heads, contrast_loss, voice
from experiments.toybox.denoising import denoising_loss, hearing
from experiments.toybox.parts import Parts, check_same_pictures, fill_module
from experiments.toybox.pictures import mirrored_at_random, to_pixels
from experiments.toybox.run_stage import run_stage
from experiments.toybox.settings import STAGES, PretrainSettings
from experiments.toybox.stages import Plan, Stage
from experiments.toybox.train_judges import train_eye, train_judge

__all__ = ["pretrain"]

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
    """Run the chosen stages and return the output folder. Every stage resumes where it was stopped.

    Raises SettingsError when the folder holds images of other settings, or a stage needs one that is not finished;
    TrainingError, without changing the last state, when a number is not finite.
    """
    device = choose_device(settings.device)
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    how_to_resume = f"Stopped. Run the same command again to resume from the last state in {settings.output}."
    with Interrupts(lambda: how_to_resume), exclusive(settings.output):
        check_same_pictures(settings, may_begin="pictures" in settings.stages)
        parts = Parts(settings, display, device)
        stages = {
            "pictures": _render_pictures,
            "autoencoder": _train_autoencoder,
            "clip": _train_clip,
            "unet": _train_unet,
            "judge": train_judge,
            "eye": train_eye,
            "model": _write_model,
        }
        for name in STAGES:
            if name in settings.stages:
                stages[name](parts)
    return settings.output


def _render_pictures(parts: Parts) -> None:
    sets = {"the world": parts.world, "subjects": parts.subjects, "lookalikes": parts.lookalikes}
    for what, pictures in sets.items():
        if missing := pictures.num_missing():
            with parts.display.progress(f"rendering {what}", missing, "images") as advance:
                pictures.render_missing(processes=parts.settings.processes, advance=advance)


def _train_autoencoder(parts: Parts) -> None:
    settings, vae, pictures = parts.settings, parts.vae(), parts.rendered(parts.world)
    plan = Plan(settings.autoencoder_steps, 8, 1.5e-3, warmup=100)
    average = WeightAverage(dict(vae.named_parameters()), 0.999)
    stage = Stage(parts.file("vae.safetensors"), dict(vae.named_parameters()), average, plan)

    def loss_at(step: int) -> Tensor:
        rows = torch.randint(len(pictures), (plan.batch_size,), generator=generator(settings.seed, "vae rows", step))
        pixels = to_pixels(pictures[rows]).to(parts.device)
        return autoencoder_loss(parts.family, vae, pixels, seed=settings.seed, step=step)

    run_stage("autoencoder", stage, loss_at, parts.display)


def _train_clip(parts: Parts) -> None:
    settings, device, clip, pictures = parts.settings, parts.device, parts.clip(), parts.rendered(parts.world)
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
        pixels = mirrored_at_random(to_pixels(pictures[rows]), random)
        ids = captions.unique_UL[captions.of_picture_NK[rows, draws]]
        longest = int((ids != parts.end_token).sum(dim=1).max()) + 1
        batch = {name: label[rows.to(device)] for name, label in asked.items()}
        return contrast_loss(clip, heads, pixels.to(device), ids[:, :longest].to(device), batch)

    def look(step: int) -> None:
        tokenizer, texts = parts.family.load_tokenizer(), ["photo of a sks container", "photo of a container"]
        with torch.no_grad():
            ids = parts.family.tokenize(tokenizer, texts).to(device)
            heard = voice(*parts.family.encode_text({"text_encoder": clip.text_model}, ids).states_BLD)
        parts.display.say(f"step {step}: relative change of the text states by a rare word {heard:.2f}")

    run_stage("text encoder", stage, loss_at, parts.display, look=look)


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
        parts.display.say(
            f"step {step}: increase of the loss with wrong captions {shown} at t = {', '.join(map(str, _HEARING_TIMESTEPS))}"
        )

    run_stage("UNet", stage, loss_at, parts.display, look=look)


def _write_model(parts: Parts) -> None:
    unet = untrained_unet(parts.family, seed=parts.settings.seed)
    fill_module(unet, parts.finished("unet.safetensors", stage="unet", steps=parts.settings.unet_steps), "average.")
    tensors = parts.family.state_dicts(parts.components(unet).parts)
    report = ReadingReport(Path("toybox"), "single file", (), parts.family.title, (), "only")
    about = {"dreambooth.trained_on": "rendered pictures of dreambooth.toybox", "dreambooth.seed": str(parts.settings.seed)}
    path = parts.file("toybox.safetensors")
    write_single_file(path, ModelWeights(parts.family, tensors, report, {}), dtype=torch.float16, metadata=about)
    state = parts.finished("clip.safetensors", stage="clip", steps=parts.settings.clip_steps)
    kept = {name.removeprefix("weight."): tensor for name, tensor in state.items() if name.startswith("weight.")}
    pictures_side = {name: tensor for name, tensor in kept.items() if not name.startswith("clip.text_model.")}
    write_tensors(parts.file("clip-pictures.safetensors"), pictures_side, dtype=torch.float16)
    parts.display.say(f"Model: {path}. The file clip-pictures.safetensors next to it holds the rest of CLIP")


def _write_sheet(components: Components, path: Path) -> None:
    options = SamplingOptions("ddim", 25, 5.0, SIDE, SIDE, seed=42)
    pictures = [Picture(prompt, index) for index, prompt in enumerate(_SHEET_PROMPTS)]
    device = next(components.denoiser.parameters()).device
    latents_BCHW = final_latents(components, pictures, options, device=device, dtype=torch.bfloat16)
    images = [to_image(pixels) for pixels in decode(components, latents_BCHW)]
    write_contact_sheet(path, [images[:6], images[6:]])
