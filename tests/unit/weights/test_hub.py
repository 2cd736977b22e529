"""What is asked of the hub, and what its refusals are turned into. No network: its functions are replaced."""

from __future__ import annotations

from fnmatch import fnmatch
from types import SimpleNamespace

import huggingface_hub
import pytest
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
)

from dreambooth.errors import ModelFileError
from dreambooth.weights.hub import fetch, fetch_encoder

TEXTS = [
    *("model_index.json", "unet/config.json", "vae/config.json", "text_encoder/config.json", "scheduler/scheduler_config.json"),
    *("tokenizer/vocab.json", "tokenizer/merges.txt"),
]
UNWANTED = [
    *("README.md", ".gitattributes", "v1-inference.yaml", "v1-5-pruned.ckpt", "v1-5-pruned-emaonly.safetensors"),
    *("safety_checker/config.json", "safety_checker/model.safetensors", "feature_extractor/preprocessor_config.json"),
    *("unet/diffusion_pytorch_model.non_ema.safetensors", "unet/diffusion_flax_model.msgpack", "vae/tests/config.json"),
]
PARTS = {"unet": "diffusion_pytorch_model", "vae": "diffusion_pytorch_model", "text_encoder": "model"}


def weights(ending: str) -> list[str]:
    bin_text_encoder = {"text_encoder": "pytorch_model"} if ending.endswith("bin") else {}
    return [f"{part}/{stem}.{ending}" for part, stem in {**PARTS, **bin_text_encoder}.items()]


class Hub:
    """Stands for huggingface_hub: one repository, or an error; remembers what was asked."""

    def __init__(self, monkeypatch, tmp_path, names=(), *, info_error=None, download_error=None, cached=None):
        self.names, self.info_error, self.download_error, self.cached = names, info_error, download_error, cached
        self.folder, self.patterns = tmp_path, None
        monkeypatch.setattr(huggingface_hub, "model_info", self.model_info)
        monkeypatch.setattr(huggingface_hub, "snapshot_download", self.snapshot_download)

    def model_info(self, hub_id, *, timeout, files_metadata):
        assert 0 < timeout <= 60
        assert files_metadata, "they hold the sizes"
        if self.info_error is not None:
            raise self.info_error
        return SimpleNamespace(siblings=[SimpleNamespace(rfilename=name, size=1_500_000_000) for name in self.names])

    def snapshot_download(self, hub_id, *, allow_patterns=None, local_files_only=False, **_):
        if local_files_only:
            assert allow_patterns == [], "or the hub's library asks for files that nobody wanted"
            if self.cached is None:
                raise LocalEntryNotFoundError("nothing cached")
            return str(self.cached)
        if self.download_error is not None:
            raise self.download_error
        self.patterns = allow_patterns
        return str(self.folder)

    @property
    def downloaded(self) -> list[str]:
        return [name for name in self.names if any(fnmatch(name, pattern) for pattern in self.patterns)]


def test_a_download_says_what_it_is_and_how_large_unless_all_is_there(monkeypatch, tmp_path, capsys):
    Hub(monkeypatch, tmp_path, ["a.ckpt", "README.md"])
    there = set()
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda _, name, **__: "/a/path" if name in there else None)
    fetch("rex/dog")
    assert capsys.readouterr().err.startswith("Downloading rex/dog from the Hugging Face hub: 1 file, 1.50 GB, to /")
    there.add("a.ckpt")
    fetch("rex/dog")
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("offered", "taken"),
    [
        (["safetensors", "bin", "fp16.safetensors", "fp16.bin"], "safetensors"),
        (["bin", "fp16.safetensors", "fp16.bin"], "bin"),
        (["fp16.bin", "fp16.safetensors"], "fp16.safetensors"),
        (["fp16.bin"], "fp16.bin"),
        (["bf16.safetensors", "fp16.bin"], "fp16.bin"),
        (["bf16.bin", "bf16.safetensors"], "bf16.safetensors"),
    ],
)
def test_of_a_folder_one_form_of_the_weights_is_taken(monkeypatch, tmp_path, offered, taken):
    names = [*TEXTS, *UNWANTED, *(name for ending in offered for name in weights(ending))]
    hub = Hub(monkeypatch, tmp_path, names)
    assert fetch("owner/name") == tmp_path
    assert sorted(hub.downloaded) == sorted([*TEXTS, *weights(taken)])


def test_each_part_may_have_another_form(monkeypatch, tmp_path):
    files = [
        "unet/diffusion_pytorch_model.fp16.safetensors",
        "vae/diffusion_pytorch_model.bin",
        "text_encoder/model.safetensors",
    ]
    hub = Hub(monkeypatch, tmp_path, [*TEXTS, *files])
    fetch("owner/name")
    assert set(files) <= set(hub.downloaded)


def test_shards_come_with_their_index(monkeypatch, tmp_path):
    shards = [f"unet/diffusion_pytorch_model-0000{k}-of-00002.safetensors" for k in (1, 2)]
    index = "unet/diffusion_pytorch_model.safetensors.index.json"
    others = ["unet/diffusion_pytorch_model.bin.index.json", "unet/diffusion_pytorch_model.bin"]
    rest = [name for name in weights("safetensors") if not name.startswith("unet/")]
    hub = Hub(monkeypatch, tmp_path, [*TEXTS, *shards, index, *others, *rest])
    fetch("owner/name")
    assert {name for name in hub.downloaded if name.startswith("unet/")} == {"unet/config.json", *shards, index}


@pytest.mark.parametrize(
    ("names", "taken"),
    [
        (["README.md", "sd-v1-4.ckpt"], "sd-v1-4.ckpt"),
        (["a.ckpt", "b.ckpt", "model.safetensors"], "model.safetensors"),
        (["model [pruned].ckpt", "model p.png"], "model [pruned].ckpt"),
        (["model.safetensors", "loras/x.safetensors"], "model.safetensors"),
    ],
)
def test_a_single_checkpoint_is_taken_as_a_file(monkeypatch, tmp_path, names, taken):
    hub = Hub(monkeypatch, tmp_path, names)
    assert fetch("owner/name") == tmp_path / taken
    assert hub.downloaded == [taken]


@pytest.mark.parametrize(
    ("names", "messages"),
    [
        (
            ["sd-v1-4.ckpt", "sd-v1-4-full-ema.ckpt"],
            [
                "contains 2 checkpoints: sd-v1-4.ckpt, sd-v1-4-full-ema.ckpt",
                "`hf download owner/name sd-v1-4.ckpt --local-dir .`",
            ],
        ),
        (["README.md"], ["neither a diffusers folder nor a .safetensors or .ckpt file; it contains README.md"]),
        ([], ["it contains nothing"]),
        ([*TEXTS, *weights("safetensors"), "text_encoder_3/model.safetensors"], ["a later model family (SD3, FLUX"]),
        ([*TEXTS, *weights("msgpack")], ["no PyTorch weights in its folder 'unet'", "folder 'vae'", "folder 'text_encoder'"]),
    ],
)
def test_what_cannot_be_used_is_not_downloaded(monkeypatch, tmp_path, names, messages):
    hub = Hub(monkeypatch, tmp_path, names)
    with pytest.raises(ModelFileError) as caught:
        fetch("owner/name")
    assert all(message in caught.value.text for message in messages)
    assert hub.patterns is None


def http_error(kind, status):
    request = SimpleNamespace(url="https://huggingface.co/api/models/owner/name")
    return kind("refused", response=SimpleNamespace(status_code=status, headers={}, request=request))


REFUSALS = [
    (
        http_error(GatedRepoError, 403),
        ["requires a login and acceptance", "Accept the terms on https://huggingface.co/owner/name", "`hf auth login`"],
    ),
    (
        http_error(RepositoryNotFoundError, 404),
        ["neither an existing file or folder nor a public model on the hub", "Check the spelling"],
    ),
    (http_error(HfHubHTTPError, 401), ["rejected the login (status 401)", "`hf auth login`"]),
    (http_error(HfHubHTTPError, 503), ["answered with status 503", "Try again later"]),
]
NO_ANSWER = [
    (HFValidationError("bad"), ["neither an existing file or folder nor a hub id", "owner/name"]),
    (
        OfflineModeIsEnabled("off"),
        ["disabled by HF_HUB_OFFLINE", "Unset HF_HUB_OFFLINE", "give its file or folder instead"],
    ),
    (ConnectionError("no route"), ["could not be downloaded", "no earlier download (ConnectionError: no route)", "connection"]),
]


@pytest.mark.parametrize(("error", "messages"), [*REFUSALS, *NO_ANSWER])
def test_refusals_say_what_to_do_next(monkeypatch, tmp_path, error, messages):
    Hub(monkeypatch, tmp_path, info_error=error)
    with pytest.raises(ModelFileError) as caught:
        fetch("owner/name")
    assert all(message in caught.value.text for message in messages), caught.value.text
    assert caught.value.__cause__ is error


@pytest.mark.parametrize(("error", "messages"), REFUSALS)
def test_refusals_of_the_download_itself(monkeypatch, tmp_path, error, messages):
    Hub(monkeypatch, tmp_path, ["a.ckpt"], download_error=error)  # a gated repository may be listed by everybody
    with pytest.raises(ModelFileError) as caught:
        fetch("owner/name")
    assert all(message in caught.value.text for message in [*messages, "give its file or folder instead"]), caught.value.text
    assert caught.value.__cause__ is error


def test_a_download_that_breaks_off(monkeypatch, tmp_path):
    Hub(monkeypatch, tmp_path, ["a.ckpt"], download_error=OSError(28, "No space left on device"))
    with pytest.raises(ModelFileError, match=r"the download was interrupted .*No space left on device") as caught:
        fetch("owner/name")
    assert "to continue the download" in caught.value.text


def test_offline_an_earlier_download_is_used(monkeypatch, tmp_path):
    for name in [*TEXTS, *weights("safetensors")]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    Hub(monkeypatch, tmp_path, info_error=ConnectionError("no route"), cached=tmp_path)
    assert fetch("owner/name") == tmp_path


def test_offline_an_earlier_single_file_is_used(monkeypatch, tmp_path):
    (tmp_path / "sd-v1-4.ckpt").touch()
    Hub(monkeypatch, tmp_path, info_error=ConnectionError("no route"), cached=tmp_path)
    assert fetch("owner/name") == tmp_path / "sd-v1-4.ckpt"


def test_offline_an_earlier_download_may_be_incomplete(monkeypatch, tmp_path):
    (tmp_path / "model_index.json").touch()
    Hub(monkeypatch, tmp_path, info_error=ConnectionError("no route"), cached=tmp_path)
    with pytest.raises(ModelFileError) as caught:
        fetch("owner/name")
    assert f"the earlier download in {tmp_path} is incomplete" in caught.value.text
    assert "no PyTorch weights in its folder 'unet'" in caught.value.text


ENCODER = ["config.json", "preprocessor_config.json"]
AROUND = ["README.md", "vocab.json", "flax_model.msgpack", "tf_model.h5", "onnx/model.onnx", "model.fp16.safetensors"]


@pytest.mark.parametrize(
    ("weights", "taken"),
    [
        (["pytorch_model.bin", "model.safetensors"], "model.safetensors"),
        (["pytorch_model.bin"], "pytorch_model.bin"),
    ],
)
def test_of_an_encoder_only_what_is_read_is_taken(monkeypatch, tmp_path, weights, taken):
    hub = Hub(monkeypatch, tmp_path, [*ENCODER, *AROUND, *weights])
    assert fetch_encoder("owner/name") == tmp_path
    assert sorted(hub.downloaded) == sorted([*ENCODER, taken])


def test_what_is_no_encoder_is_not_downloaded(monkeypatch, tmp_path):
    hub = Hub(monkeypatch, tmp_path, [*TEXTS, "preprocessor_config.json"])
    with pytest.raises(ModelFileError) as caught:
        fetch_encoder("owner/name")
    assert "it has no config.json, no model.safetensors or pytorch_model.bin" in caught.value.text
    assert "facebook/dino-vits16" in caught.value.text
    assert hub.patterns is None


def test_offline_an_earlier_encoder_is_used(monkeypatch, tmp_path):
    for name in [*ENCODER, "model.safetensors"]:
        (tmp_path / name).touch()
    Hub(monkeypatch, tmp_path, info_error=ConnectionError("no route"), cached=tmp_path)
    assert fetch_encoder("owner/name") == tmp_path
    (tmp_path / "config.json").unlink()
    with pytest.raises(ModelFileError, match=r"it has no config\.json"):
        fetch_encoder("owner/name")


@pytest.mark.parametrize(("error", "messages"), [*REFUSALS, *NO_ANSWER])
def test_refusals_of_an_encoder_say_what_to_do_next(monkeypatch, tmp_path, error, messages):
    Hub(monkeypatch, tmp_path, info_error=error)
    with pytest.raises(ModelFileError) as caught:
        fetch_encoder("owner/name")
    assert all(message in caught.value.text for message in messages), caught.value.text
