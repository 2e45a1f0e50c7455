"""What a figure shows of a posterior, kept on disk so that a resumed benchmark can draw it."""

import hashlib
import json
from pathlib import Path

import torch
from torch import Tensor

from bayes1bit.bench.runs import Key
from bayes1bit.files import complete_or_absent
from bayes1bit.posterior import Posterior


class ShownPictures:
    """Mean, standard deviation and one sample of posteriors, in half precision.

    Args:
        folder: Folder of the files, one for each run; it need not exist.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def save(self, key: Key, posterior: Posterior) -> None:
        """Keep what is shown of a run; the deviation only if there is more than one sample."""
        from safetensors.torch import save_file

        shown = {"mean": posterior.mean, "sample": posterior.equally_weighted().samples[0]}
        if posterior.num_samples > 1:
            shown["std"] = posterior.std
        halves = {name: x.detach().to("cpu", torch.float16) for name, x in shown.items()}
        halves = {name: x.contiguous() for name, x in halves.items()}
        with complete_or_absent(self._path(key)) as temporary:
            save_file(halves, temporary, metadata={"run": json.dumps(key)})

    def load(self, key: Key) -> dict[str, Tensor]:
        """What is shown of a run by name, float32; empty if it was not kept."""
        from safetensors.torch import load_file

        path = self._path(key)
        if not path.exists():
            return {}
        return {name: x.float() for name, x in load_file(path).items()}

    def _path(self, key: Key) -> Path:
        # names of methods can be longer than names of files
        digest = hashlib.sha256(json.dumps(key).encode()).hexdigest()[:20]
        return self.folder / f"{digest}.safetensors"
