"""What a cell is: a name, the programs, the numbers that each program gives, and how they are measured."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Number:
    """One measured number. `goal`: our ratio to the best peer, at least (`higher` is better) or at most."""

    name: str
    unit: str
    higher: bool = True
    goal: float | None = None
    digits: int = 0

    def better(self, a, b):
        return a > b if self.higher else a < b

    def met(self, ratio):
        """Whether the ratio reaches the goal; None without a goal."""
        if self.goal is None or ratio is None:
            return None
        return ratio >= self.goal if self.higher else ratio <= self.goal


@dataclasses.dataclass
class Outcome:
    """What one program gave in one run of a cell. `doubts`: why its numbers must not be compared; `remarks`: what else
    is to be known about them."""

    numbers: dict = dataclasses.field(default_factory=dict)
    doubts: list = dataclasses.field(default_factory=list)
    remarks: list = dataclasses.field(default_factory=list)


class Cell:
    """Subclasses say what is measured. measure() is called once for each run and program, in random order."""

    def __init__(self, name, programs, numbers):
        self.name = name
        self.programs = programs
        self.numbers = numbers

    def measure(self, site, program, folder):
        """One Outcome. May raise programs.Unusable."""
        raise NotImplementedError
