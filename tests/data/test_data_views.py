"""Views: a function of (seed, sample, pass), drawn fairly, and nothing else is touched."""

import random

import numpy as np
import pytest
import torch

from limbeck.data import ImageViews, TensorViews
from limbeck.data.keyed import draw, keyed, reseed, restored, uniform
from limbeck.errors import InputError


def numbers(*given: int) -> np.ndarray:
    return np.array(given, dtype=np.int64)


def marked(count: int, side: int = 8) -> torch.Tensor:
    """Images whose pixels are all different and not zero, so that a view tells its shift and mirroring."""
    return (torch.arange(1, side * side + 1, dtype=torch.uint8).reshape(1, 1, side, side)).repeat(
        count, 2, 1, 1
    )


def shift_of(view: torch.Tensor, image: torch.Tensor, pad: int) -> tuple[int, int, bool]:
    """Slow reference: which window of the zero-padded image this is, tried one by one."""
    side = image.shape[-1]
    padded = torch.nn.functional.pad(image.float() / 255, (pad, pad, pad, pad))
    for top in range(2 * pad + 1):
        for left in range(2 * pad + 1):
            window = padded[:, top : top + side, left : left + side]
            for mirrored in (False, True):
                if torch.equal(view, window.flip(-1) if mirrored else window):
                    return top, left, mirrored
    raise AssertionError("no window of the padded image")


def test_every_view_is_a_window_of_the_padded_image_perhaps_mirrored() -> None:
    images = marked(300)
    views = TensorViews(crop=2)(images, np.arange(300), 0, seed=0)
    found = [shift_of(view, image, 2) for view, image in zip(views, images, strict=True)]
    tops, lefts, mirrors = (np.array(column) for column in zip(*found, strict=True))
    # 300 draws: 60 a place with a standard deviation of 7, 150 mirrored with one of 9.
    for places in (tops, lefts):
        assert np.bincount(places, minlength=5).min() > 30
    assert 105 < mirrors.sum() < 195
    # The three draws know nothing of each other.
    assert np.abs(np.corrcoef([tops, lefts, mirrors.astype(int)]) - np.eye(3)).max() < 0.2


def test_a_view_does_not_depend_on_the_rest_of_the_batch() -> None:
    images = torch.randint(
        0, 256, (20, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    make = TensorViews(crop=3)
    together = make(images, np.arange(20), 5, seed=1)
    for number in (0, 7, 19):
        alone = make(images[number : number + 1], numbers(number), 5, seed=1)
        assert torch.equal(alone[0], together[number])


def test_views_differ_by_pass_and_by_seed() -> None:
    images, make = marked(50), TensorViews(crop=2)
    first = make(images, np.arange(50), 0, seed=0)
    assert not torch.equal(first, make(images, np.arange(50), 1, seed=0))
    assert not torch.equal(first, make(images, np.arange(50), 0, seed=1))


@pytest.mark.parametrize("views", [TensorViews(), TensorViews(crop=0), TensorViews(crop=0, flip=False)])
def test_images_and_global_generators_stay_as_they_are(views: TensorViews) -> None:
    images = marked(10)
    before = images.clone()
    torch.manual_seed(0)
    np.random.seed(0)
    views(images, np.arange(10), 0, seed=0)
    assert torch.equal(images, before)
    drawn = torch.rand(1), np.random.rand()
    torch.manual_seed(0)
    np.random.seed(0)
    assert drawn == (torch.rand(1), np.random.rand())


def test_bytes_become_shares_and_floats_are_kept() -> None:
    images = marked(2)
    plain = TensorViews(crop=0, flip=False)
    assert torch.equal(plain(images, np.arange(2), 0, seed=0), images.float() / 255)
    floats = torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    assert torch.equal(plain(floats, np.arange(2), 0, seed=0), floats)


def test_draw_stays_the_same_in_later_versions() -> None:
    assert [int(word) for word in draw(3, numbers(0, 1, 10**12), 2, stream=1)] == [
        3326745967520307576,
        5178615787972168708,
        1458022823603796268,
    ]


def test_draw_is_uniform_bit_by_bit() -> None:
    drawn = draw(0, np.arange(20_000), 0)
    assert len(np.unique(drawn)) == 20_000
    ones = np.array([((drawn >> np.uint64(bit)) & np.uint64(1)).mean() for bit in range(64)])
    assert np.abs(ones - 0.5).max() < 0.02  # standard deviation .0035


def test_keyed_seeds_all_three_generators_and_restores_them() -> None:
    def drawn() -> tuple[float, float, float]:
        return random.random(), float(np.random.rand()), float(torch.rand(1))

    random.seed(5)
    np.random.seed(5)
    torch.manual_seed(5)
    plain = [drawn(), drawn()]
    random.seed(5)
    np.random.seed(5)
    torch.manual_seed(5)
    first = drawn()
    with keyed(1, 2, 3):
        inside = drawn()
    assert [first, drawn()] == plain
    with keyed(1, 2, 3):
        assert drawn() == inside
    for other in ((0, 2, 3), (1, 0, 3), (1, 2, 0)):
        with keyed(*other):
            assert all(a != b for a, b in zip(drawn(), inside, strict=True))


def test_many_samples_are_seeded_as_each_by_itself() -> None:
    def drawn() -> tuple[float, float, float]:
        return random.random(), float(np.random.rand()), float(torch.rand(1))

    each = []
    for number in range(5):
        with keyed(4, number, 2):
            each.append(drawn())
    torch.manual_seed(0)
    before = torch.default_generator.get_state()
    with restored():
        for number, word in enumerate(draw(4, np.arange(5), 2).tolist()):
            reseed(word)
            assert drawn() == each[number]
    assert torch.equal(torch.default_generator.get_state(), before)


def test_uniform_numbers_are_never_one_of_the_ends() -> None:
    ends = uniform(np.array([0, 2**64 - 1], dtype=np.uint64))
    assert 0 < ends[0] < 1e-15
    assert 1 - 1e-15 < ends[1] < 1


def test_views_of_each_sample_are_those_that_one_for_all_gives() -> None:
    index = np.arange(30)
    views = index % 4 - 1
    drawn = draw(9, index, views, 5)
    for number in range(30):
        assert drawn[number] == draw(9, index[number : number + 1], int(views[number]), 5)[0]


def test_keyed_restores_after_an_error() -> None:
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    with pytest.raises(KeyError), keyed(0, 0, 0):
        raise KeyError
    assert torch.rand(1) == expected


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"crops": 4}, r'data\.views: unknown key "crops"\. Did you mean "crop"\?'),
        ({"crop": -1}, r"data\.views\.crop: must be a whole number from 0 up, got -1"),
        ({"crop": True}, r"data\.views\.crop"),
        ({"flip": "yes"}, r"data\.views\.flip: must be true or false, got 'yes'"),
    ],
)
def test_bad_options_of_tensor_views_are_named(given: dict, said: str) -> None:
    with pytest.raises(InputError, match=said):
        TensorViews.make(given)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"crop": 4}, r'unknown key "crop"'),
        ({"size": 0}, r"data\.views\.size"),
        ({"scale": [0, 1]}, r"data\.views\.scale.*got \[0, 1\]"),
        ({"scale": 0.5}, r"data\.views\.scale"),
        ({"scale": ["a", 1]}, r"data\.views\.scale"),
        ({"resize": 100}, r"data\.views\.resize: must be a whole number from 224 up"),
    ],
)
def test_bad_options_of_image_views_are_named(given: dict, said: str) -> None:
    with pytest.raises(InputError, match=said):
        ImageViews.make(given)


def test_given_options_come_before_the_usual_ones() -> None:
    assert TensorViews.make({"crop": 1}, {"crop": 2, "flip": False}) == TensorViews(crop=1, flip=False)
