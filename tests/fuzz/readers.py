"""Every reader of files that may come from elsewhere, with a sound file to damage."""

from __future__ import annotations

import json
import shutil
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from dreambooth.compat.arguments import read_arguments
from dreambooth.compat.later import later_job
from dreambooth.compat.training_flags import FLAGS
from dreambooth.config import parse_settings, read_yaml
from dreambooth.data.archives import unpack
from dreambooth.data.caption_files import read_captions
from dreambooth.data.caption_tables import read_caption_table
from dreambooth.data.face_regions import faces_in
from dreambooth.data.latent_cache import LatentCache
from dreambooth.data.photos import read_pixels
from dreambooth.data.prior_prompts import class_prompts
from dreambooth.data.prior_sets import PriorRequest, PriorSet, prompt_of_set
from dreambooth.data.settings import PriorSettings, SubjectSettings
from dreambooth.data.size import Size
from dreambooth.diffusion.latents import LatentMoments
from dreambooth.evaluation.dataset import read_dataset
from dreambooth.evaluation.prompts import read_subject_prompts
from dreambooth.evaluation.run_curves import run_curves
from dreambooth.measures.features import FeatureCache
from dreambooth.measures.preprocessing import PREPROCESSOR_FILE, read_preprocessing
from dreambooth.runs.folder import RunFolder
from dreambooth.runs.progress import read_progress
from dreambooth.runs.remembered import read_remembered
from dreambooth.runs.status import read_status
from dreambooth.schema.verbs import TrainSettings
from dreambooth.training.checkpoints import damage, find_checkpoints
from dreambooth.weights.containers import open_tensor_file
from dreambooth.weights.embedding_file import WORD, read_embedding_file
from dreambooth.weights.folder_configuration import read_json
from dreambooth.weights.original_config import config_beside
from dreambooth.weights.read import read_model
from tests.fuzz.web_readers import web_files

DATASET = Path(__file__).parents[1] / "data" / "prompts_and_classes.txt"
MINI_YAML = Path(__file__).parents[1] / "golden" / "v1-mini.yaml"
EVENTS = [
    {"event": "validation", "step": 0, "time": 1.0, "instance_loss": 0.5},
    {"event": "step", "step": 1, "time": 2.0, "loss": 0.5, "instance_loss": 0.5, "learning_rates": {"unet": 1e-6}},
    {
        "event": "evaluation",
        "step": 1,
        "time": 3.0,
        "balance": 0.5,
        "fidelity": 0.1,
        "prompt": None,
        "prior": 0.2,
        "scores": {},
    },
    {"event": "preview", "step": 1, "time": 4.0, "sheet": "previews/over-time.png"},
    {"event": "selection", "step": 1, "time": 5.0, "chosen": 1, "best": 1, "text": "best", "balances": {"1": 0.5}},
]
MOMENTS = LatentMoments(torch.arange(64.0).reshape(4, 4, 4), torch.ones(4, 4, 4))
WEIGHTS = {"a.weight": torch.arange(6.0).reshape(2, 3), "b": torch.ones(4, dtype=torch.float16)}
REQUEST = PriorRequest("photo of a dog", "ab" * 32, "ddim", 2, 1.0, 32, 32, 0)
FACES = (
    '<x xmlns:r="http://www.w3.org/1999/02/22-rdf-syntax-ns#" xmlns:g="http://www.metadataworkinggroup.com/schemas/regions/" '
    'xmlns:a="http://ns.adobe.com/xmp/sType/Area#" xmlns:d="http://ns.adobe.com/xap/1.0/sType/Dimensions#">'
    '<g:Regions><g:AppliedToDimensions d:w="32" d:h="32"/><g:RegionList><r:Bag><r:li g:Type="Face">'
    '<g:Area a:x="0.5" a:y="0.5" a:w="0.25" a:h="0.25"/></r:li></r:Bag></g:RegionList></g:Regions></x>'
)
SUBJECT = SubjectSettings(photos=Path("photos"), class_word="dog")


@dataclass(frozen=True)
class Reader:
    """A file to damage, and what reads it."""

    path: Path
    read: Callable[[], Any]
    is_exact: bool = False
    """Whether a damaged file must be refused or give the very content that was written."""


def make_readers(folder: Path) -> dict[str, Reader]:
    """Sound files below `folder`, and their readers by name."""
    return {
        **_run_files(folder / "run"),
        **_models(folder / "models"),
        **_caches(folder / "caches"),
        **_texts(folder / "texts"),
        **{name: Reader(path, read) for name, (path, read) in web_files(folder / "web").items()},
    }


def _written(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def _run_files(folder: Path) -> dict[str, Reader]:
    run = RunFolder(folder)
    events = _written(run.events, "".join(json.dumps(event) + "\n" for event in EVENTS))
    settings = parse_settings(
        TrainSettings, {"base": {"model": "toybox"}, "subject": {"photos": "x", "class_word": "dog"}}, where=""
    )
    config = _written(run.config, json.dumps(settings.model_dump(mode="json"), indent=1))
    status = {
        "state": "running",
        "host": "here",
        "process": 1,
        "process_started": 1.0,
        "started": 2.0,
        "ended": None,
        "reason": "",
    }
    checkpoint = _checkpoint(run)
    return {
        "events": Reader(events, lambda: (read_progress(run), run_curves(folder, step=1))),
        "run's config.yaml": Reader(config, lambda: parse_settings(TrainSettings, read_yaml(config), where="x")),
        "status.json": Reader(_written(run.status, json.dumps(status)), partial(read_status, run)),
        "asked.json": Reader(
            _written(folder / "asked.json", '{"model": "a", "n": {"b": 3}}'),
            partial(read_remembered, folder / "asked.json", hint="h"),
        ),
        "state.json": Reader(checkpoint / "state.json", lambda: find_checkpoints(run), is_exact=True),
        "checkpoint's weights": Reader(
            checkpoint / "weights.safetensors",
            lambda: [damage(one) is None for one in find_checkpoints(run)] == [True],
            is_exact=True,
        ),
    }


def _checkpoint(run: RunFolder) -> Path:
    from dreambooth.runtime.tensor_files import write_tensors
    from dreambooth.training import checkpoints

    folder = run.checkpoint_at(3)
    folder.mkdir(parents=True)
    files = {"weights.safetensors": write_tensors(folder / "weights.safetensors", WEIGHTS)}
    values = {
        "format": 2,
        "step": 3,
        "loss_scale": {},
        "is_scheduled": True,
        "made_of": {"base model": "ab"},
        "settings": {},
        "files": files,
    }
    (folder / "state.json").write_text(json.dumps({**values, "digest": checkpoints._digest_of(values)}))
    return folder


def _models(folder: Path) -> dict[str, Reader]:
    from dreambooth.weights.write import write_single_file
    from tests.random_weights import random_model
    from tests.unit.weights.conftest import TINY

    folder.mkdir(parents=True)
    torch.save({"state_dict": OrderedDict(WEIGHTS), "global_step": 3, "callbacks": {("a", 1): [1, {2}]}}, folder / "zip.ckpt")
    torch.save({"state_dict": WEIGHTS}, folder / "legacy.ckpt", _use_new_zipfile_serialization=False)
    save_file(WEIGHTS, folder / "a.safetensors", {"dreambooth.subjects": "[]", "modelspec.resolution": "512x512"})
    table = nn.ParameterDict({"*": nn.Parameter(torch.ones(2, 3))})
    torch.save({"string_to_token": {"*": 265}, "string_to_param": table, "name": "rex"}, folder / "word.pt")
    save_file({"emb_params": torch.ones(2, 3)}, folder / "word.safetensors", {WORD: "rex"})
    write_single_file(
        folder / "whole.safetensors", random_model(TINY, seed=0), dtype=torch.float16, metadata={"global_step": "3"}
    )
    return {
        "zip .ckpt": Reader(folder / "zip.ckpt", partial(open_tensor_file, folder / "zip.ckpt")),
        "legacy .ckpt": Reader(folder / "legacy.ckpt", partial(open_tensor_file, folder / "legacy.ckpt")),
        ".safetensors": Reader(folder / "a.safetensors", partial(open_tensor_file, folder / "a.safetensors")),
        "learned word's .pt": Reader(folder / "word.pt", partial(read_embedding_file, folder / "word.pt")),
        "learned word's .safetensors": Reader(
            folder / "word.safetensors", partial(read_embedding_file, folder / "word.safetensors")
        ),
        "whole model": Reader(folder / "whole.safetensors", lambda: read_model(str(folder / "whole.safetensors")).num_steps),
        "original YAML": Reader(
            _written(folder / "m.yaml", MINI_YAML.read_bytes()), lambda: config_beside((folder / "m.yaml").with_suffix(".ckpt"))
        ),
        "folder's JSON": Reader(
            _written(folder / "config.json", '{"sample_size": 64, "layers": [1, 2]}'),
            partial(read_json, folder / "config.json"),
        ),
        "preprocessor": Reader(
            _written(
                folder / PREPROCESSOR_FILE,
                '{"size": {"shortest_edge": 32}, "crop_size": 32, "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}',
            ),
            partial(read_preprocessing, folder),
        ),
    }


def _caches(folder: Path) -> dict[str, Reader]:
    latents, features = LatentCache(folder), FeatureCache(folder / "features")
    latents.put("aa", MOMENTS)
    features.put("bb", torch.arange(8.0))
    prior = PriorSet.open(folder, "dog", REQUEST)
    Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save(prior.path(0))
    prior.put_latent(0, torch.ones(4, 4, 4), picture=prior.path(0))

    def latent() -> Any:
        found = latents.get("aa")
        return None if found is None else (found.mean.tolist(), found.deviation.tolist())

    def made() -> Any:
        [image] = prior.images(1)
        found = prior.latent(image.photo)
        return None if found is None else found.x_0_CHW.tolist()

    return {
        "latent cache": Reader(folder / "aa.safetensors", latent, is_exact=True),
        "feature cache": Reader(
            folder / "features" / "bb.safetensors",
            lambda: None if (found := features.get("bb")) is None else found.tolist(),
            is_exact=True,
        ),
        "class latents": Reader(prior.path(0).with_suffix(".safetensors"), made, is_exact=True),
        "manifest.json": Reader(prior.folder / "manifest.json", lambda: (prompt_of_set(prior.folder), prior.missing(1))),
    }


def _texts(folder: Path) -> dict[str, Reader]:
    pixels = (np.arange(32 * 32 * 3) % 251).reshape(32, 32, 3).astype(np.uint8)
    folder.mkdir(parents=True)
    photos = {}
    for form in ("png", "jpg", "webp", "gif", "tiff", "bmp"):
        path = folder / f"photo.{form}"
        Image.fromarray(pixels).save(path, exif=Image.Exif())
        photos[f"photo as {form}"] = Reader(path, partial(read_pixels, path, background="white"))
    marked = folder / "marked.webp"
    Image.fromarray(pixels).save(marked, xmp=FACES.encode())
    zipped, tarred = (Path(shutil.make_archive(str(folder / "photos"), form, folder, "photo.png")) for form in ("zip", "gztar"))
    sidecar = _written(folder / "sidecar.json", '{"captions": ["a {token}", "{red|blue}"]}')
    table = _written(folder / "metadata.jsonl", '{"file_name": "0.png", "text": "a {token}"}\n' * 3)
    caption = _written(folder / "caption.txt", "photo of a {token} {class_word}, {{sleeping}}")
    prompts = _written(folder / "prompts.txt", "photo of a {token} {class_word}\na {token} hat\n")
    priors = _written(folder / "priors.txt", 'photo of a {class_word}\n""\n# note\n')
    later = {"schema": 1, "project_name": "a", "training_images_folder_path": "x", "token": "sks", "model_path": "toybox"}
    job = _written(folder / "job.json", json.dumps(later))
    for number in range(3):
        _written(folder / "set" / "dog" / f"{number}.png", (folder / "photo.png").read_bytes())
    dataset = _written(folder / "set" / "prompts_and_classes.txt", DATASET.read_bytes())
    return {
        **photos,
        "faces in a photo": Reader(marked, lambda: faces_in(marked.read_bytes(), Size.square(32))),
        "caption": Reader(caption, partial(read_captions, caption, role="instance")),
        "zip of photos": Reader(zipped, partial(unpack, zipped, folder / "unpacked")),
        "tar of photos": Reader(tarred, partial(unpack, tarred, folder / "unpacked")),
        "caption in JSON": Reader(sidecar, partial(read_captions, sidecar, role="instance")),
        "table of captions": Reader(table, partial(read_caption_table, table, role="instance")),
        "evaluation prompts": Reader(prompts, partial(read_subject_prompts, prompts, SUBJECT)),
        "class prompts": Reader(priors, lambda: class_prompts(replace_prior(priors))),
        "JSON of the second generation": Reader(
            job, lambda: later_job(read_arguments("main.py", "", FLAGS, ["--config_file_path", str(job)]), started="2024")
        ),
        "table of the DreamBooth dataset": Reader(dataset, partial(read_dataset, dataset.parent, ["dog"])),
    }


def replace_prior(prompts: Path) -> PriorSettings:
    return PriorSettings(prior_prompts=str(prompts))
