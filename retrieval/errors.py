"""Everything that can go wrong and is not a bug.

Fc7Error
├── ImageError        a file that gives no picture; costs itself, never the run
├── DecoderError      no process that decodes photos can be started
├── WeightsError      weights that are missing, damaged, or made for another network
├── DeviceError       a device that was asked for and is not there; a wrong mix of libraries
├── SearchError       a file of descriptors or codes that is missing, damaged or doesn't fit
├── CodesError        a coder that is missing or damaged, or too few photos to learn one from
├── EvaluationError   ground truth that can't be read or has nothing to measure
├── BenchError        a bench that can't be run here
├── PlanError         a plan that can't be made, or rates that can't be read
├── DistillError      distillation that can't start or go on
├── TrainingError     a training run, or its list of photos, that can't start or go on
├── EngineError       an engine that spans machines, or a store, that is missing or can't be reached
├── ShardsError       shards that are missing, damaged, or of other photos or another model
├── BackupError       a backup that can't be made, or is damaged, or of another program
└── LibraryError      a library that is missing, newer, or of another model
    ├── LibraryBusyError  another run is writing into it
    └── NewerLibraryError  a newer fc7 has made it

Each message is one line: what, which, and what to do next. Only `ui` catches them.
"""

from __future__ import annotations


class Fc7Error(Exception):
    """The root: its message is meant to be shown as it is."""


class ImageError(Fc7Error):
    """A file gives no picture.

    reason: a short phrase, the same for the same cause, so that summaries can count it.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class DecoderError(Fc7Error):
    """No process that decodes photos can be started: the trouble is the machine's, not a file's."""


class WeightsError(Fc7Error):
    """Weights are missing, damaged, or don't fit the network."""


class DeviceError(Fc7Error):
    """The device that was asked for is not there, or its libraries contradict each other."""


class SearchError(Fc7Error):
    """A file of descriptors or codes is missing, damaged or doesn't fit; or nothing is asked."""


class CodesError(Fc7Error):
    """A coder is missing or damaged, or can't be learned."""


class EvaluationError(Fc7Error):
    """The ground truth can't be read, or holds nothing to measure."""


class BenchError(Fc7Error):
    """A bench can't be run here: too little room, or nothing to run it on."""


class PlanError(Fc7Error):
    """What is to be planned can't be, or the rates it shall stand on can't be read."""


class DistillError(Fc7Error):
    """Distillation can't start or go on."""


class TrainingError(Fc7Error):
    """A training run, or its list of photos, can't start or go on."""


class EngineError(Fc7Error):
    """An engine that spans machines is not installed, can't be reached, or fails."""


class ShardsError(Fc7Error):
    """The shards of a run are missing, damaged, or of other photos or another model."""


class BackupError(Fc7Error):
    """A backup can't be made or restored: the file is damaged, none of ours, or of a newer fc7."""


class LibraryError(Fc7Error):
    """The library is missing, newer than this program, or of another model."""


class NewerLibraryError(LibraryError):
    """A newer fc7 has made the library: this one can't say anything of it."""


class LibraryBusyError(LibraryError):
    """Another run is writing into the library: it can be waited for."""
