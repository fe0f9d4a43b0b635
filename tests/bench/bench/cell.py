"""What a cell is: a name, the programs, the numbers that each program gives, and how they are measured."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Number:
    """One measured number. `goal`: our ratio to the best peer, or to the program named in `against`, at least (`higher`
    is better) or at most. `own_goal`: the same for the number itself, whatever others do."""

    name: str
    unit: str
    higher: bool = True
    goal: float | None = None
    against: str | None = None
    own_goal: float | None = None
    digits: int = 0

    def better(self, a, b):
        return a > b if self.higher else a < b

    @property
    def has_goal(self):
        return self.goal is not None or self.own_goal is not None

    def met(self, value, ratio):
        """Whether the goal is reached; None without a goal or without what it is about."""
        reached, wanted = (value, self.own_goal) if self.own_goal is not None else (ratio, self.goal)
        if wanted is None or reached is None:
            return None
        return reached >= wanted if self.higher else reached <= wanted

    @property
    def goal_text(self):
        sign = ">=" if self.higher else "<="
        if self.own_goal is not None:
            return f"{sign} {self.own_goal:g}"
        return f"{sign} {self.goal:g}x{f' of {self.against}' if self.against else ''}" if self.goal is not None else ""


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
