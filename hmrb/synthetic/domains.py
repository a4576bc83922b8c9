"""The synthetic domains: what sets one collection of photos apart from another, as numbers."""

from dataclasses import dataclass

from hmrb.synthetic import actions
from hmrb.synthetic.places import ANYWHERE, Surroundings

Range = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Photography:
    """What a photo loses: `gain` multiplies its light, `noise` is the standard deviation added to 0..1 colours.

    `motion` is the length of the motion blur in shares of the picture's side. All three are ranges.
    """

    gain: Range = (1.0, 1.0)
    noise: Range = (0.0, 0.0)
    motion: Range = (0.0, 0.0)


CLEAR = Photography()


@dataclass(frozen=True, slots=True, kw_only=True)
class Domain:
    """How photos of a domain are made, in metres, degrees and shares of the picture's side.

    `groups` are groups of key poses; a pose is a blend within one, and `noise` is added to it. `subjects` and `places`
    are how many there are in train; val and test have others, a quarter as many each, but at least two. A subject is a
    shape with a look, a place is a background with a light. `yaw` is the standard deviation from facing the camera.
    `size` is the longer side of the people's tight box; `tilt` mean and standard deviation of the camera's downward
    tilt. `centred` is False where people stand anywhere in the picture's lower half. `upper` is the share of photos
    that show a person from the head down to somewhere, `cut` of those cut off anywhere, `hidden` of those with an
    occluder. `people` are in each photo, all of them labelled, who `crowd` in the space of that many metres. `seats`
    are under those who sit as in the first group. `dressed` people wear hair and clothes with shapes of their own.
    `side` is the picture's, in pixels.
    """

    title: str
    groups: tuple[tuple[str, ...], ...]
    noise: Range = (0.4, 1.0)
    subjects: int
    places: int
    yaw: float = 80.0  # people face a camera more often than not
    size: Range = (0.66, 0.80)
    distance: Range = (2.8, 8.0)
    tilt: Range = (5.0, 8.0)
    centred: bool = True
    upper: float = 0.0
    cut: float = 0.0
    hidden: float = 0.0
    people: int = 1
    crowd: float = 0.0
    seats: bool = False
    dressed: bool = False
    setting: Surroundings = ANYWHERE
    photography: Photography = CLEAR
    side: int = 96

    def num(self, count: int, split: str) -> int:
        """How many subjects or places a split has, of those that train has `count` of."""
        return count if split == "train" else max(count // 4, 2)


# Numbers are chosen by eye on contact sheets, so that each domain differs from the others in what its name says.
DOMAINS: dict[str, Domain] = {
    "studio": Domain(
        title="Few people in few bare rooms, scripted actions, fixed lights",
        groups=(actions.SCRIPTED,),
        subjects=8,
        places=4,
        size=(0.62, 0.74),
        distance=(4.0, 6.0),
        setting=Surroundings(walls=1.0, bare=True),
    ),
    "street": Domain(
        title="Passers-by outdoors, far away, some behind pillars, bushes and boxes",
        groups=(actions.UPRIGHT,),
        subjects=800,
        places=400,
        distance=(5.0, 15.0),
        tilt=(3.0, 5.0),
        hidden=0.25,
        setting=Surroundings(walls=0.25, paved=True),
    ),
    "crowd": Domain(
        title="Four people in each photo who overlap",
        groups=(actions.UPRIGHT,),
        subjects=800,
        places=300,
        yaw=70.0,
        size=(0.84, 0.94),
        distance=(4.0, 9.0),
        tilt=(9.0, 6.0),
        people=4,
        crowd=0.9,
        setting=Surroundings(walls=0.4),
        side=128,
    ),
    "seated": Domain(
        title="People who sit on seats and on the floor, and who lie",
        groups=(
            actions.ON_SEATS,
            actions.ON_SEATS,
            actions.ON_FLOOR,
            actions.LYING,
            actions.LYING_FRONT,
            actions.LYING_SIDE,
        ),
        noise=(0.3, 0.8),
        subjects=400,
        places=200,
        distance=(2.5, 5.0),
        tilt=(20.0, 9.0),
        seats=True,
        setting=Surroundings(walls=0.9),
    ),
    "sport": Domain(
        title="Wide, fast and upside-down poses",
        groups=(actions.ATHLETIC, actions.ATHLETIC, actions.ATHLETIC, actions.ATHLETIC, actions.UPSIDE_DOWN),
        noise=(0.6, 1.6),
        subjects=400,
        places=200,
        distance=(4.0, 10.0),
        setting=Surroundings(walls=0.5),
        photography=Photography(motion=(0.0, 0.02)),
    ),
    "closeup": Domain(
        title="Close-ups: from the head down to the knees, the hips or the chest, or cut off anywhere",
        groups=(actions.UPRIGHT, actions.ON_SEATS),
        subjects=800,
        places=400,
        yaw=50.0,
        distance=(1.3, 2.6),
        upper=0.75,
        cut=0.25,
        setting=Surroundings(walls=0.7),
    ),
    "lowlight": Domain(
        title="Dark, noisy and moved photos",
        groups=(actions.UPRIGHT, actions.ATHLETIC),
        subjects=400,
        places=200,
        hidden=0.1,
        setting=Surroundings(walls=0.7),
        photography=Photography(gain=(0.22, 0.50), noise=(0.015, 0.04), motion=(0.0, 0.06)),
    ),
    "wide": Domain(
        title="A wide-angle camera near people, who stand off the centre",
        groups=(actions.UPRIGHT, actions.SCRIPTED),
        subjects=400,
        places=200,
        size=(0.45, 0.80),
        distance=(0.9, 1.5),
        tilt=(12.0, 14.0),
        centred=False,
        setting=Surroundings(walls=0.7),
    ),
    "lifelike": Domain(
        title="People with loose clothes and full hair in photographed places, whole, half-length or behind things",
        groups=(actions.ON_SEATS, actions.UPRIGHT, actions.UPRIGHT, actions.SCRIPTED, actions.ATHLETIC),
        noise=(0.5, 1.3),
        subjects=6000,
        places=6000,
        yaw=75.0,
        distance=(2.0, 9.0),
        tilt=(5.0, 9.0),
        upper=0.35,
        cut=0.1,
        hidden=0.15,
        seats=True,
        dressed=True,
        setting=Surroundings(walls=0.5, photographed=0.8),
    ),
}
