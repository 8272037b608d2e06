"""Summaries of captions by a frozen text model, each computed once in a run.

A corpus has a few captions a clip, and every epoch meets them again: with the backbone's features
cached too, the contrastive objective alone then trains in milliseconds a clip.
"""

import torch
from torch import Tensor

from mulap.model.modeling import MulapModel

MOST_CAPTIONS = 250_000  # 384 MB at 384 numbers each; the captions beyond are computed each time


class TextSummaries:
    """What `MulapModel.summarize_text` gives of captions, by their token ids."""

    def __init__(self) -> None:
        self._known: dict[bytes, Tensor] = {}

    @torch.no_grad()
    def add_to(self, batch: dict[str, Tensor], model: MulapModel) -> dict[str, Tensor]:
        """Return a batch with `text_summary` (C, Dt) in place of `whole_input_ids`.

        Args:
            batch: as the collator gives it, on the model's device.
            model: whose text model is frozen and in evaluation mode.
        """
        batch = dict(batch)
        ids = batch.pop("whole_input_ids", batch["input_ids"])
        mask = batch["attention_mask"]
        lengths = mask.sum(dim=1).tolist()
        keys = [row[:n].tobytes() for row, n in zip(ids.cpu().numpy(), lengths, strict=True)]
        places = {key: row for row, key in enumerate(keys) if key not in self._known}
        found = {key: self._known[key] for key in keys if key not in places}
        if places:
            rows = torch.tensor(list(places.values()), device=ids.device)
            states = model.encode_text(ids[rows], mask[rows])
            found |= zip(places, model.summarize_text(states, mask[rows]), strict=True)
        if len(self._known) + len(places) <= MOST_CAPTIONS:
            self._known |= {key: found[key] for key in places}
        batch["text_summary"] = torch.stack([found[key] for key in keys])
        return batch
