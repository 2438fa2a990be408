"""tools/model_stats.py --plan against plans made by hand."""

from __future__ import annotations

import pytest
from runs import ROOT, run_tool, small_config

from mlp_dense.engine.config import load_config
from mlp_dense.errors import UserError
from mlp_dense.stats.plan import Recipe, plan, recipe_of


def config(name):
    return load_config(str(ROOT / f'configs/{name}.py'))


@pytest.mark.parametrize(
    ('name', 'recipe'),
    [
        ('upernet_cyclemlp_b2_ade20k', Recipe(16, 2, 160_000, 6e-5)),
        ('mask_rcnn_cyclemlp_b2_coco', Recipe(16, 2, 12 * 7330, 1e-4)),  # 117,266 images / 16, the last batch not full
        ('classify_cyclemlp_b2_imagenet', Recipe(1024, 128, 300 * 1252, 1e-3)),
    ],
)
def test_the_recipes_of_the_papers(name, recipe):
    assert recipe_of(config(name)) == recipe


def test_an_epoch_of_own_data_is_asked_for():
    cfg = load_config(str(small_config('retinanet')))
    with pytest.raises(UserError, match='--images'):
        recipe_of(cfg)
    assert recipe_of(cfg, images=80).iterations == 300


def test_every_row_sees_as_many_images_as_the_recipe():
    recipe = Recipe(16, 2, 160_000, 6e-5)
    rows = {row.count: row for row in plan(recipe, parameters=0, seconds=0.5)}
    assert [(row.count, row.batch, row.accumulated) for row in rows.values()] == [
        (1, 2, 8), (2, 2, 4), (4, 2, 2), (8, 2, 1), (16, 1, 1), (32, 1, 1), (64, 1, 1),
    ]  # fmt: skip
    assert {row.iterations * row.total for row in rows.values()} == {16 * 160_000}
    assert rows[64].rate == pytest.approx(4 * 6e-5)
    assert rows[1].seconds == (4.0, 4.0)  # eight steps
    assert rows[1].hours == pytest.approx((160_000 * 4 / 3600,) * 2)
    assert rows[16].seconds == (0.25, 0.5)  # half the images


def test_gradients_are_exchanged_at_the_rate_of_the_slowest_link():
    rows = plan(Recipe(16, 2, 1000, 1e-4), parameters=75_000_000, seconds=0.0, counts=(1, 2, 8, 16))
    seconds = [row.seconds[0] for row in rows]
    assert seconds == pytest.approx([0, 300e6 / 150e9, 2 * 7 / 8 * 300e6 / 150e9, 2 * 15 / 16 * 300e6 / 12.5e9])


def test_the_tool_prints_a_row_for_every_number_of_gpus():
    done = run_tool('model_stats', ROOT / 'configs/upernet_cyclemlp_b1_ade20k.py', '--plan', '0.3')
    assert done.code == 0, done.tail
    assert '| 64 | 1 | 1 | 64 | 0.00024 | 40000 | ' in done.output
    done = run_tool('model_stats', small_config('classify'), '--plan', '0.3')
    assert 'train_dataloader.dataset: how many images an epoch has is not known here' in done.error
