"""The options of `main.py` in both generations of the original program, with their help texts.

The first generation (XavierXiao's, and JoePenna's until February 2023) takes YAML files and dotted overrides; the second
(JoePenna's since then) takes options or one JSON file.
"""

from __future__ import annotations

from dataclasses import replace

from dreambooth.compat.arguments import Flag

__all__ = ["EARLIER_ONLY", "FLAGS", "LATER_ONLY"]

_BOTH = (
    Flag(("-s", "--seed"), "Random seed. Default: 23."),
    Flag(("-r", "--resume"), "Resume the run in this log folder; a model file in it works too."),
    Flag(("-d", "--debug"), "Show a traceback on errors.", bare="true"),
    Flag(("--token",), "The rare word that names the subject; captions are then taken from file and folder names."),
    Flag(("--token_only",), "The token alone names the subject: no class word, no class images.", bare="true"),
    Flag(("--class_word",), "The kind of thing the subject is. Default with --data_root: dog."),
    Flag(("--max_training_steps",), "Number of training steps."),
    Flag(("--flip_p",), "Probability of mirroring a photo. Default: 0.5. Use 0 for faces."),
    Flag(("--original-pairing",), "Pair photos with class images as the original did.", bare="true", takes_value=False),
)

_EARLIER = (
    Flag(("-t", "--train"), "Train; without it nothing happens.", bare="true"),
    Flag(("-b", "--base"), "YAML files of the original program; later ones override earlier ones.", takes_many=True),
    Flag(("-n", "--name"), "Suffix of the log folder's name."),
    Flag(("-f", "--postfix"), "A further suffix of the log folder's name."),
    Flag(("-l", "--logdir"), "Folder for the log folders. Default: logs."),
    Flag(
        ("--datadir_in_name",), "Start the log folder's name with the name of the photos' folder. Default: true.", bare="true"
    ),
    Flag(("--actual_resume",), "The base model: a .ckpt file, or anything else that `dreambooth train --model` accepts."),
    Flag(("--data_root",), "Folder with the photos of the subject."),
    Flag(("--reg_data_root",), "Folder with class images. If omitted, the base model makes them."),
    Flag(("--gpus",), "GPU numbers, such as 0 or 0,1; several GPUs share each step."),
    Flag(("--max_steps",), "Number of training steps."),
    Flag(("--accumulate_grad_batches",), "Number of batches whose gradients are accumulated for one step."),
    Flag(
        ("--scale_lr",),
        "True: multiply the learning rate by the number of GPUs, the batch size and the accumulation.",
        bare="false",
    ),
    Flag(("--no-test",), "Ignored; there is no test stage.", bare="true"),
    Flag(("-p", "--project"), "Ignored; it had no effect in the original either."),
    Flag(("--embedding_manager_ckpt",), "Ignored; it had no effect in the original either."),
    Flag(("--init_word",), "Ignored; it had no effect in the original either."),
    Flag(("--init_words",), "Ignored; it had no effect in the original either."),
)

_LATER = (
    Flag(("--config_file_path",), "A JSON file of schema 1 that replaces all other options."),
    Flag(("--project_name",), "Name of the run."),
    Flag(("--training_model",), "The base model: a .ckpt file, or anything else that `dreambooth train --model` accepts."),
    Flag(("--training_images",), "Folder with the photos of the subject."),
    Flag(("--regularization_images",), "Folder with class images. If omitted, none are used."),
    Flag(("--learning_rate",), "Learning rate. Default: 1e-6."),
    Flag(("--save_every_x_steps",), "Write a model every N steps; 0: only the final one."),
    Flag(("--gpu",), "Number of the GPU."),
)

_GENERATIONS = {
    "options of both programs": _BOTH,
    "options of the first program (XavierXiao, JoePenna until 2023); YAML keys may be set as KEY=VALUE": _EARLIER,
    "options of the second program (JoePenna since 2023)": _LATER,
}

FLAGS = tuple(replace(flag, group=heading) for heading, flags in _GENERATIONS.items() for flag in flags)
EARLIER_ONLY = frozenset(flag.name for flag in _EARLIER)
LATER_ONLY = frozenset(flag.name for flag in _LATER)
