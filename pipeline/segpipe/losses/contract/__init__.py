"""What every loss promises, as checks that run on any loss: `segpipe losses check`."""

from segpipe.losses.contract.base import PROMISES, Finding, Subject, check_loss, subject_of
from segpipe.losses.contract.promises import case, one_hot
from segpipe.losses.contract.slow import SLOW

__all__ = ["PROMISES", "SLOW", "Finding", "Subject", "case", "check_loss", "one_hot", "subject_of"]
