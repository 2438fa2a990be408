"""benchmarks/bench.py: what it compares is what it says, and its numbers are what was measured."""

from __future__ import annotations

import json
import re
import sys
from collections import Counter
from types import SimpleNamespace

import pytest
from PIL import Image
from runs import run_script

import mlp_dense.backbones
from benchmarks import op_case, run, timing
from benchmarks.backbone_case import BackboneCase
from benchmarks.bench import main
from benchmarks.cases import FLOOR, ORIGINAL, PROJECT, How
from benchmarks.growth import growth
from benchmarks.op_case import OpCase
from families import FAMILIES

FAST = ('--repeats', '3', '--min-time', '0')
PEERS = ('pvt_v2_b0', 'deit_tiny_patch16_224')  # the second is built for one image size
OP = ('op', '--channels', '7', '--height', '9', '--width', '10', '--batch', '2')


@pytest.fixture(scope='module')
def tiny():
    """Every family has an arch called tiny."""
    with pytest.MonkeyPatch.context() as patch:
        for family in FAMILIES:
            patch.setitem(getattr(mlp_dense.backbones, family.type).archs, 'tiny', family.tiny)
        yield


@pytest.fixture
def untimed(monkeypatch):
    def refuse(*_):
        raise AssertionError('timed')

    monkeypatch.setattr(run, 'interleave', refuse)


# Times and memory.


class Fake:
    """A step that notes its calls."""

    how = How()

    def __init__(self, name, calls, clock, seconds):
        self.name, self.calls, self.clock, self.seconds = name, calls, clock, seconds

    def __call__(self):
        self.calls.append(self.name)
        self.clock.now += self.seconds


def test_rounds_are_interleaved_and_short_steps_are_repeated(monkeypatch):
    calls, clock = [], SimpleNamespace(now=0.0)
    monkeypatch.setattr(timing.time, 'perf_counter', lambda: clock.now)
    steps = {name: Fake(name, calls, clock, seconds) for name, seconds in {'a': 1.0, 'b': 3.0, 'c': 0.25}.items()}
    seconds = timing.interleave(steps, range(8), min_seconds=1.0)
    assert seconds == {'a': [1.0] * 8, 'b': [3.0] * 8, 'c': [0.25] * 8}
    assert calls[:6] == ['a', 'a', 'b', 'b', 'c', 'c']  # before the first round
    rounds = [calls[start : start + 6] for start in range(6, len(calls), 6)]
    assert all(Counter(one) == {'a': 1, 'b': 1, 'c': 4} for one in rounds)
    assert len(rounds) == 8 and len({tuple(one) for one in rounds}) > 2


def test_a_training_step_reaches_every_parameter_and_keeps_nothing(tiny, monkeypatch):
    family = FAMILIES[0]
    case = BackboneCase(family.type, family.tiny, 1, 64, 64, {})
    for name in (PROJECT, ORIGINAL, FLOOR):
        step = timing.Step(case, name, How(train=True), {})
        with monkeypatch.context() as patch:
            patch.setattr(step, 'clear', lambda: None)
            step()
        assert all(one.grad.isfinite().all() and one.grad.any() for one in step.module.parameters())
        step()
        assert all(one.grad is None for one in step.module.parameters())


def test_numbers_are_quotients_of_medians():
    case = OpCase(4, 5, 6, 3)
    seconds = {PROJECT: [1.0, 2.0, 9.0], ORIGINAL: [8.0, 4.0, 2.0], FLOOR: [0.5, 1.0, 3.0]}
    row = run.describe(case, case.gmacs(), seconds, {PROJECT: 10, ORIGINAL: 40, FLOOR: 5})['contestants'][PROJECT]
    assert row['seconds'] == {'median': 2.0, 'quartiles': [1.5, 5.5], 'all': seconds[PROJECT]}
    assert row['images_per_second'] == 3 / 2
    assert row['gmacs_per_second'] == pytest.approx(3 / 2 * 4 * 4 * 5 * 6 / 1e9)
    assert row['speedup_over_original'] == {'value': 2.0, 'quartiles': pytest.approx([(2 + 2 / 9) / 2, 5.0])}
    assert row['time_over_floor'] == {'value': 2.0, 'quartiles': [2.0, 2.5]}
    assert (row['memory_bytes'], row['memory_over_original'], row['memory_over_floor']) == (10, 0.25, 2.0)


def test_growth_is_fitted_over_pixels():
    sides = (256, 512, 1024)

    def cases(power, wide=()):
        sizes = [*((side, side) for side in sides), *wide]
        rows = [{'x': {'seconds': {'median': 2e-9 * (h * w) ** power}}} for h, w in sizes]
        about = [{'settings': {'height': h, 'width': w}} for h, w in sizes]
        return [one | {'contestants': row} for one, row in zip(about, rows, strict=True)]

    linear = growth(cases(1.0, wide=[(512, 700)]), sides)['x']
    assert linear['sides'] == list(sides)
    assert linear['exponent'] == pytest.approx(1)
    assert linear['linear'] == {'sides': [512, 1024], 'excess': pytest.approx(0, abs=1e-9)}
    square = growth(cases(2.0), sides)['x']
    assert square['exponent'] == pytest.approx(2)
    assert square['linear']['excess'] == pytest.approx(3)  # 16 times the time for 4 times the pixels
    assert growth(cases(2.0), (256, 512))['x']['linear'] == {'sides': [256, 512], 'excess': pytest.approx(3)}


# The tool.


@pytest.fixture(scope='module')
def backbone_run(tiny, tmp_path_factory):
    """A run with all that there is: document, picture, and what was printed."""
    folder = tmp_path_factory.mktemp('benchmark')
    args = ['backbone', 'CycleMLP', 'tiny', '--size', '64', '96', '--batch', '2', '--train', '--memory', *FAST]
    args += ['--peers', *PEERS, '--sides', '64', '32', '--plot', folder / 'time.png', '--json', folder / 'all.json']
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('COLUMNS', '200')
        assert main([str(arg) for arg in args]) == 0
    return json.loads((folder / 'all.json').read_text()), folder / 'time.png'


def test_the_document_is_complete_and_consistent(backbone_run):
    document, _ = backbone_run
    assert document['mode'] == 'backbone' and document['model'] == 'CycleMLP-tiny'
    assert document['how']['train'] and document['how']['dtype'] == 'fp32'
    assert [one['label'] for one in document['cases']] == ['2 x 3 x 64 x 96', '2 x 3 x 32 x 32', '2 x 3 x 64 x 64']
    for case in document['cases']:
        rows = case['contestants']
        assert list(rows) == [PROJECT, ORIGINAL, FLOOR, *PEERS] and case['left_out'] == {}
        assert case['errors']['outputs'] < 1e-5 and case['errors']['gradients'] < 1e-4
        for row in rows.values():
            median = row['seconds']['median']
            assert len(row['seconds']['all']) == 3 and sorted(row['seconds']['all'])[1] == median
            assert row['images_per_second'] == pytest.approx(2 / median)
            assert row['gmacs_per_second'] == pytest.approx(2 * row['gmacs'] / median)
            of_original, of_floor = (rows[name]['seconds']['median'] for name in (ORIGINAL, FLOOR))
            assert row['speedup_over_original']['value'] == pytest.approx(of_original / median)
            assert row['time_over_floor']['value'] == pytest.approx(median / of_floor)
        assert rows[PROJECT]['gmacs'] == rows[ORIGINAL]['gmacs'] == rows[FLOOR]['gmacs'] > 0
    first, *others = ([row.get('memory_bytes') for row in case['contestants'].values()] for case in document['cases'])
    assert min(first) > 0 and {size for one in others for size in one} == {None}


def test_growth_is_in_the_document_and_drawn(backbone_run):
    document, picture = backbone_run
    medians = {one['label']: one['contestants'][PROJECT]['seconds']['median'] for one in document['cases']}
    grown = document['growth'][PROJECT]
    assert grown['sides'] == [32, 64]
    assert grown['seconds'] == [medians['2 x 3 x 32 x 32'], medians['2 x 3 x 64 x 64']]
    assert list(document['growth']) == [PROJECT, ORIGINAL, FLOOR, *PEERS]
    with Image.open(picture) as image:
        assert image.format == 'PNG' and image.width > 1000
        assert len(image.convert('RGB').getcolors(1 << 20)) > 20


def test_off_its_size_a_grid_tied_family_has_no_original(tiny, capsys, tmp_path, monkeypatch):
    monkeypatch.setenv('COLUMNS', '200')
    file = tmp_path / 'all.json'
    args = ['backbone', 'RaftMLP', 'tiny', '--size', '80', '--options', 'img_size=64', '--peers', '--json', str(file)]
    assert main([*args, *FAST]) == 0
    (case,) = json.loads(file.read_text())['cases']
    assert list(case['contestants']) == [PROJECT, FLOOR]
    assert 'speedup_over_original' not in case['contestants'][PROJECT] and case['errors'] == {}
    assert 'original is left out: it takes 64 x 64 alone' in capsys.readouterr().out


@pytest.mark.parametrize('family', [one for one in FAMILIES if one.type != 'CycleMLP'], ids=lambda one: one.type)
def test_every_family_runs_at_its_size_and_in_low_precision(family, tiny, capsys):
    args = ['backbone', family.type, 'tiny', '--size', '64', '--options', 'img_size=64', '--peers', *FAST]
    assert main([*args, '--train', '--dtype', 'bf16', '--channels-last']) == 0
    assert 'outputs of the original in bf16' in ' '.join(capsys.readouterr().out.split())
    assert main([*args, '--fuse']) == 0
    assert 'outputs of the fused model' in ' '.join(capsys.readouterr().out.split())


def test_the_four_stages_are_one_run(monkeypatch, capsys):
    monkeypatch.setattr('benchmarks.options.B2_STAGES', ((8, 16, 16), (16, 8, 8)))
    assert main(['op', '--stages', '--batch', '3', *FAST]) == 0
    out = capsys.readouterr().out
    assert out.index('3 x 8 channels x 16 x 16') < out.index('3 x 16 channels x 8 x 8')


@pytest.mark.slow
def test_the_command_prints_a_table(tmp_path):
    file = tmp_path / 'all.json'
    done = run_script(
        sys.executable,
        '-m',
        'benchmarks.bench',
        *OP,
        *FAST,
        '--kernel-size',
        '3',
        '1',
        '--threads',
        '1',
        '--json',
        file,
    )
    assert done.code == 0, done.tail
    rows = json.loads(file.read_text())['cases'][0]['contestants']
    lines = [line for line in done.output.splitlines() if any(name in line.split()[1:2] for name in rows)]
    assert len(lines) == 3
    for line, row in zip(lines, rows.values(), strict=True):
        assert f'{row["time_over_floor"]["value"]:.2f} (' in line


def one_error(capsys, told=''):
    """The one line of an error."""
    (line,) = [one for one in capsys.readouterr().err.splitlines() if one.startswith('error: ')]
    assert told in line
    return line


@pytest.mark.parametrize(
    ('args', 'told'),
    [
        (['backbone', 'CycleMLP', 'b9'], 'CycleMLP has no arch b9; it has b1, b2'),
        (['backbone', 'CycleMLP', 'b1', '--size', '31'], '--size 31: give numbers from 32'),
        (['backbone', 'CycleMLP', 'b1', '--size', '64', '64', '64'], 'give height and width'),
        (['backbone', 'CycleMLP', 'b1', '--sides', '64', '0'], '--sides 64 0: give numbers from 32'),
        (['backbone', 'CycleMLP', 'b1', '--peers', 'swin_huge'], '--peers swin_huge: timm'),
        (['backbone', 'CycleMLP', 'b1', '--options', 'depth=3'], "--options: .*'depth'"),
        (['backbone', 'RaftMLP', 's', '--options', 'token_grid=cut'], "--options: token_grid must be one of .*'cut'"),
        (['backbone', 'CycleMLP', 'b1', '--plot', 'time.txt'], r'--plot time.txt: no picture format; .*\.png'),
        (['backbone', 'CycleMLP', 'b1', '--train', '--fuse'], '--fuse: a fused model cannot be trained'),
        (['backbone', 'CycleMLP', 'b1', '--backend', 'triton'], '--backend triton: it needs a GPU'),
        (['backbone', 'RaftMLP', 's', '--backend', 'triton'], '--backend triton: RaftMLP has no such kernel'),
        (['op', '--json', 'nowhere/all.json'], 'nowhere/all.json cannot be written'),
        (['op', '--batch', '0'], '--batch 0: give numbers from 1'),
        (['op', '--repeats', '1'], '--repeats 1: give 2 rounds or more'),
        (['op', '--min-time', '-1'], '--min-time -1.0'),
        (['op', '--device', 'cuda:77'], '--device cuda:77: PyTorch sees'),
        (['op', '--device', 'tpu9000'], "--device tpu9000: give 'cpu'"),
        (['op', '--device', 'meta'], "--device meta: give 'cpu'"),
        (['op', '--kernel-size', '2', '2'], r'kernel_size must be .* got \(2, 2\)'),
    ],
    ids=lambda value: ' '.join(value[1:]) if isinstance(value, list) else '',
)
def test_what_the_user_can_mend_is_one_line(args, told, untimed, capsys):
    assert main(args) == 2
    line = one_error(capsys)
    assert re.search(told, line), line


def test_a_backend_that_cannot_run_is_told(monkeypatch, untimed, capsys):
    def refuse(*_):
        raise RuntimeError("backend 'triton' cannot run here: no GPU")

    monkeypatch.setattr(op_case, 'cycle_fc', refuse)
    assert main([*OP, '--backend', 'triton']) == 2
    assert "backend 'triton' cannot run here: no GPU" in one_error(capsys)
