"""What data sets in users' own folders share, pictures or recordings: classes that fit, parts that are drawn once."""

from __future__ import annotations

from pytorch_lightning.utilities import rank_zero_only

from spikefront.data.base import ImageData
from spikefront.data.own.folder import Asked, Parted, open_folder, parted, say
from spikefront.data.own.split import Shares
from spikefront.errors import UserError


class FolderSet(ImageData):
    """A data set that lies in a user's own folder; what is in it decides its classes and, the first time, its parts."""

    own = True
    asked: Asked
    test_fraction: float
    _parted: Parted | None = None

    def lies_in(self, asked: Asked, test_fraction: float) -> None:
        """Where it is; ``test_fraction`` of all samples is its test part where the folder names none.

        Raises:
            UserError: no such share.
        """
        if not 0 <= test_fraction < 1:
            raise UserError(f"data.test_fraction is {test_fraction}: use a share of all samples, 0 to below 1")
        self.asked, self.test_fraction = asked, test_fraction

    def check(self) -> None:
        found, _ = open_folder(self.asked)
        if len(found.classes) != self.num_classes:
            raise UserError(
                f"{self.asked.place} has {len(found.classes)} classes, and data.num_classes is {self.num_classes}:"
                " leave that out, or take a network of as many"
            )

    def parted(self) -> Parted:
        """The folder's samples and their parts, drawn the first time."""
        if self._parted is None:
            self.check()
            self._parted = parted(self.asked, Shares(self.test_fraction, self.val_fraction, self.seed))
            self.classes = self._parted.found.classes
            rank_zero_only(say)([*self._parted.lines, *self.remarks(self._parted)])
        return self._parted

    def remarks(self, whole: Parted) -> list[str]:
        """Lines to say of these samples beside how many there are."""
        return []
