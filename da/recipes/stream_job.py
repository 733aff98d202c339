"""The work of a cell of a table of named streams: answer a stream, and count what was right."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any, NamedTuple

import torch
from torch import Tensor

from da.data.streams import NamedStream
from da.model.adapting_online import by_batch
from da.model.alarm import ConcentrationAlarm
from da.networks.network import Network
from da.records.run import Run

Answers = Callable[[Iterable[Tensor]], Iterator[Tensor]]
SMOKE_BATCHES = 2


class StreamJob(NamedTuple):
    """Answer a named stream and record the accuracy, and what the alarm would have said.

    Beside the accuracy a run records as facts, in points of the whole stream's accuracy:

        reference_accuracy_percent   of `by_batch`, which learns nothing
        lost_points                  how far the answers are below it at the end; negative: above
        most_lost_points             the most that it ever was, in the course of the stream
        alarm_row                    the row with which `ConcentrationAlarm` rings; -1: never
        lost_points_at_alarm         what was lost by then; if it is silent, at the end

    Attributes:
        answers: Batches (b, ...) -> logits (b, K) of each. It is called anew, and begins from the
            source network, wherever the stream says that a new domain begins.
        stream: The stream.
        network: The source network, for the reference.
    """

    answers: Answers
    stream: NamedStream
    network: Network

    def carry_out(self, run: Run, flags: Any, fabric: object) -> None:
        """Answer the stream and record the run; a smoke test has two batches."""
        batches = islice(self.stream, SMOKE_BATCHES) if flags.smoke_test else self.stream
        result = self.result([(batch.x, batch.reset) for batch in batches])
        run.rewind(0)
        last = result["selected"]["last"]
        run.log(last["step"], {"target_accuracy": last["target_accuracy"]})
        run.finish(result)

    def result(self, batches: list[tuple[Tensor, bool]]) -> dict[str, Any]:
        """What a run records of these batches, each with whether a new domain begins."""
        parts = _parts(batches)
        own = [torch.cat(list(self.answers(part))) for part in parts]
        reference = [torch.cat(list(by_batch(self.network, part))) for part in parts]
        labels = self.stream.labels[: sum(map(len, own))]
        right = torch.cat(own).argmax(1) == labels  # (n,)
        known = torch.cat(reference).argmax(1) == labels
        lost = 100 * (known.long() - right.long()).cumsum(0) / len(labels)  # (n,) points
        row = _alarm_row(own, reference)
        facts = {
            "reference_accuracy_percent": 100 * known.double().mean().item(),
            "lost_points": lost[-1].item(),
            "most_lost_points": lost.max().item(),
            "alarm_row": float(row),
            "lost_points_at_alarm": lost[row].item(),
        }
        accuracy = right.double().mean().item()
        selected = {"last": {"step": len(batches), "target_accuracy": accuracy}}
        return {"selected": selected, "facts": facts}


def _parts(batches: list[tuple[Tensor, bool]]) -> list[list[Tensor]]:
    """The batches between the beginnings that the stream says."""
    parts: list[list[Tensor]] = []
    for x, reset in batches:
        if reset or not parts:
            parts.append([])
        parts[-1].append(x)
    return parts


def _alarm_row(own: list[Tensor], reference: list[Tensor]) -> int:
    """The row with which an alarm first rings, one for each part of the stream; -1: none does."""
    before = 0
    for answers, others in zip(own, reference, strict=True):
        alarm = ConcentrationAlarm(answers.shape[1])
        for i in range(len(answers)):
            if alarm.update(answers[i : i + 1], others[i : i + 1]):
                return before + i
        before += len(answers)
    return -1
