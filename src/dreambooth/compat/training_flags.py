"""The options of `main.py`, of both generations of the original program, each with the sentence that its help shows.

The first generation (XavierXiao's, and JoePenna's until February 2023) takes YAML files and dotted overrides, the second
(JoePenna's since then) takes everything as options or one JSON file.
"""

from __future__ import annotations

from dataclasses import replace

from dreambooth.compat.arguments import Flag

__all__ = ["EARLIER_ONLY", "FLAGS", "LATER_ONLY"]

_BOTH = (
    Flag(("-s", "--seed"), "Number from which all randomness follows; 23."),
    Flag(("-r", "--resume"), "A log folder, or a checkpoint in it, to go on with."),
    Flag(("-d", "--debug"), "End a mistake in a traceback.", bare="true"),
    Flag(("--token",), "The rare word that names the subject; captions then come from the names of files and folders."),
    Flag(("--token_only",), "The token alone names the subject: no class word, no class images.", bare="true"),
    Flag(("--class_word",), "What kind of thing the subject is; dog with --data_root."),
    Flag(("--max_training_steps",), "How many steps are trained."),
    Flag(("--flip_p",), "How often a photo is mirrored; 0.5. Use 0 for faces."),
    Flag(("--original-pairing",), "Pair photos with class images as the original did.", bare="true", takes_value=False),
)

_EARLIER = (
    Flag(("-t", "--train"), "Train; without it nothing is done.", bare="true"),
    Flag(("-b", "--base"), "YAML files in the original language; later ones override earlier ones.", takes_many=True),
    Flag(("-n", "--name"), "What the log folder's name ends in."),
    Flag(("-f", "--postfix"), "Added to the log folder's name."),
    Flag(("-l", "--logdir"), "Where log folders are made; logs."),
    Flag(("--datadir_in_name",), "Begin the log folder's name with that of the photos' folder; true.", bare="true"),
    Flag(("--actual_resume",), "The base model: a .ckpt, or anything else that `dreambooth train --model` takes."),
    Flag(("--data_root",), "Folder with the photos of the subject."),
    Flag(("--reg_data_root",), "Folder with class images; the base model makes them when not given."),
    Flag(("--gpus",), "GPUs by number, such as 0, or 0,1; several share each step."),
    Flag(("--max_steps",), "How many steps are trained."),
    Flag(("--accumulate_grad_batches",), "Forward passes whose gradients make one step."),
    Flag(("--scale_lr",), "True multiplies the learning rate by GPUs, batch size and accumulation.", bare="false"),
    Flag(("--no-test",), "There is no test stage that could fail, so this changes nothing.", bare="true"),
    Flag(("-p", "--project"), "Had no effect and has none."),
    Flag(("--embedding_manager_ckpt",), "Had no effect and has none."),
    Flag(("--init_word",), "Had no effect and has none."),
    Flag(("--init_words",), "Had no effect and has none."),
)

_LATER = (
    Flag(("--config_file_path",), "A JSON file of schema 1, instead of all other options."),
    Flag(("--project_name",), "Name of the run."),
    Flag(("--training_model",), "The base model: a .ckpt, or anything else that `dreambooth train --model` takes."),
    Flag(("--training_images",), "Folder with the photos of the subject."),
    Flag(("--regularization_images",), "Folder with class images; none are used when not given."),
    Flag(("--learning_rate",), "Learning rate; 1e-6."),
    Flag(("--save_every_x_steps",), "A model is written every so many steps; 0 writes only the last one."),
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
