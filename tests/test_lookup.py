import pytest

from hmrb.data.augment import AUGMENTS
from hmrb.errors import RequestError
from hmrb.lookup import bind, find


def test_a_wrong_name_brings_the_nearest_and_the_known() -> None:
    with pytest.raises(RequestError) as error:
        find("augmentation", "flipp", AUGMENTS)
    known = ", ".join(sorted(AUGMENTS))
    assert str(error.value) == f"no augmentation named 'flipp'. Did you mean 'flip'? Known: {known}."


def test_dashes_and_underscores_are_the_same() -> None:
    assert find("augmentation", "channel-noise", AUGMENTS) is AUGMENTS["channel_noise"]


def test_a_wrong_argument_brings_those_it_takes() -> None:
    with pytest.raises(RequestError) as error:
        bind("augmentation", AUGMENTS["flip"], {"prob": 0.5})
    assert str(error.value) == "augmentation 'flip' has no argument 'prob'; it takes p=0.5"


def test_a_wrong_value_brings_the_reason() -> None:
    with pytest.raises(RequestError, match=r"augmentation 'flip': p=2: Input should be less than or equal to 1"):
        bind("augmentation", AUGMENTS["flip"], {"p": 2})


@pytest.mark.parametrize("args", [{"p": True}, {"sigma_px": [True, 2]}])
def test_true_is_no_number(args: dict[str, object]) -> None:
    with pytest.raises(RequestError, match="must be a number, not true or false"):
        bind("augmentation", AUGMENTS["blur"], args)
